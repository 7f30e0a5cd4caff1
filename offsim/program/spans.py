"""What tracks did and when: as spans, and as an engine notes them."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

from .passages import Part

SpanKind = Literal["compute", "H2D", "D2H", "collective", "wait", "rendezvous", "host", "blocked"]


class Span(NamedTuple):
    """Something that a track did from `start` to `end` [s]."""

    rank: int
    track: str
    """A stream, `H2D engine`, `D2H engine` or `host`."""
    kind: SpanKind
    name: str
    start: float
    end: float
    bytes: float = 0.0
    delays: tuple[tuple[str, float], ...] = ()
    """(culprit, seconds): how long others held it up."""
    cause: str = ""
    """The stream that was waited for, where this is a wait."""

    @property
    def duration(self) -> float:
        return self.end - self.start

    @property
    def contention(self) -> float:
        """Seconds that the span lost to others."""
        return sum(seconds for _, seconds in self.delays)


class SectionWindow(NamedTuple):
    """One section on one rank: host clock at its start and end, and when its compute stream had done it all."""

    rank: int
    section: int
    start: float
    end: float
    compute_end: float


class Held(Protocol):
    """Something that others held up."""

    def delays(self) -> tuple[tuple[str, float], ...]:
        """Who held it up, and for how long: (culprit, seconds)."""
        ...


Delayed = tuple[tuple[str, float], ...] | Held
"""Delays, or what knows them once somebody asks."""
Track = tuple[int, str, SpanKind, str]
"""What many spans have in common: rank, track, kind, cause."""


class Named(NamedTuple):
    """A name that is there already, where others are looked up in a part."""

    name: str

    def name_at(self, number: int) -> str:  # noqa: ARG002
        """What a span of this name is called; see Part."""
        return self.name


JournalRow = tuple[Track, Part | Named, int, float, float, float, Delayed]
"""A span as it was noted: track, part, number (which name it as `part.name_at(number)`), start, end, bytes, delays."""

FIELDS = 7
"""Numbers of a row, which a journal holds end to end."""


class Journal:
    """Spans and events as an engine notes them: end to end in two lists, a command by its part and its number there.

    Names are only looked up, and delays worked out, when somebody reads them.
    """

    def __init__(self) -> None:
        self.spans: list[Any] = []
        """Rows of spans: track, part, number, start, end, bytes, delays."""
        self.events: list[Any] = []
        """Rows of records: rank, part, number, instant."""

    @property
    def length(self) -> int:
        """How many spans the journal has."""
        return len(self.spans) // FIELDS

    def read_spans(self) -> Iterator[Span]:
        """All spans; the journal has none afterwards."""
        rows = self.rows()
        self.spans = []
        for (rank, name, kind, cause), part, number, start, end, bytes_, delays in rows:
            lost = delays if isinstance(delays, tuple) else delays.delays()
            yield Span(rank, name, kind, part.name_at(number), start, end, bytes_, lost, cause)

    def rows(self) -> Iterator[JournalRow]:
        """All spans as they were noted."""
        return zip(*[iter(self.spans)] * FIELDS, strict=True)

    def read_events(self) -> Iterator[tuple[tuple[int, str], float]]:
        """Every record as ((rank, event), instant); the journal has none afterwards."""
        fields = iter(self.events)
        self.events = []
        for rank, part, number, at in zip(*[fields] * 4, strict=True):
            yield (rank, part.name_at(number)), at
