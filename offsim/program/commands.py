"""The commands of a stream program: what the host thread of one rank issues, in order.

Semantics are CUDA's and PyTorch's. Streams are FIFO; `Wait` refers to the latest `Record` of its event at the moment
the host issues it; pageable copies block the host; memory is counted when the host allocates or frees it. Every
command is a plain tuple: printable, comparable, checkable. Left out: graphs, host callbacks, priorities of kernels.
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from offsim.scenario.quantity import Quantity

from .groups import SEQUENCE, ParallelGroups
from .uses import DENOISING, Use, UseKind

Direction = Literal["H2D", "D2H"]
HostMemory = Literal["pinned", "pageable", "fresh"]
"""pinned; pageable and touched before; fresh: pageable and never touched (page faults)."""
CollectiveName = Literal["all-to-all", "all-gather", "all-reduce"]

COMPUTE = "compute"
"""The stream that kernels run on: the framework's current stream."""
HOST_POOLS = ("pinned", "pageable")
Piece = tuple[int, int]
"""Which of so many equal pieces of a buffer."""
WHOLE: Piece = (0, 1)


class Kernel(NamedTuple):
    """Work of one kernel; its duration is the node's business."""

    kernel_class: str
    flops: float
    bytes: float
    """Device memory traffic [bytes]."""
    size: float
    """What its efficiency depends on: rows of a product, keys of an attention, bits of a packed value."""
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
    """A copy between host and device of its buffer, or of a piece of it; `calls` is how many tensors it is made of."""

    stream: str
    name: str
    direction: Direction
    bytes: float
    host_memory: HostMemory
    buffer: str
    calls: int = 1
    piece: Piece = WHOLE


class Collective(NamedTuple):
    """A collective over the rank's group of a partition; `bytes` go from each rank to the others."""

    stream: str
    name: str
    kind: CollectiveName
    bytes: float
    group: str = SEQUENCE
    """The name of the partition (see groups.py)."""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    piece: Piece = WHOLE
    """Which part of the buffers that it reads and writes."""


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
    """The buffer returns to its pool, in host order; or (torch's record_stream) not before these streams get here.

    Either way it stops counting as allocated at once; what is recorded only decides when its memory is used again.
    """

    buffer: str
    recorded: tuple[str, ...] = ()
    """Streams whose tail at this moment must have been reached before the memory is used again."""


class HostWork(NamedTuple):
    """The host thread is busy for `duration` seconds."""

    name: str
    duration: float
    worked_out_from: Quantity | None = None
    """The node's value that the duration comes from, if it comes from one."""


Command = Compute | Copy | Collective | Record | Wait | Synchronize | Allocate | Free | HostWork


def name_of(command: Command) -> str:
    """What a command's span is called."""
    if isinstance(command, Synchronize):
        return f"synchronize {command.scope} {command.target}".strip()
    return str(getattr(command, "name", "") or getattr(command, "event", ""))


class Section(NamedTuple):
    """The commands of one use of a component, or of loading."""

    name: str
    use: Use
    commands: Sequence[Command]

    @property
    def step(self) -> int | None:
        """The number of the denoising step that the section is, if it is one."""
        return self.use.step


class StreamProgram(NamedTuple):
    """The program of every rank of a scenario (SPMD), section by section.

    Equal consecutive steps share their commands, so `is` tells that they repeat.
    """

    name: str
    sections: tuple[Section, ...]
    groups: ParallelGroups
    high_priority: tuple[str, ...] = ()
    """Streams that are made with the highest priority. They hold copies only, and copy engines know no priority."""

    @property
    def ranks(self) -> int:
        return self.groups.ranks

    def commands(self) -> list[Command]:
        """All commands in host order."""
        return [command for section in self.sections for command in section.commands]

    def numbers_of(self, kinds: Collection[UseKind] = DENOISING) -> list[int]:
        """The numbers of the sections whose uses are of these kinds: the denoising steps, unless told otherwise."""
        return [number for number, section in enumerate(self.sections) if section.use.kind in kinds]

    def step_number(self, step: int, request: int = 0) -> int:
        """The number of the section that is a denoising step of a request."""
        return [(section.use.request, section.use.step) for section in self.sections].index((request, step))
