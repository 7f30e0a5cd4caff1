"""What kernels take: alone by the node's tables, and beside what is active on their GPU."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from offsim.program.commands import Kernel
from offsim.scenario.gpu import GPU
from offsim.scenario.quantity import Curve
from offsim.scenario.scenario import Scenario
from tests.changed_nodes import slowdowns

Active = tuple[float, float, str]
"""From when to when what is active."""


def seconds_of(kernel: Kernel, scenario: Scenario) -> float:
    """Seconds of a kernel alone and at full clock."""
    gpu, work = scenario.node.gpu, scenario.workload
    table = measured(kernel, gpu)
    if table is not None:
        at = kernel.shape[0] if kernel.kernel_class == "gemm" else kernel.shape[2]
        seconds = kernel.flops / table.at(at)
    elif kernel.kernel_class in ("gemm", "attention"):
        table = gpu.gemm if kernel.kernel_class == "gemm" else gpu.attention[work.attention_backend]
        seconds = max(kernel.flops / table.at(kernel.size), kernel.bytes / gpu.memory_bandwidth.value)
    else:
        seconds = kernel.bytes / memory_rate(kernel, gpu)
    return seconds / work.compute_efficiency


def measured(kernel: Kernel, gpu: GPU) -> Curve | None:
    """The table of a product or an attention of just this shape."""
    if kernel.kernel_class == "gemm":
        _, inputs, outputs = kernel.shape
        return gpu.gemm_shapes.get(f"{inputs}x{outputs}")
    if kernel.kernel_class != "attention":
        return None
    _, heads, queries, keys, width = kernel.shape
    names = [f"{heads}x{width}x{keys}"]
    if queries == keys:
        names += sorted((f"{heads}x{width}", f"{heads}x{width}-ragged"), key=len, reverse=bool(keys % 128))
    return next((gpu.attention_shapes[name] for name in names if name in gpu.attention_shapes), None)


def memory_rate(kernel: Kernel, gpu: GPU) -> float:
    """Bytes/s of a kernel without products."""
    if kernel.kernel_class == "relayout" and gpu.relayout is not None:
        return gpu.relayout.at(kernel.bytes)
    if kernel.kernel_class == "relayout" and gpu.relayout_bandwidth is not None:
        return gpu.relayout_bandwidth.value
    rate = gpu.memory_bandwidth.value if gpu.elementwise is None else gpu.elementwise.at(kernel.bytes)
    return min(rate, gpu.unpack.at(kernel.size)) if kernel.kernel_class == "unpack" else rate


class Beside:
    """What is active on a GPU when, and how much that slows kernels."""

    def __init__(self, scenario: Scenario, active: Iterable[Active]) -> None:
        self.scenario = scenario
        self.slowdowns = {
            pair: 1 + slowdown for pair, slowdown in slowdowns(scenario.node).items() if scenario.simulation.contention
        }
        active = [*active]
        self.times = sorted({at for start, end, _ in active for at in (start, end)})
        self.there: list[set[str]] = [set() for _ in self.times]
        for start, end, what in active:
            for i in range(bisect_right(self.times, start) - 1, bisect_right(self.times, end) - 1):
                self.there[i].add(what)

    def end(self, start: float, kernels: Sequence[Kernel]) -> float:
        """When kernels end that begin then."""
        at, place = start, bisect_right(self.times, start) - 1
        for kernel in kernels:
            left = seconds_of(kernel, self.scenario)
            while left > 0.0:
                factor, until = self._factor(kernel, place), self._until(place)
                if at + left * factor <= until:
                    at, left = at + left * factor, 0.0
                else:
                    at, left, place = until, left - (until - at) / factor, place + 1
        return at

    def _until(self, place: int) -> float:
        return self.times[place + 1] if place + 1 < len(self.times) else float("inf")

    def _factor(self, kernel: Kernel, place: int) -> float:
        victim = "elementwise" if kernel.kernel_class == "unpack" else kernel.kernel_class
        factor = 1.0
        for aggressor in self.there[place] if place >= 0 else ():
            factor *= self.slowdowns.get((victim, aggressor), 1.0)
        return factor

    def slowest(self, kernel: Kernel) -> float:
        """The most that a kernel can be slowed, by the clock too."""
        victim = "elementwise" if kernel.kernel_class == "unpack" else kernel.kernel_class
        factor = 1.0
        for (slowed, _), slowdown in self.slowdowns.items():
            factor *= slowdown if slowed == victim else 1.0
        return factor / 0.17
