"""What the host thread will issue, worked out ahead: stream by stream, and in pieces.

A program has no branches, so the order on every stream, the record that a wait refers to and the host's time between
two places where it may block are known before anything runs. What remains for the simulation is when. A piece ends
where the host blocks, where a part (a block with its hooks) ends, and after a sixteenth of the queue depth on one
stream: before a piece the host waits until there is room for it. Parts that look alike share one plan: their places
count from the part's begin, and names are left to whoever writes the record.
"""

from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from offsim.program.commands import (
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    HostWork,
    Part,
    Passage,
    Record,
    Synchronize,
    Wait,
    passages_of,
    stream_of,
)

from .durations import Durations, Pieces
from .host_costs import HostCosts

Place = tuple[str, int]
"""A stream and how many of its commands have been done, counted from the begin of a part (it may be negative)."""
Awaited = Place | int
"""The record that a wait refers to; or, where an earlier passage recorded it, which of the passage's earlier events."""
LONGEST_PERIOD = 8
"""Parts after which a pattern may repeat: prefetching in groups of P blocks repeats after P."""


KERNELS: Final = 0
RECORD: Final = 1
WAIT: Final = 2
COPY: Final = 3
COLLECTIVE: Final = 4
KINDS: dict[type, int] = {Compute: KERNELS, Record: RECORD, Wait: WAIT, Copy: COPY, Collective: COLLECTIVE}
"""What a command on a stream is."""


class Item:
    """One command on its stream."""

    __slots__ = ("awaited", "command", "kind", "number", "offset", "piece", "pieces", "seconds")

    def __init__(self, command: Command, number: int, piece: int, offset: float) -> None:
        self.command = command
        self.kind = KINDS[type(command)]
        self.number = number
        """Which of its part's commands."""
        self.piece = piece
        self.offset = offset
        """Host seconds from the piece's release to this command's issue."""
        self.awaited: Awaited | None = None
        """Of a wait."""
        self.pieces: Pieces = ()
        """Of kernels."""
        self.seconds = 0.0
        """Of kernels: all of them alone."""


class HostSpan(NamedTuple):
    """Host work within a piece."""

    name: str
    offset: float
    duration: float


class Piece:
    """Commands that the host issues one after the other without blocking, except at the end."""

    __slots__ = ("blocker", "cost", "ends", "event", "work")

    def __init__(
        self, cost: float, ends: tuple[Place, ...], work: tuple[HostSpan, ...], blocker: Synchronize | Copy | None
    ) -> None:
        self.cost = cost
        """Host seconds of all of them."""
        self.ends = ends
        """Streams that it adds to, with the place behind its last command."""
        self.work = work
        self.blocker = blocker
        """What the host waits for at the end."""
        self.event: Awaited | None = None
        """Of a synchronisation with an event."""


class PartPlan:
    """A part as the engine reads it."""

    def __init__(
        self, part: Part, awaited: Sequence[Awaited], like: int, costs: HostCosts, durations: Durations, longest: int
    ) -> None:
        self.part, self.awaited, self.like = part, awaited, like
        self.items: dict[str, list[Item]] = {}
        self.pieces: list[Piece] = []
        self._awaited, self._costs, self._durations, self._longest = iter(awaited), costs, durations, longest
        self._open()
        for number, command in enumerate(part.commands()):
            self._read(number, command)
        self._close()
        self.counts = {stream: len(items) for stream, items in self.items.items()}

    def _open(self) -> None:
        self._offset, self._added, self._work = 0.0, dict[str, int](), list[HostSpan]()

    def _read(self, number: int, command: Command) -> None:
        """Put a command on its stream, and look whether a piece ends with it."""
        stream = stream_of(command)
        if stream is not None:
            self._offset += self._costs.of(command)
            item = Item(command, number, len(self.pieces), self._offset)
            if isinstance(command, Wait):
                item.awaited = next(self._awaited)
            elif isinstance(command, Compute):
                item.pieces = self._durations.pieces(command)
                item.seconds = sum([piece.seconds for piece in item.pieces])
            self.items.setdefault(stream, []).append(item)
            self._added[stream] = self._added.get(stream, 0) + 1
        if isinstance(command, Synchronize) or (isinstance(command, Copy) and command.host_memory != "pinned"):
            self._close(command)
        elif stream is not None:
            if self._added[stream] >= self._longest:
                self._close()
        else:
            if isinstance(command, HostWork):
                self._work.append(HostSpan(command.name, self._offset, command.duration))
            self._offset += self._costs.of(command)

    def _close(self, blocker: Synchronize | Copy | None = None) -> None:
        """End the current piece."""
        if blocker is None and not self._offset and not self._added and not self._work:
            return
        ends = tuple((stream, len(self.items[stream])) for stream in self._added)
        piece = Piece(self._offset, ends, tuple(self._work), blocker)
        if isinstance(blocker, Synchronize) and blocker.scope == "event":
            piece.event = next(self._awaited)
        self.pieces.append(piece)
        self._open()


class Plans:
    """Plans of everything that one program issues, each different one made once."""

    def __init__(self, costs: HostCosts, durations: Durations, queue_depth: int) -> None:
        self._costs = costs
        self._durations = durations
        self._longest = max(1, queue_depth // 16)
        self._looks: dict[Hashable, tuple[int, PartPlan]] = {}
        self._likes: dict[Hashable, int] = {}
        self._passages: dict[int, PassagePlan] = {}
        self._sections: dict[int, list[PassagePlan]] = {}

    def of_section(self, commands: Sequence[Command]) -> "list[PassagePlan]":
        """The plans of a section's passages, the same ones for the same commands."""
        if id(commands) not in self._sections:
            self._sections[id(commands)] = [self._of_passage(passage) for passage in passages_of(commands)]
        return self._sections[id(commands)]

    def _of_passage(self, passage: Passage) -> "PassagePlan":
        if id(passage) not in self._passages:
            self._passages[id(passage)] = PassagePlan(passage, self)
        return self._passages[id(passage)]

    def of_part(self, part: Part, awaited: Sequence[Awaited]) -> tuple[int, PartPlan]:
        """The plan of a part, and a number that parts have in common which look alike.

        `awaited`: what its waits, and synchronisations with events, refer to, in order.
        """
        commands = (tuple(map(_look, part.before)), id(part.template), tuple(map(_look, part.after)))
        look = (commands, tuple(awaited))
        found = self._looks.get(look)
        if found is None:
            settled = (commands, tuple(None if isinstance(one, int) else one for one in awaited))
            like = self._likes.setdefault(settled, len(self._likes))
            plan = PartPlan(part, awaited, like, self._costs, self._durations, self._longest)
            found = self._looks[look] = (len(self._looks), plan)
        return found


SEEN: dict[type, Callable[[Any], Hashable]] = {
    Compute: attrgetter("stream", "kernels"),
    Copy: attrgetter("stream", "direction", "bytes", "host_memory", "calls"),
    Collective: attrgetter("stream", "kind", "bytes", "group"),
    Record: attrgetter("stream"),
    Wait: attrgetter("stream"),
    HostWork: attrgetter("name", "duration"),
}
"""What the engine sees of a command besides its type: no names, nor those of events."""


def _look(command: Command) -> Hashable:
    """What the engine sees of a command."""
    if isinstance(command, Synchronize):
        return Synchronize, command.scope, "" if command.scope == "event" else command.target
    kind: type = command.__class__
    return (kind, SEEN[kind](command)) if kind in SEEN else kind


class PassagePlan:
    """A passage as the engine reads it: the plans of its parts, and where each begins."""

    def __init__(self, passage: Passage, plans: Plans) -> None:
        self.passage = passage
        self.parts: list[PartPlan] = []
        self.begins: list[dict[str, int]] = []
        """Per part and stream, commands of the passage before it."""
        self.records: dict[str, Place] = {}
        """The last record of each event, counted from the passage's begin."""
        self.earlier: list[str] = []
        """Events that waits refer to and earlier passages recorded."""
        self.items: dict[str, list[Item]] = {}
        self.part_numbers: dict[str, list[int]] = {}
        """Per stream, the part that each of its commands belongs to."""
        self._looks: list[int] = []
        counts: dict[str, int] = {}
        for part in passage:
            look, plan = plans.of_part(part, self._places(part, counts))
            self._looks.append(look)
            self.parts.append(plan)
            self.begins.append(dict(counts))
            for stream, items in plan.items.items():
                self.items.setdefault(stream, []).extend(items)
                self.part_numbers.setdefault(stream, []).extend([len(self.begins) - 1] * len(items))
                counts[stream] = counts.get(stream, 0) + len(items)
        self.counts = counts
        """Per stream, all its commands."""
        self._likes = [plan.like for plan in self.parts]
        self._alike: dict[tuple[int, bool], list[int]] = {}

    def _places(self, part: Part, begins: dict[str, int]) -> list[Awaited]:
        """For each wait of a part, its event's latest record, counted from the part's begin; or an earlier event."""
        awaited: list[Awaited] = []
        counts = dict(begins)
        for command in part.coarse():
            kind = command.__class__
            if kind is Wait:
                awaited.append(self._record(command.event, begins))  # type: ignore[union-attr]
            elif kind is Synchronize and command.scope == "event":  # type: ignore[union-attr]
                awaited.append(self._record(command.target, begins))  # type: ignore[union-attr]
            elif kind is Allocate or kind is Free:
                continue
            stream = stream_of(command)
            if stream is not None:
                added = 1 if part.template is not command else len(part.template.commands)
                counts[stream] = counts.get(stream, 0) + added
                if kind is Record:
                    self.records[command.event] = (stream, counts[stream])  # type: ignore[union-attr]
        return awaited

    def _record(self, event: str, begins: dict[str, int]) -> Awaited:
        if event not in self.records:
            if event not in self.earlier:
                self.earlier.append(event)
            return self.earlier.index(event)
        stream, count = self.records[event]
        return (stream, count - begins.get(stream, 0))

    def is_block(self, number: int) -> bool:
        """Whether a part is a transformer block."""
        return self.passage[number].template is not None

    def last_alike(self, part: int, period: int, *, settled: bool) -> int:
        """The last of the parts from `part` on that look like the ones `period` before; part - 1 if none does.

        `settled`: all events have fired that earlier passages recorded, so that it does not matter which a wait means.
        """
        key = (period, settled)
        if key not in self._alike:
            looks = self._likes if settled else self._looks
            last = [i - 1 for i in range(len(looks) + 1)]
            for i in range(len(looks) - 1, period - 1, -1):
                if looks[i] == looks[i - period]:
                    last[i] = last[i + 1]
            self._alike[key] = last
        return self._alike[key][part]

    def may_repeat(self, part: int) -> bool:
        """Whether this part may be like one of a few before, or the next ones like it."""
        like, likes = self._likes[part], self._likes
        return (
            like in likes[max(0, part - LONGEST_PERIOD) : part] or like in likes[part + 1 : part + 1 + LONGEST_PERIOD]
        )

    def per_period(self, stream: str, before: int, part: int) -> int:
        """Commands of a stream from one part to another."""
        return self.begins[part].get(stream, 0) - self.begins[before].get(stream, 0)

    def part_at(self, stream: str, place: int) -> int:
        """The part that issues a stream's command number `place` of this passage; -1 before the first."""
        numbers = self.part_numbers[stream]
        if place < 0:
            return -1
        return numbers[place] if place < len(numbers) else len(self.parts) - 1
