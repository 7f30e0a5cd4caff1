"""How long the kernels of a scenario take alone, and what power they would draw: see offsim.program.roofline."""

from typing import NamedTuple

from offsim.program.commands import Compute, Kernel
from offsim.program.roofline import kernel_duration
from offsim.scenario.gpu import Clock
from offsim.scenario.scenario import Scenario

from .values_in_use import ValuesInUse


class TimedKernel(NamedTuple):
    """One kernel as the multiprocessors see it."""

    kernel_class: str
    seconds: float
    """Alone, at full clock."""
    demand: float = 0.0
    """Power above idle that it would draw at full clock [W]; 0 without a clock model."""


Pieces = tuple[TimedKernel, ...]


def kernel_energy(kernel: Kernel, clock: Clock, values: ValuesInUse | None = None) -> float:
    """Joules of one kernel above idle, at full clock: its FLOPs and its bytes.

    8192 x 5120 x 13824 at 1 pJ/FLOP: 1.16 J, in 1.45 ms 800 W.
    """
    energy, values = clock.energy, values or ValuesInUse()
    own = energy.relayout if kernel.kernel_class == "relayout" else None
    of_bytes = values.number(own or energy.byte) * kernel.bytes
    per_flop = {"gemm": energy.gemm, "attention": energy.attention}.get(kernel.kernel_class)
    return of_bytes if per_flop is None else values.number(per_flop) * kernel.flops + of_bytes


class Durations:
    """Kernel durations of one scenario, remembered: programs repeat the same kernels."""

    def __init__(self, scenario: Scenario, values: ValuesInUse | None = None) -> None:
        self._values = values or ValuesInUse()
        self._gpu = scenario.node.gpu
        self._clock = scenario.node.gpu.clock if scenario.simulation.clock else None
        self._backend = scenario.workload.attention_backend
        self._efficiency = scenario.workload.compute_efficiency
        self._kernels: dict[Kernel, float] = {}
        self._pieces: dict[int, tuple[Pieces, tuple[Kernel, ...]]] = {}

    def of_kernel(self, kernel: Kernel) -> float:
        """Seconds of one kernel."""
        if kernel not in self._kernels:
            alone = kernel_duration(kernel, self._gpu, self._backend, self._values)
            self._kernels[kernel] = alone / self._efficiency
        return self._kernels[kernel]

    def pieces(self, command: Compute) -> Pieces:
        """A command's kernels in order."""
        # By identity, held on to so that it stays one's own: hashing kernels costs more than a kernel's simulation.
        found = self._pieces.get(id(command.kernels))
        if found is None:
            found = self._pieces[id(command.kernels)] = (tuple(map(self._piece, command.kernels)), command.kernels)
        return found[0]

    def _piece(self, kernel: Kernel) -> TimedKernel:
        seconds = self.of_kernel(kernel)
        clock, values = self._clock, self._values
        demand = kernel_energy(kernel, clock, values) / seconds if clock is not None and seconds > 0 else 0.0
        # Nobody has measured what slows unpacking: it is taken as one more elementwise kernel.
        kernel_class = "elementwise" if kernel.kernel_class == "unpack" else kernel.kernel_class
        self._values.occurs(kernel_class)
        return TimedKernel(kernel_class, seconds, demand)

    def of_command(self, command: Compute) -> float:
        """Seconds of all kernels of a command."""
        return sum(piece.seconds for piece in self.pieces(command))
