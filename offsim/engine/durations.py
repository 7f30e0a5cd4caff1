"""How long a kernel takes alone on its GPU: the slower of its arithmetic and its memory traffic.

Roofline with sustained rates that depend on size: products by their rows, attention by its keys, unpacking by the bits
of a packed value.
"""

from typing import NamedTuple

from offsim.program.commands import Compute, Kernel
from offsim.scenario.gpu import GPU, Clock
from offsim.scenario.scenario import Scenario

from .values_in_use import ValuesInUse

KEY_TILE = 128


class TimedKernel(NamedTuple):
    """One kernel as the multiprocessors see it."""

    kernel_class: str
    seconds: float
    """Alone, at full clock."""
    demand: float = 0.0
    """Power above idle that it would draw at full clock [W]; 0 without a clock model."""


Pieces = tuple[TimedKernel, ...]


def kernel_duration(
    kernel: Kernel, gpu: GPU, attention_backend: str = "default", values: ValuesInUse | None = None
) -> float:
    """Seconds of one kernel at efficiency 1 and full clock."""
    values = values or ValuesInUse()
    if kernel.kernel_class in ("gemm", "attention"):
        measured = _measured_rate(kernel, gpu, values)
        if measured is not None:
            return kernel.flops / measured
        table = gpu.gemm if kernel.kernel_class == "gemm" else gpu.attention[attention_backend]
        rate, bandwidth = values.at(table, kernel.size), values.number(gpu.memory_bandwidth)
        return max(kernel.flops / rate, kernel.bytes / bandwidth)
    return kernel.bytes / _memory_rate(kernel, gpu, values)


def _measured_rate(kernel: Kernel, gpu: GPU, values: ValuesInUse) -> float | None:
    """FLOP/s of a product or an attention of a measured shape."""
    if not kernel.shape:
        return None
    if kernel.kernel_class == "gemm":
        rows, inputs, outputs = kernel.shape
        table = gpu.gemm_shapes.get(f"{inputs}x{outputs}")
        return None if table is None else values.at(table, rows)
    _, heads, queries, keys, width = kernel.shape
    to_keys = gpu.attention_shapes.get(f"{heads}x{width}x{keys}")
    if to_keys is not None:
        return values.at(to_keys, queries)
    if queries != keys:
        return None
    # Kernels mask the last tile where keys don't fill it: measured 8 % slower on an H200.
    names = (f"{heads}x{width}", f"{heads}x{width}-ragged")
    ordered = names if keys % KEY_TILE == 0 else names[::-1]
    found = next((gpu.attention_shapes[name] for name in ordered if name in gpu.attention_shapes), None)
    return None if found is None else values.at(found, keys)


def _memory_rate(kernel: Kernel, gpu: GPU, values: ValuesInUse) -> float:
    """Bytes/s of a kernel that memory bounds: by its traffic where that was measured."""
    if kernel.kernel_class == "relayout":
        if gpu.relayout is not None:
            return values.at(gpu.relayout, kernel.bytes)
        if gpu.relayout_bandwidth is not None:
            return values.number(gpu.relayout_bandwidth)
    if gpu.elementwise is None:
        elementwise = values.number(gpu.memory_bandwidth)
    else:
        elementwise = values.at(gpu.elementwise, kernel.bytes)
    return min(elementwise, values.at(gpu.unpack, kernel.size)) if kernel.kernel_class == "unpack" else elementwise


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
