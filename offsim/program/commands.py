"""The commands of a stream program: what the host thread of one rank issues, in order.

Semantics are CUDA's and PyTorch's. Streams are FIFO; `Wait` refers to the latest `Record` of its event at the moment
the host issues it; pageable copies block the host; memory is counted when the host allocates or frees it. Every
command is a plain tuple: printable, comparable, checkable. Left out: graphs, host callbacks, priorities.
"""

from typing import Literal, NamedTuple

Direction = Literal["H2D", "D2H"]
HostMemory = Literal["pinned", "pageable", "fresh"]
"""pinned; pageable and touched before; fresh: pageable and never touched (page faults)."""
CollectiveName = Literal["all-to-all", "all-gather", "all-reduce"]

COMPUTE = "compute"
"""The stream that kernels run on: the framework's current stream."""
HOST_POOLS = ("pinned", "pageable")


class Kernel(NamedTuple):
    """Work of one kernel; its duration is the node's business."""

    kernel_class: str
    flops: float
    bytes: float
    """Device memory traffic [bytes]."""
    size: float
    """What its efficiency depends on: rows of a product, keys of an attention."""
    shape: tuple[int, ...] = ()
    """What a live run executes and a measured table is looked up by. gemm: rows, inputs, outputs. attention: samples,
    heads, queries, keys, head_dim. elementwise: rows, elements read plus written per row. relayout: rows, parts,
    columns per part."""


class Compute(NamedTuple):
    """Kernels launched back to back on one stream; `reads` are the weight buffers that they use."""

    stream: str
    name: str
    kernels: tuple[Kernel, ...]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


class Copy(NamedTuple):
    """A copy between host and device; `calls` is how many tensors it is made of."""

    stream: str
    name: str
    direction: Direction
    bytes: float
    host_memory: HostMemory
    buffer: str
    calls: int = 1


class Collective(NamedTuple):
    """A collective over the sequence group (or all ranks); `bytes` go from each rank to the others."""

    stream: str
    name: str
    kind: CollectiveName
    bytes: float
    group: Literal["sequence", "world"] = "sequence"
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


class Record(NamedTuple):
    """Mark the stream's current tail as `event`."""

    stream: str
    event: str


class Wait(NamedTuple):
    """The stream waits for the latest record of `event`; the host does not."""

    stream: str
    event: str


class Synchronize(NamedTuple):
    """The host waits: for a stream's tail, an event, or everything on the device."""

    scope: Literal["stream", "event", "device"]
    target: str = ""


class Allocate(NamedTuple):
    """A buffer from the pool of stream `pool`, or from host memory (`pinned`, `pageable`)."""

    buffer: str
    bytes: float
    pool: str


class Free(NamedTuple):
    """The buffer returns to its pool, in host order."""

    buffer: str


class HostWork(NamedTuple):
    """The host thread is busy."""

    name: str
    duration: float


Command = Compute | Copy | Collective | Record | Wait | Synchronize | Allocate | Free | HostWork
Phase = Literal["load", "encode", "denoise", "switch", "decode"]


class Section(NamedTuple):
    """A phase outside the denoising loop, or one denoising step."""

    name: str
    phase: Phase
    step: int | None
    commands: tuple[Command, ...]
    blocks: tuple[int, ...] = ()
    """Where transformer blocks begin in `commands`, hooks included; none where nobody says."""


class StreamProgram(NamedTuple):
    """The program of every rank of a scenario (SPMD), section by section.

    Equal consecutive steps share one tuple of commands, so `is` tells that they repeat.
    """

    name: str
    sections: tuple[Section, ...]
    groups: tuple[tuple[int, ...], ...]
    """Sequence-parallel groups of ranks."""

    @property
    def ranks(self) -> int:
        return sum(len(group) for group in self.groups)

    def commands(self) -> list[Command]:
        """All commands in host order."""
        return [command for section in self.sections for command in section.commands]


def stream_of(command: Command) -> str | None:
    """The stream that a command is put on, if any."""
    return getattr(command, "stream", None)
