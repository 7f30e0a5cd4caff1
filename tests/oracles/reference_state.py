"""What the reference engine keeps of each rank: tasks on streams, bytes on their way, calls of collectives."""

from collections import Counter
from dataclasses import dataclass, field
from math import inf

from offsim.engine.fabric import FlowClass
from offsim.program.commands import Command, StreamProgram


@dataclass
class Task:
    """A command on its stream."""

    command: Command
    issued: float
    awaited: "Task | None" = None
    state: str = "new"
    """new, queued (for an engine, multiprocessors or a kernel's end), latency, running, done."""
    begun: float = 0.0
    """When it came to the head of its stream."""
    until: float = inf
    """End of a latency."""
    pieces: list[list[object]] = field(default_factory=list)
    """Kernels left: [class, seconds, begin]."""
    arrived: bool = False


@dataclass
class Transfer:
    """Bytes on their way."""

    flow_class: FlowClass
    left: float
    rate: float = 0.0


@dataclass
class Meeting:
    """A collective's call: who is there, and which transfers have begun and ended."""

    transfers: list[tuple[tuple[int, ...], FlowClass, float]]
    arrived: set[int] = field(default_factory=set)
    begun: dict[int, float] = field(default_factory=dict)
    """Transfer -> when its bytes may flow."""
    flowing: dict[int, Transfer] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)


class Rank:
    """A host thread and a device."""

    def __init__(self, number: int, program: StreamProgram) -> None:
        self.number = number
        self.commands = iter(program.commands())
        self.clock = 0.0
        self.waits: list[Task] = []
        self.after_wait = 0.0
        self.streams: dict[str, list[Task]] = {}
        self.records: dict[str, Task] = {}
        self.kernels: list[Task] = []
        """Commands for the multiprocessors; the first one runs."""
        self.engines: dict[str, list[Task]] = {"H2D": [], "D2H": []}
        self.copying: dict[Task, Transfer] = {}
        self.calls: Counter[tuple[tuple[int, ...], str]] = Counter()
        self.meets: dict[int, tuple[Meeting, float]] = {}
        self.finished: list[tuple[str, str, float]] = []
        self.issuing = True
