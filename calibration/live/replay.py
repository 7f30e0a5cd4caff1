"""Replays: a scenario's program on live devices beside an interleaved resident run of the same shape.

Clocks drift with load and temperature, so the policy's steps are compared with resident steps taken just before and
after them. The order is: resident, policy, resident, policy, ..., or with a second policy beside: resident, beside,
policy, resident, beside, policy, ... Warm-up (library handles, first launches) is not
timed; the policy's own first steps are.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import ceil
from typing import Any

import torch
from msgspec import Struct

from offsim.scenario.scenario import Scenario

from .executor import Executor
from .host_read import HostRead
from .session import Session, merged, step_seconds

REPETITIONS = 2
RESIDENT_SECONDS = 0.9
"""How long a resident run lasts at least: the clock needs 0.1 s to settle."""
RESIDENT_STEPS = (6, 40)


class Measured(Struct):
    """Steps and memory of one case."""

    policy_steps: list[list[float]]
    """Per repetition [s], slowest rank."""
    resident_steps: list[list[float]]
    peak_allocated: int
    resident_peak_allocated: int
    state: dict[str, float]
    time: str
    policy_energy_J: list[float]  # noqa: N815
    """Drawn by the first rank's GPU in each run, the load phase included; empty without a counter."""
    resident_energy_J: list[float]  # noqa: N815
    host_read_Bps: list[float]  # noqa: N815
    """What all ranks read of host memory at once, before and after each repetition."""
    beside_steps: list[list[float]] = []
    """Of the second policy, if there is one."""


class Alternating:
    """A policy's run and the resident one, in turns; and a second policy's, if there is one."""

    def __init__(self, session: Session, policy: Scenario, resident: Scenario, beside: Scenario | None = None) -> None:
        self.session = session
        session.device.pinned.reset()  # type: ignore[attr-defined]
        self.host_read = HostRead(session)
        self.resident = session.executor(resident)
        self.policy = session.executor(policy)
        self.beside = None if beside is None else session.executor(beside)
        self.resident_steps: list[int] = []

    def measure(self, repetitions: int = REPETITIONS) -> Measured:
        """Warm up, then alternate."""
        found = Measured([], [], 0, 0, {}, datetime.now(UTC).isoformat(timespec="seconds"), [], [], [])
        found.resident_peak_allocated = self._load_resident()
        self._warm_up()
        for _ in range(repetitions):
            found.host_read_Bps.append(self.host_read.measure())
            with counted_energy(self.session, found.resident_energy_J):
                found.resident_steps.append(self._resident_steps())
            if self.beside is not None:
                found.beside_steps.append(self._steps(self.beside)[0])
            with counted_energy(self.session, found.policy_energy_J):
                steps, peak = self._steps(self.policy)
            found.policy_steps.append(steps)
            found.host_read_Bps.append(self.host_read.measure())
            found.peak_allocated = max(found.peak_allocated, peak)
        found.state = device_state(self.session)
        self._release()
        return found

    def _load_resident(self) -> int:
        """Weights on the device, one step run; the peak of that."""
        level = self.session.begin_peak()
        first, second = steps_of(self.resident)[:2]
        timeline = merged(self.session, self.resident.run([*range(first), first, second]))
        last = step_seconds(self.resident, timeline, [*range(first), first, second])[-1]
        wanted = self.session.communicator.gathered(ceil(RESIDENT_SECONDS / last))[0]
        self.resident_steps = [second] * min(max(wanted, RESIDENT_STEPS[0]), RESIDENT_STEPS[1])
        return self.session.peak_since(level)

    def _warm_up(self) -> None:
        """Each policy's program once, through its first step."""
        for executor in self._policies():
            executor.run(range(steps_of(executor)[0] + 1))
            executor.memory.clear()

    def _policies(self) -> list[Executor]:
        return [executor for executor in (self.beside, self.policy) if executor is not None]

    def _resident_steps(self) -> list[float]:
        chosen = self.resident_steps
        return step_seconds(self.resident, merged(self.session, self.resident.run(chosen)), chosen)

    def _steps(self, executor: Executor) -> tuple[list[float], int]:
        """A policy's whole program: its steps, and its peak."""
        level = self.session.begin_peak()
        timeline = merged(self.session, executor.run())
        peak = max(self.session.communicator.gathered(self.session.peak_since(level)))
        executor.memory.clear()
        everything = list(range(len(executor.program.sections)))
        return step_seconds(executor, timeline, everything), peak

    def _release(self) -> None:
        self.resident.memory.clear()
        for executor in (self.resident, *self._policies()):
            executor.memory.host.clear()


def steps_of(executor: Executor) -> list[int]:
    """The sections that are denoising steps."""
    return [number for number, section in enumerate(executor.program.sections) if section.step is not None]


def device_state(session: Session) -> dict[str, float]:
    """Clock, power and temperature now, where the device tells."""
    if not session.on_gpu:
        return {}
    try:
        return {
            "sm_clock_MHz": float(torch.cuda.clock_rate()),
            "power_W": torch.cuda.power_draw() / 1e3,
            "temperature_C": float(torch.cuda.temperature()),
            **_energy(),
        }
    except (ModuleNotFoundError, RuntimeError) as error:
        print(f"no device state: {error}", file=sys.stderr)
        return {}


@contextmanager
def counted_energy(session: Session, found: list[float]) -> Iterator[None]:
    """Add what the device draws meanwhile, where it tells."""
    before = device_state(session).get("energy_J")
    yield
    after = device_state(session).get("energy_J")
    if before is not None and after is not None:
        found.append(after - before)


def _energy() -> dict[str, float]:
    """The energy counter of this process's device, where the driver has one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        return {"energy_J": pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid)) / 1e3}
    except pynvml.NVMLError as error:
        print(f"no energy counter: {error}", file=sys.stderr)
        return {}


def record_of(case: str, raw: dict[str, Any], measured: Measured, fingerprint: str, run: int) -> dict[str, Any]:
    """One line of a replay file."""
    turns = ["resident", "beside", "policy"] if measured.beside_steps else ["resident", "policy"]
    line = {
        "case": case,
        "scenario": raw,
        "policy_steps": measured.policy_steps,
        "resident_steps": measured.resident_steps,
        "peak_allocated": measured.peak_allocated,
        "resident_peak_allocated": measured.resident_peak_allocated,
        "policy_energy_J": measured.policy_energy_J,
        "resident_energy_J": measured.resident_energy_J,
        "host_read_Bps": measured.host_read_Bps,
        "order": turns * len(measured.policy_steps),
        "state": measured.state,
        "time": measured.time,
        "fingerprint": fingerprint,
        "run": run,
    }
    return line | ({"beside_steps": measured.beside_steps} if measured.beside_steps else {})
