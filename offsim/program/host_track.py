"""What a host thread did, at real instants: nothing of it stands still where steps or blocks are left out.

A device's record stops where something is left out, and a host thread may go on meanwhile. So it has a record of its
own, in the order in which it did things, which says where it did again what it had done before.
"""

from collections.abc import Iterator
from typing import NamedTuple

from .passages import Passage
from .spans import Span, SpanKind


class Done(NamedTuple):
    """Something that the host did, or waited for, from `start` to `end` [s]."""

    kind: SpanKind
    passage: Passage
    part: int
    number: int
    """Which of its part's commands it was, or belonged to."""
    start: float
    end: float
    cause: str = ""
    name: str = ""
    """Where it is not called what its command is."""

    def again(self, parts: int, seconds: float) -> "Done":
        """What the host does again, so many parts further on and so much later."""
        return self._replace(part=self.part + parts, start=self.start + seconds, end=self.end + seconds)

    def span(self, rank: int) -> Span:
        """The span of a rank that this is."""
        name = self.name or self.passage[self.part].name_at(self.number)
        return Span(rank, "host", self.kind, name, self.start, self.end, cause=self.cause)


class Edge(NamedTuple):
    """The host began a section, or ended it."""

    section: int
    at: float
    ends: bool


class Again(NamedTuple):
    """The host did `times` more times what the entries from `first` to before `last` say, each `period` later."""

    first: int
    last: int
    times: int
    period: float
    waiting: Done | None
    """What it waited in when it began again; what it waited in likewise at first, is the first of the entries."""
    parts: int = 0
    """Parts of the passage from one time to the next."""
    sections: int = 0

    def waits_in(self, first: Done) -> bool:
        """Whether the first of the entries is a wait that had begun before: it may have begun at any time."""
        waiting = self.waiting
        return waiting is not None and (first.part + self.parts, first.number) == (waiting.part, waiting.number)


TrackEntry = Done | Edge | Again


class HostTrack:
    """What the host thread of one rank did."""

    def __init__(self) -> None:
        self.entries: list[TrackEntry] = []

    def spans(self, rank: int) -> Iterator[Span]:
        """All that the host did, in order."""
        for entry in self._written_out(0, len(self.entries)):
            if isinstance(entry, Done):
                yield entry.span(rank)

    def windows(self) -> dict[int, tuple[float, float]]:
        """When the host began and ended each section [s]."""
        edges = [entry for entry in self._written_out(0, len(self.entries)) if isinstance(entry, Edge)]
        begins = {edge.section: edge.at for edge in edges if not edge.ends}
        return {edge.section: (begins[edge.section], edge.at) for edge in edges if edge.ends}

    def _written_out(self, first: int, last: int) -> Iterator[Done | Edge]:
        """Entries from `first` to before `last`, repetitions included."""
        for entry in self.entries[first:last]:
            if isinstance(entry, Again):
                for time in range(1, entry.times + 1):
                    yield from self._repeated(entry, time)
            else:
                yield entry

    def _repeated(self, again: Again, time: int) -> Iterator[Done | Edge]:
        """Repetition number `time`."""
        later = time * again.period
        for i, entry in enumerate(self._written_out(again.first, again.last)):
            if isinstance(entry, Edge):
                yield Edge(entry.section + time * again.sections, entry.at + later, entry.ends)
            elif i == 0 and again.waiting is not None and again.waits_in(entry):
                waiting = again.waiting.again((time - 1) * again.parts, later - again.period)
                yield waiting._replace(end=entry.end + later, cause=entry.cause)
            else:
                yield entry.again(time * again.parts, later)
