"""Replays: a scenario's program on live devices beside an interleaved resident run of the same shape.

Clocks drift with load and temperature, so the policy's steps are compared with resident steps taken just before and
after them. The order is: resident, policy, resident, policy, ..., or with a second policy beside: resident, beside,
policy, resident, beside, policy, ... Warm-up (library handles, first launches) is not
timed; the policy's own first steps are.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any

from msgspec import Struct

from calibration.replays.parts import BlockPart, parts_of
from offsim.scenario.scenario import Scenario

from .executor import Executor
from .host_read import HostRead
from .session import Session, merged, step_seconds
from .state import SensorWatch, counted_energy, device_state

REPETITIONS = 2
RESIDENT_SECONDS = 2.0
"""How long a resident run lasts at least: the clock needs 0.1 s to settle, and a second later it dips once more."""
RESIDENT_STEPS = (6, 90)
TRACED_STEPS = 6
"""Steps of a policy whose commands are timed one by one; the last half counts."""


class Traced(Struct):
    """A run in which every command was timed."""

    parts: list[BlockPart]
    states: list[dict[str, float]]
    """State of each rank's device meanwhile: medians of the run's second half."""


class Measured(Struct):
    """The steps and the memory of one replayed case."""

    policy_steps: list[list[float]]
    """Steps of each repetition, on the slowest rank [s]."""
    resident_steps: list[list[float]]
    peak_allocated: int
    resident_peak_allocated: int
    state: dict[str, float]
    time: str
    policy_energy_J: list[float]  # noqa: N815
    """Joules drawn by the first rank's GPU in each run, the load phase included; empty without a counter."""
    resident_energy_J: list[float]  # noqa: N815
    host_read_Bps: list[float]  # noqa: N815
    """What all ranks read of host memory at once, before and after each repetition."""
    beside_steps: list[list[float]] = []
    """Steps of the second policy, if there is one [s]."""
    resident_traced: Traced | None = None
    policy_traced: Traced | None = None
    """The policy's run command by command, in further runs; None unless asked for."""


class Alternating:
    """A policy's run and the resident one, in turns, and a second policy's if there is one."""

    def __init__(self, session: Session, policy: Scenario, resident: Scenario, beside: Scenario | None = None) -> None:
        self.session = session
        session.device.pinned.reset()  # type: ignore[attr-defined]
        self.host_read = HostRead(session)
        self.resident = session.executor(resident)
        self.policy = session.executor(policy)
        self.beside = None if beside is None else session.executor(beside)
        self.resident_steps: list[int] = []

    def measure(self, repetitions: int = REPETITIONS, *, parts: bool = False) -> Measured:
        """Warm up, then alternate, and return the steps; with `parts`, time every command of both once more."""
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
        if parts:
            found.resident_traced = self._traced(self.resident, self.resident_steps, len(self.resident_steps) // 2)
            traced = steps_of(self.policy)[:TRACED_STEPS]
            found.policy_traced = self._traced(self.policy, range(traced[-1] + 1), len(traced) // 2 + 1)
            self.policy.memory.clear()
        self._release()
        return found

    def _load_resident(self) -> int:
        """Load the weights on the device and run one step; returns the peak of that."""
        level = self.session.begin_peak()
        first, second = steps_of(self.resident)[:2]
        timeline = merged(self.session, self.resident.run([*range(first), first, second]))
        last = step_seconds(self.resident, timeline, [*range(first), first, second])[-1]
        wanted = self.session.communicator.gathered(ceil(RESIDENT_SECONDS / last))[0]
        self.resident_steps = [second] * min(max(wanted, RESIDENT_STEPS[0]), RESIDENT_STEPS[1])
        return self.session.peak_since(level)

    def _warm_up(self) -> None:
        """Run each policy's program once, through its first step."""
        for executor in self._policies():
            executor.run(range(steps_of(executor)[0] + 1))
            executor.memory.clear()

    def _policies(self) -> list[Executor]:
        return [executor for executor in (self.beside, self.policy) if executor is not None]

    def _resident_steps(self) -> list[float]:
        chosen = self.resident_steps
        return step_seconds(self.resident, merged(self.session, self.resident.run(chosen)), chosen)

    def _steps(self, executor: Executor) -> tuple[list[float], int]:
        """Run a policy's whole program; returns its steps [s] and its peak [bytes]."""
        level = self.session.begin_peak()
        timeline = merged(self.session, executor.run())
        peak = max(self.session.communicator.gathered(self.session.peak_since(level)))
        executor.memory.clear()
        everything = list(range(len(executor.program.sections)))
        return step_seconds(executor, timeline, everything), peak

    def _traced(self, executor: Executor, sections: Sequence[int], last: int) -> Traced:
        """Run with spans; returns the parts of the last sections."""
        executor.spans = True
        watch = SensorWatch(self.session)
        watch.start()
        timeline = merged(self.session, executor.run(sections))
        executor.spans = False
        states = self.session.communicator.gathered(watch.finish())
        ends = sorted(window.compute_end for window in timeline.windows if window.rank == 0)
        return Traced(parts_of(timeline, ends[-last - 1]), states)

    def _release(self) -> None:
        self.resident.memory.clear()
        for executor in (self.resident, *self._policies()):
            executor.memory.host.clear()


def steps_of(executor: Executor) -> list[int]:
    """The sections that are denoising steps."""
    return executor.program.numbers_of()


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
