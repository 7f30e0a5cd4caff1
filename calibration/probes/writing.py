"""Pieces of commands that several probes are written from."""

from bisect import bisect_right
from collections.abc import Iterable

from offsim.program.block import ACTIVATION_BYTES
from offsim.program.commands import (
    COMPUTE,
    Allocate,
    Collective,
    CollectiveName,
    Command,
    Compute,
    Copy,
    Direction,
    HostMemory,
    Kernel,
    Record,
)

KIB, MIB = 2**10, 2**20
PROBE_COPY_STREAM = "copy"
ROTATED = 2
"""Buffers that copies take in turns, so that no cache serves them."""


def product_kernel(rows: int, inputs: int, outputs: int) -> Kernel:
    """A matrix product in bf16, of 2 rows inputs outputs FLOPs."""
    moved = ACTIVATION_BYTES * (rows * (inputs + outputs) + inputs * outputs)
    return Kernel("gemm", 2.0 * rows * inputs * outputs, float(moved), float(rows), (rows, inputs, outputs))


def attention_kernel(heads: int, queries: int, keys: int, head_dim: int) -> Kernel:
    """An attention without mask, of 4 queries keys width FLOPs."""
    width = heads * head_dim
    moved = ACTIVATION_BYTES * 2 * (queries + keys) * width
    shape = (1, heads, queries, keys, head_dim)
    return Kernel("attention", 4.0 * queries * keys * width, float(moved), float(keys), shape)


def elementwise_kernel(bytes_: int) -> Kernel:
    """An elementwise kernel that reads and writes `bytes_` in all."""
    return Kernel("elementwise", 0.0, float(bytes_), 1.0, (1, bytes_ // ACTIVATION_BYTES))


def relayout_kernel(rows: int, parts: int, columns: int) -> Kernel:
    """A kernel from (rows, parts, columns) to (parts, rows, columns), each byte read once and written once."""
    moved = 2.0 * ACTIVATION_BYTES * rows * parts * columns
    return Kernel("relayout", 0.0, moved, 1.0, (rows, parts, columns))


def working_memory(kernels: Iterable[Kernel]) -> list[Command]:
    """Allocations of the activations and weights that these kernels need."""
    kernels = list(kernels)
    weights = max((k.shape[1] * k.shape[2] for k in kernels if k.kernel_class == "gemm"), default=0)
    allocations: list[Command] = [Allocate("activations", max(_activations(k) for k in kernels), COMPUTE)]
    if weights:
        allocations.append(Allocate("weights", float(ACTIVATION_BYTES * weights), COMPUTE))
    return allocations


def _activations(kernel: Kernel) -> float:
    """Input and output, and what attention's output takes beside."""
    shape = kernel.shape
    if kernel.kernel_class == "gemm":
        elements = shape[0] * (shape[1] + shape[2])
    elif kernel.kernel_class == "attention":
        samples, heads, queries, keys, width = shape
        elements = samples * heads * width * (2 * queries + 2 * max(queries, keys))
    elif kernel.kernel_class == "relayout":
        elements = 2 * shape[0] * shape[1] * shape[2]
    else:
        elements = shape[0] * shape[1] // 2
    return float(ACTIVATION_BYTES * elements + 4096)


def compute(name: str, kernels: tuple[Kernel, ...]) -> Compute:
    """A command of these kernels on the compute stream, with the weights of `working_memory`."""
    reads = ("weights",) if any(kernel.kernel_class == "gemm" for kernel in kernels) else ()
    return Compute(COMPUTE, name, kernels, reads)


def timed(stream: str, commands: Iterable[Command], begin: str = "begin", end: str = "end") -> list[Command]:
    """The commands between two records."""
    return [Record(stream, begin), *commands, Record(stream, end)]


def copy_buffers(direction: str, bytes_: float, memory: str = "pinned", count: int = ROTATED) -> list[Command]:
    """Allocations of the device's and the host's side of copies, `count` of each."""
    found: list[Command] = []
    for i in range(count):
        name = f"{direction} buffer {i}"
        found += [Allocate(name, bytes_, COMPUTE), Allocate(f"{name} on host", bytes_, memory)]
    return found


def repeated_copies(
    direction: Direction, bytes_: float, count: int, stream: str = "", memory: HostMemory = "pinned", calls: int = 1
) -> list[Copy]:
    """Back-to-back copies that rotate over the buffers."""
    names = [f"{direction} buffer {i % ROTATED}" for i in range(count)]
    return [Copy(stream or PROBE_COPY_STREAM, name, direction, bytes_, memory, name, calls) for name in names]


def marked_copies(direction: Direction, bytes_: float, count: int, stream: str = "") -> list[Command]:
    """Copies with a record before the first and after each: `<direction> 0`, `<direction> 1`, ..."""
    stream = stream or PROBE_COPY_STREAM
    found: list[Command] = [Record(stream, f"{direction} 0")]
    for i, copy in enumerate(repeated_copies(direction, bytes_, count, stream)):
        found += [copy, Record(stream, f"{direction} {i + 1}")]
    return found


def repeated_collectives(kind: CollectiveName, bytes_: float, count: int) -> list[Command]:
    """Back-to-back collectives of which each rank sends `bytes_` to the others."""
    return [Collective(COMPUTE, f"collective {i}", kind, bytes_) for i in range(count)]


def moved_inside(ends: list[float], bytes_: float, begin: float, end: float) -> float | None:
    """Bytes of back-to-back copies between two instants; `ends` are the instants after 0, 1, 2, ... copies.

    None if the copies do not cover the window: such a reading says nothing.

    >>> moved_inside([0.0, 1.0, 2.0, 3.0], 10.0, 0.5, 2.5)
    20.0
    """
    if ends[0] > begin + 1e-4 or ends[-1] < end:
        return None
    return bytes_ * (_progress(ends, end) - _progress(ends, max(begin, ends[0])))


def _progress(ends: list[float], instant: float) -> float:
    """How many copies were done, fractions by time."""
    i = min(bisect_right(ends, instant) - 1, len(ends) - 2)
    span = ends[i + 1] - ends[i]
    return i + ((instant - ends[i]) / span if span > 0 else 0.0)
