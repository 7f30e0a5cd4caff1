"""A part (a block with its hooks) as the engine reads it: stream by stream, and in pieces.

A piece ends where the host blocks, where the part ends, and after a sixteenth of the queue depth on one stream: before
a piece the host waits until there is room for it. Places count from the part's begin, so that parts which look alike
share one plan; names are left to whoever writes the record.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from offsim.program.commands import Collective, Command, Compute, Copy, HostWork, Record, Synchronize, Wait
from offsim.program.passages import Part, stream_of

from .durations import Durations, Pieces
from .host_costs import HostCosts

PlaceInPart = tuple[str, int]
"""A stream and how many of its commands have been done, counted from the begin of a part (it may be negative)."""
Awaited = PlaceInPart | int
"""The record that a wait refers to; or, where an earlier passage recorded it, which of the passage's earlier events."""
KERNELS: Final = 0
RECORD: Final = 1
WAIT: Final = 2
COPY: Final = 3
COLLECTIVE: Final = 4
COMMAND_KINDS: dict[type, int] = {Compute: KERNELS, Record: RECORD, Wait: WAIT, Copy: COPY, Collective: COLLECTIVE}
"""What a command on a stream is."""


class Item:
    """One command on its stream."""

    __slots__ = ("awaited", "command", "kind", "number", "offset", "piece", "pieces", "seconds")

    def __init__(self, command: Command, number: int, piece: int, offset: float) -> None:
        self.command = command
        self.kind = COMMAND_KINDS[type(command)]
        self.number = number
        """Which of its part's commands."""
        self.piece = piece
        self.offset = offset
        """Host seconds from the piece's release to this command's issue."""
        self.awaited: Awaited | None = None
        """The record that a wait refers to."""
        self.pieces: Pieces = ()
        """The kernels of a command that has any."""
        self.seconds = 0.0
        """Seconds of all kernels alone."""


class HostSpan(NamedTuple):
    """Host work within a piece."""

    number: int
    """Which of its part's commands."""
    offset: float
    duration: float


class IssuedRun:
    """Commands that the host issues one after the other without blocking, except at the end."""

    __slots__ = ("blocker", "cost", "ends", "event", "number", "return_cost", "work")

    def __init__(
        self,
        cost: float,
        ends: tuple[PlaceInPart, ...],
        work: tuple[HostSpan, ...],
        blocker: Synchronize | Copy | None,
        number: int,
        return_cost: float,
    ) -> None:
        self.cost = cost
        """Host seconds of all of them."""
        self.ends = ends
        """Streams that it adds to, with the place behind its last command."""
        self.work = work
        self.blocker = blocker
        """What the host waits for at the end, by the names of the first part that looks like this."""
        self.number = number
        """Which of its part's commands that is."""
        self.return_cost = return_cost
        """Host seconds once that has happened."""
        self.event: Awaited | None = None
        """The record that a synchronisation with an event waits for."""


class PartPlan:
    """A part as the engine reads it."""

    def __init__(
        self, part: Part, awaited: Sequence[Awaited], like: int, costs: HostCosts, durations: Durations, longest: int
    ) -> None:
        self.part, self.awaited, self.like = part, awaited, like
        self.items: dict[str, list[Item]] = {}
        self.pieces: list[IssuedRun] = []
        self._awaited, self._costs, self._durations, self._longest = iter(awaited), costs, durations, longest
        self._open()
        own = part.template.commands if part.template is not None else ()
        for number, command in enumerate((*part.before, *own, *part.after)):
            stream = stream_of(command)
            if stream is None:
                self._read_host(number, command)
            else:
                self._read(number, command, stream)
        self._close()
        self.counts = {stream: len(items) for stream, items in self.items.items()}

    def _open(self) -> None:
        self._offset, self._added, self._work = 0.0, dict[str, int](), list[HostSpan]()

    def _read(self, number: int, command: Command, stream: str) -> None:
        """Put a command on its stream, and look whether a piece ends with it."""
        self._offset += self._costs.of(command)
        item = Item(command, number, len(self.pieces), self._offset)
        if isinstance(command, Wait):
            item.awaited = next(self._awaited)
        elif isinstance(command, Compute):
            item.pieces = self._durations.pieces(command)
            item.seconds = sum([piece.seconds for piece in item.pieces])
        self.items.setdefault(stream, []).append(item)
        added = self._added[stream] = self._added.get(stream, 0) + 1
        if isinstance(command, Copy) and command.host_memory != "pinned":
            self._close(command, number)
        elif added >= self._longest:
            self._close()

    def _read_host(self, number: int, command: Command) -> None:
        """What only the host does, or waits for."""
        if isinstance(command, Synchronize):
            self._close(command, number)
            return
        if isinstance(command, HostWork):
            self._work.append(HostSpan(number, self._offset, command.duration))
        self._offset += self._costs.of(command)

    def _close(self, blocker: Synchronize | Copy | None = None, number: int = -1) -> None:
        """End the current piece."""
        if blocker is None and not self._offset and not self._added and not self._work:
            return
        ends = tuple((stream, len(self.items[stream])) for stream in self._added)
        return_cost = self._costs.of(blocker) if isinstance(blocker, Synchronize) else 0.0
        piece = IssuedRun(self._offset, ends, tuple(self._work), blocker, number, return_cost)
        if isinstance(blocker, Synchronize) and blocker.scope == "event":
            piece.event = next(self._awaited)
        self.pieces.append(piece)
        self._open()
