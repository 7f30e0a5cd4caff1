"""How long a kernel takes alone on its GPU: the slower of its arithmetic and its memory traffic.

Roofline with sustained rates that depend on size: products by their rows, attention by its keys.
"""

from offsim.program.commands import Compute, Kernel
from offsim.scenario.node import GPU
from offsim.scenario.scenario import Scenario


def kernel_duration(kernel: Kernel, gpu: GPU, attention_backend: str = "default") -> float:
    """Seconds of one kernel at efficiency 1."""
    by_memory = kernel.bytes / gpu.memory_bandwidth.value
    if kernel.kernel_class == "gemm":
        return max(kernel.flops / gpu.gemm.at(kernel.size), by_memory)
    if kernel.kernel_class == "attention":
        return max(kernel.flops / gpu.attention[attention_backend].at(kernel.size), by_memory)
    if kernel.kernel_class == "relayout" and gpu.relayout_bandwidth is not None:
        return kernel.bytes / gpu.relayout_bandwidth.value
    return by_memory


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
