"""How long a kernel takes alone on its GPU: the slower of its arithmetic and its memory traffic.

Roofline with sustained rates that depend on size: products by their rows, attention by its keys.
"""

from offsim.program.commands import Compute, Kernel
from offsim.scenario.node import GPU
from offsim.scenario.scenario import Scenario


def kernel_duration(kernel: Kernel, gpu: GPU, attention_backend: str = "default") -> float:
    """Seconds of one kernel at efficiency 1 and full clock."""
    if kernel.kernel_class in ("gemm", "attention"):
        rate = _measured_rate(kernel, gpu)
        if rate is not None:
            return kernel.flops / rate
        table = gpu.gemm if kernel.kernel_class == "gemm" else gpu.attention[attention_backend]
        return max(kernel.flops / table.at(kernel.size), kernel.bytes / gpu.memory_bandwidth.value)
    return kernel.bytes / _memory_rate(kernel, gpu)


def _measured_rate(kernel: Kernel, gpu: GPU) -> float | None:
    """FLOP/s of a product or an attention of a measured shape."""
    if not kernel.shape:
        return None
    if kernel.kernel_class == "gemm":
        rows, inputs, outputs = kernel.shape
        table = gpu.gemm_shapes.get(f"{inputs}x{outputs}")
        return None if table is None else table.at(rows)
    _, heads, queries, keys, width = kernel.shape
    to_keys = gpu.attention_shapes.get(f"{heads}x{width}x{keys}")
    if to_keys is not None:
        return to_keys.at(queries)
    over_sequence = gpu.attention_shapes.get(f"{heads}x{width}") if queries == keys else None
    return None if over_sequence is None else over_sequence.at(keys)


def _memory_rate(kernel: Kernel, gpu: GPU) -> float:
    """Bytes/s of an elementwise kernel or a relayout: by its traffic where that was measured."""
    if kernel.kernel_class == "relayout":
        if gpu.relayout is not None:
            return gpu.relayout.at(kernel.bytes)
        if gpu.relayout_bandwidth is not None:
            return gpu.relayout_bandwidth.value
    return gpu.memory_bandwidth.value if gpu.elementwise is None else gpu.elementwise.at(kernel.bytes)


class Durations:
    """Kernel durations of one scenario, remembered: programs repeat the same kernels."""

    def __init__(self, scenario: Scenario) -> None:
        self._gpu = scenario.node.gpu
        self._backend = scenario.workload.attention_backend
        self._efficiency = scenario.workload.compute_efficiency
        self._kernels: dict[Kernel, float] = {}
        self._pieces: dict[tuple[Kernel, ...], tuple[tuple[str, float], ...]] = {}

    def of_kernel(self, kernel: Kernel) -> float:
        """Seconds of one kernel."""
        if kernel not in self._kernels:
            self._kernels[kernel] = kernel_duration(kernel, self._gpu, self._backend) / self._efficiency
        return self._kernels[kernel]

    def pieces(self, command: Compute) -> tuple[tuple[str, float], ...]:
        """(kernel class, seconds) of a command's kernels in order."""
        found = self._pieces.get(command.kernels)
        if found is None:
            found = tuple((kernel.kernel_class, self.of_kernel(kernel)) for kernel in command.kernels)
            self._pieces[command.kernels] = found
        return found

    def of_command(self, command: Compute) -> float:
        """Seconds of all kernels of a command."""
        return sum(seconds for _, seconds in self.pieces(command))
