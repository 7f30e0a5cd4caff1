"""The commands of a stream program: what the host thread of one rank issues, in order.

Semantics are CUDA's and PyTorch's. Streams are FIFO; `Wait` refers to the latest `Record` of its event at the moment
the host issues it; pageable copies block the host; memory is counted when the host allocates or frees it. Every
command is a plain tuple: printable, comparable, checkable. Left out: graphs, host callbacks, priorities of kernels.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, overload

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
    """The host thread is busy."""

    name: str
    duration: float
    worked_out_from: Quantity | None = None
    """The node's value that the duration comes from, if it comes from one."""


Command = Compute | Copy | Collective | Record | Wait | Synchronize | Allocate | Free | HostWork


class Template(NamedTuple):
    """What all blocks of a list do on the compute stream, without their names: kernels and collectives only."""

    commands: tuple[Compute | Collective, ...]
    stream: str = COMPUTE


class Part(NamedTuple):
    """Commands in a row: a transformer block with its hooks, or (without a template) something else."""

    before: tuple[Command, ...]
    template: Template | None = None
    name: str = ""
    """What stands before the names of the template's commands."""
    reads: tuple[str, ...] = ()
    after: tuple[Command, ...] = ()

    def commands(self) -> Iterator[Command]:
        """All of them, named."""
        yield from self.before
        for command in self.template.commands if self.template is not None else ():
            if isinstance(command, Compute):
                yield Compute(command.stream, self.name + command.name, command.kernels, self.reads)
            else:
                yield command._replace(name=self.name + command.name)
        yield from self.after

    def coarse(self) -> Iterator["Command | Template"]:
        """The same, with the template in one."""
        yield from self.before
        if self.template is not None:
            yield self.template
        yield from self.after

    @property
    def size(self) -> int:
        """How many commands it has."""
        own = len(self.before) + len(self.after)
        return own if self.template is None else own + len(self.template.commands)

    def hook_at(self, number: int) -> Command:
        """Its command `number`, which is none of the template's."""
        inside = number - len(self.before)
        if inside < 0 or self.template is None:
            return self.before[number]
        return self.after[inside - len(self.template.commands)]

    def name_at(self, number: int) -> str:
        """What a span of its command `number` is called."""
        inside = number - len(self.before)
        if inside < 0 or self.template is None:
            return name_of(self.before[number])
        if inside < len(self.template.commands):
            return self.name + self.template.commands[inside].name
        return name_of(self.after[inside - len(self.template.commands)])


def name_of(command: Command) -> str:
    """What a command's span is called."""
    if isinstance(command, Synchronize):
        return f"synchronize {command.scope} {command.target}".strip()
    return str(getattr(command, "name", "") or getattr(command, "event", ""))


Passage = tuple[Part, ...]
"""Parts in a row, as one forward has them: written once, whatever the number of forwards that are alike."""


class Written(Sequence[Command]):
    """A section's commands as passages; spelled out when somebody looks at them one by one."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self.passages = tuple(passages)
        self._spelled_out: tuple[Command, ...] | None = None

    def _all(self) -> tuple[Command, ...]:
        if self._spelled_out is None:
            known: dict[int, list[Command]] = {}
            for passage in self.passages:
                if id(passage) not in known:
                    known[id(passage)] = [command for part in passage for command in part.commands()]
            self._spelled_out = tuple(command for passage in self.passages for command in known[id(passage)])
        return self._spelled_out

    @overload
    def __getitem__(self, index: int) -> Command: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Command]: ...
    def __getitem__(self, index: int | slice) -> Command | Sequence[Command]:
        return self._all()[index]

    def __len__(self) -> int:
        return sum(part.size for passage in self.passages for part in passage)

    def __iter__(self) -> Iterator[Command]:
        return iter(self._all())

    def __repr__(self) -> str:
        return f"Written({self._all()!r})"

    def same(self, other: "Written") -> bool:
        """Whether the commands are equal, type by type: tuples of different commands may have equal fields."""
        if len(self.passages) != len(other.passages):
            return False
        return all(a is b or _same(a, b) for a, b in zip(self.passages, other.passages, strict=True))


def _same(one: Passage, other: Passage) -> bool:
    return one == other and all(
        [type(c) for c in (*a.before, *a.after)] == [type(c) for c in (*b.before, *b.after)]
        for a, b in zip(one, other, strict=True)
    )


def passages_of(commands: Sequence[Command]) -> tuple[Passage, ...]:
    """A section's commands as passages: as they were written, or all in one part."""
    return commands.passages if isinstance(commands, Written) else ((Part(tuple(commands)),),)


def coarse(commands: Sequence[Command]) -> list[Command | Template]:
    """A section's commands with what blocks have in common in one."""
    return [command for passage in passages_of(commands) for part in passage for command in part.coarse()]


class Section(NamedTuple):
    """The commands of one use of a component, or of loading."""

    name: str
    use: Use
    commands: Sequence[Command]

    @property
    def step(self) -> int | None:
        """The number of the denoising step that it is, if it is one."""
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


def stream_of(command: Command | Template) -> str | None:
    """The stream that a command is put on, if any."""
    return getattr(command, "stream", None)
