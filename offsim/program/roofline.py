"""How long a kernel takes alone on its GPU: the slower of its arithmetic and its memory traffic.

Roofline with sustained rates that depend on size: products by their rows, attention by its keys, unpacking by the bits
of a packed value.
"""

from typing import Protocol

from offsim.scenario.gpu import GPU
from offsim.scenario.quantity import Curve, Quantity

from .commands import Kernel

KEY_TILE = 128


class NodeReader(Protocol):
    """Reads the values of a node: whoever asks what a prediction rests on notes them where they are read."""

    def number(self, quantity: Quantity) -> float:
        """The number of a value."""
        ...

    def at(self, curve: Curve, size: float) -> float:
        """A curve's value at a size."""
        ...


class PlainReader:
    """Reads without noting anything."""

    def number(self, quantity: Quantity) -> float:
        """See NodeReader."""
        return quantity.value

    def at(self, curve: Curve, size: float) -> float:
        """See NodeReader."""
        return curve.at(size)


def kernel_duration(
    kernel: Kernel, gpu: GPU, attention_backend: str = "default", values: NodeReader | None = None
) -> float:
    """Seconds of one kernel at efficiency 1 and full clock."""
    values = values or PlainReader()
    if kernel.kernel_class in ("gemm", "attention"):
        measured = _measured_rate(kernel, gpu, values)
        if measured is not None:
            return kernel.flops / measured
        table = gpu.gemm if kernel.kernel_class == "gemm" else gpu.attention[attention_backend]
        rate, bandwidth = values.at(table, kernel.size), values.number(gpu.memory_bandwidth)
        return max(kernel.flops / rate, kernel.bytes / bandwidth)
    return kernel.bytes / _memory_rate(kernel, gpu, values)


def _measured_rate(kernel: Kernel, gpu: GPU, values: NodeReader) -> float | None:
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


def _memory_rate(kernel: Kernel, gpu: GPU, values: NodeReader) -> float:
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
