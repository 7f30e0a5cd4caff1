"""The bench on live devices: runs the commands of a probe on every rank and reads the instants of their events.

Memory that a probe allocates first is filled and kept; what follows is timed. A run is gated unless the probe says
otherwise: a spinning kernel holds all streams until the host has issued everything, so that issue time does not count.
Every program runs once before it is timed. Ungated runs are watched: clock and power are read every 25 ms.
"""

import time

from calibration.probes.bench import ProbeReading, program_of
from calibration.probes.own_programs import AccessRates
from calibration.samples.inventory import Inventory
from offsim.program.commands import Command
from offsim.program.timeline import Timeline

from .contents import BufferContents
from .executor import Executor
from .own_kernels import LiveKernels
from .session import Session, merged
from .state import SensorWatch, device_state

GATE_MARGIN = 1.6
GATE_FLOOR = 1e-3
KEPT_PROGRAMS = 4


class LiveBench:
    """A bench of live devices: it runs a probe's commands on GPUs and reads their clocks and power."""

    def __init__(self, session: Session, node: Inventory) -> None:
        self.session, self.node = session, node
        self.ranks = session.communicator.world
        self.transport = node.transport
        self.state: dict[str, float] = {}
        """The device's state after the last run, or during it if that was long."""
        self._own: LiveKernels | None = None
        self._contents = BufferContents(session.device.torch_device)
        self._kept: dict[tuple[tuple[Command, ...], int | None], tuple[Executor, float]] = {}

    def run(
        self, commands: tuple[Command, ...], *, only_rank: int | None = None, settle: float = 0.0, gated: bool = True
    ) -> ProbeReading:
        """Run once on every rank, after a warm-up and `settle` seconds of idling; the readings of all ranks."""
        key = (commands, only_rank)
        if key not in self._kept:
            self._prepare(key)
        executor, issue = self._kept[key]
        executor.run([0])
        time.sleep(settle)
        watch = self._watch(gated)
        timeline = executor.run([1], gate=GATE_MARGIN * issue + GATE_FLOOR if gated else 0.0)
        self.state = watch.finish() if watch else device_state(self.session)
        whole = merged(self.session, timeline)
        self._kept[key] = (executor, self._issue_seconds(whole))
        executor.memory.clear()
        return ProbeReading(whole.instants, self._issue_seconds(whole), self.state, tuple(watch.trail) if watch else ())

    def triad_seconds(self, bytes_: int, iterations: int) -> list[float]:
        """Seconds of a = b + s c over arrays of so many bytes; moves three times as many."""
        return self._kernels().triad_seconds(bytes_, iterations)

    def sm_rates(self, direction: str, blocks: int, *, beside_copies: bool) -> AccessRates | None:
        """What thread blocks move to or from pinned memory, and H2D copies beside; None if these did not last."""
        return self._kernels().sm_rates(direction, blocks, beside_copies=beside_copies)

    def _kernels(self) -> LiveKernels:
        if self._own is None:
            self._own = LiveKernels(self.session)
        return self._own

    def _watch(self, gated: bool) -> SensorWatch | None:
        if gated or not self.session.on_gpu:
            return None
        watch = SensorWatch(self.session)
        watch.start()
        return watch

    def _prepare(self, key: tuple[tuple[Command, ...], int | None]) -> None:
        """Plan the program, run it once, forget the oldest one."""
        commands, only_rank = key
        program = program_of(commands, self.ranks)
        here = only_rank is None or only_rank == self.session.communicator.rank
        if len(self._kept) >= KEPT_PROGRAMS:
            self.forget()
        executor = Executor(program, self.session.device, self.session.communicator, self._contents, copies_here=here)
        timeline = merged(self.session, executor.run())
        executor.memory.clear()
        self._kept[key] = (executor, self._issue_seconds(timeline))

    def _issue_seconds(self, timeline: Timeline) -> float:
        """Host time of the timed section on the slowest rank."""
        return max(window.end - window.start for window in timeline.windows if window.section == 1)

    def forget(self) -> None:
        """Give back the memory of all programs."""
        self._kept.clear()
        self.session.device.pinned.reset()  # type: ignore[attr-defined]
