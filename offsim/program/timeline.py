"""The record of a run of a program: spans on tracks, and when each section began and ended.

Simulation and replay write the same record, so the same tables read it. Where a simulation skipped repeated steps, the
record holds the step (or blocks of it) once with how often it repeats; `step_seconds` and `shifted_spans` expand it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from .commands import Part, StreamProgram, passages_of

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
    """Of a wait: the stream that was waited for."""

    @property
    def duration(self) -> float:
        return self.end - self.start

    @property
    def contention(self) -> float:
        """Seconds lost to others."""
        return sum(seconds for _, seconds in self.delays)


class Window(NamedTuple):
    """One section on one rank: host clock at its start and end, and when its compute stream had done it all."""

    rank: int
    section: int
    start: float
    end: float
    compute_end: float


class Repeat(NamedTuple):
    """Something that a simulation left out because it repeats what the record holds from `begin` to `after`.

    Sections: the next `times` sections after `section` repeated it. Blocks: within `section`, what was done then (there
    or in an earlier section), was done `times` more times, each `parts` further on.
    """

    section: int
    times: int
    period: float
    """Seconds of each repetition."""
    begin: float
    """Instant of the record at which what is repeated began."""
    after: float
    """Instant of the record at which it ended."""
    resumes: float
    """Instant of the record from which on everything is later by times x period."""
    source: tuple[int, int, int] = (0, 0, 0)
    """Of blocks: the section of the record, its passage, and the first part of that which may have been at work."""
    where: tuple[int, int] = (0, 0)
    """Of blocks: the passage of `section` and the part which is at work instead in the first repetition."""
    parts: int = 0
    """Of blocks: parts of the passage from one repetition to the next; 0 where sections repeat."""
    lag: float | None = None
    """Seconds from the record to its first repetition; the period, unless told."""
    by_end: bool = False
    """Whether spans belong to it that end in (begin, after], not those that start in [begin, after): what is at work
    at its end was so at its begin."""
    tracks: frozenset[str] = frozenset()
    """Of blocks: the tracks that went on. Without `host`, host threads had issued all of it before, and what they did
    meanwhile is recorded as if they had done it afterwards."""

    def covers(self, span: Span) -> bool:
        """Whether a span of the record stands for its repetitions too."""
        if self.by_end:
            return self.begin < span.end <= self.after
        return self.begin <= span.start < self.after and not (self.parts and span.track not in self.tracks)

    def later(self, times: int) -> float:
        """How much later than the record the repetition number `times` was [s]."""
        return (self.period if self.lag is None else self.lag) + (times - 1) * self.period

    def moves(self, span: Span) -> tuple[float, float]:
        """How much later a span of the record really starts, and ends, because of the repetitions."""
        all_of_it = self.times * self.period
        if span.start >= self.resumes:
            return all_of_it, all_of_it
        if self.parts:
            # What goes on was at work when the repetitions began, and is again when they end; all else lasts longer.
            return 0.0, 0.0 if span.end < self.resumes or span.track in self.tracks else all_of_it
        if span.end < self.after or self.covers(span):
            return 0.0, 0.0
        return (all_of_it if self.by_end and span.start >= self.begin else 0.0), all_of_it


class Held(Protocol):
    """Something that others held up."""

    def delays(self) -> tuple[tuple[str, float], ...]:
        """(culprit, seconds)."""
        ...


Delayed = tuple[tuple[str, float], ...] | Held
"""Delays, or what knows them once somebody asks."""
Track = tuple[int, str, SpanKind, str]
"""What many spans have in common: rank, track, kind, cause."""


class Named(NamedTuple):
    """A name that is there already, where others are looked up in a part."""

    name: str

    def name_at(self, number: int) -> str:  # noqa: ARG002
        """See Part."""
        return self.name


Row = tuple[Track, Part | Named, int, float, float, float, Delayed]
"""A span as it was noted: track, part, number (which name it as `part.name_at(number)`), start, end, bytes, delays."""


class Journal:
    """Spans and events as an engine notes them: end to end in two lists, a command by its part and its number there.

    Names are only looked up, and delays worked out, when somebody reads them.
    """

    def __init__(self) -> None:
        self.spans: list[Any] = []
        """Of each: track, part, number, start, end, bytes, delays."""
        self.events: list[Any] = []
        """Of each record: rank, part, number, instant."""

    def read_spans(self) -> Iterator[Span]:
        """All spans; the journal has none afterwards."""
        rows = self.rows()
        self.spans = []
        for (rank, name, kind, cause), part, number, start, end, bytes_, delays in rows:
            lost = delays if isinstance(delays, tuple) else delays.delays()
            yield Span(rank, name, kind, part.name_at(number), start, end, bytes_, lost, cause)

    def rows(self) -> Iterator[Row]:
        """All spans as they were noted."""
        return zip(*[iter(self.spans)] * 7, strict=True)

    def read_events(self) -> Iterator[tuple[tuple[int, str], float]]:
        """((rank, event), instant) of every record; the journal has none afterwards."""
        fields = iter(self.events)
        self.events = []
        for rank, part, number, at in zip(*[fields] * 4, strict=True):
            yield (rank, part.name_at(number)), at


@dataclass
class Timeline:
    """Spans and section windows of every simulated (or live) rank."""

    ranks: int
    """Ranks of the program."""
    represented: dict[int, int]
    """Simulated rank -> how many identical ranks it stands for."""
    named: list[Span] = field(default_factory=list)
    journal: Journal = field(default_factory=Journal)
    windows: list[Window] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    capacities: dict[str, float] = field(default_factory=dict)
    measured: dict[tuple[int, str], float] = field(default_factory=dict)

    @property
    def spans(self) -> list[Span]:
        """All spans of the record."""
        if self.journal.spans:
            self.named += self.journal.read_spans()
        return self.named

    @spans.setter
    def spans(self, spans: list[Span]) -> None:
        self.named = spans

    def rows(self) -> Iterator[Row]:
        """All spans of the record, without looking up names and delays."""
        yield from self.journal.rows()
        for rank, track, kind, name, start, end, bytes_, delays, cause in self.named:
            yield (rank, track, kind, cause), Named(name), 0, start, end, bytes_, delays

    @property
    def instants(self) -> dict[tuple[int, str], float]:
        """(rank, event): when its latest record was reached."""
        if self.journal.events:
            self.measured.update(self.journal.read_events())
        return self.measured

    @instants.setter
    def instants(self, instants: dict[tuple[int, str], float]) -> None:
        self.measured = instants

    def window(self, rank: int, section: int) -> Window:
        """The window in the record that stands for a section: its own, or the one it repeats."""
        recorded = self.recorded_section(section)
        return self._windows()[rank, recorded]

    def _windows(self) -> dict[tuple[int, int], Window]:
        return {(window.rank, window.section): window for window in self.windows}

    def recorded_section(self, section: int) -> int:
        """The section whose record stands for `section`."""
        for repeat in self.repeats:
            if not repeat.parts and repeat.section < section <= repeat.section + repeat.times:
                return repeat.section
        return section

    def repeats_within(self, section: int) -> list[Repeat]:
        """Blocks of a recorded section that stand for more than themselves."""
        return [repeat for repeat in self.repeats if repeat.parts and repeat.section == section]

    def step_seconds(self, rank: int, section: int) -> float:
        """How long a recorded step really took, its repeated blocks included."""
        start, end = self.step_bounds(rank, section)
        return end - start + sum(repeat.times * repeat.period for repeat in self.repeats_within(section))

    def real(self, instant: float) -> float:
        """When an instant of the record really was."""
        return instant + self.delay_at(instant)

    def step_bounds(self, rank: int, section: int) -> tuple[float, float]:
        """Start and end of a step in the record's time.

        The host's clock where the step ends with a synchronisation (what a progress bar shows); else from the compute
        stream's end of the previous section to its own, since the host has long run ahead.
        """
        windows = self._windows()
        window = windows[rank, section]
        if window.compute_end <= window.end + 1e-9:
            return window.start, window.end
        earlier = [w.compute_end for (r, s), w in windows.items() if r == rank and s < section]
        return max(earlier, default=window.start), window.compute_end

    def delay_at(self, instant: float) -> float:
        """How much later an instant of the record really is: the skipped repeats before it."""
        return sum(repeat.times * repeat.period for repeat in self.repeats if repeat.resumes <= instant)

    def shifted_spans(self, program: StreamProgram | None = None) -> Iterator[Span]:
        """All spans at their real instants, repeated ones included, under their own names if `program` is given."""
        recorded = [(span, self._placed(span)) for span in self.spans]
        placed = [*recorded]
        for repeat in [repeat for repeat in self.repeats if repeat.parts]:
            for record, span in _repetitions(program, repeat, recorded):
                # To sections that repeat, what was left out happened where the record resumes.
                placed.append((record._replace(start=repeat.resumes, end=repeat.resumes), span))
        for repeat in [repeat for repeat in self.repeats if not repeat.parts]:
            placed += _repetitions(None, repeat, placed)
        for _, span in placed:
            yield span

    def _placed(self, span: Span) -> Span:
        """A span at its real instants: later, and longer if something was left out while it lasted."""
        moved = [repeat.moves(span) for repeat in self.repeats]
        if not moved:
            return span
        return span._replace(
            start=span.start + sum(start for start, _ in moved), end=span.end + sum(end for _, end in moved)
        )


def _repetitions(
    program: StreamProgram | None, repeat: Repeat, placed: list[tuple[Span, Span]]
) -> list[tuple[Span, Span]]:
    """What a repeat stands for, of (span of the record, its real instants)."""
    inside = [(recorded, span) for recorded, span in placed if repeat.covers(recorded)]
    found = []
    for times in range(1, repeat.times + 1):
        names = renamed(program, repeat, times) if program is not None else {}
        by = repeat.later(times)
        found += [
            (recorded, _shift(span, by)._replace(name=names.get(span.name, span.name))) for recorded, span in inside
        ]
    return found


def renamed(program: StreamProgram, repeat: Repeat, times: int) -> dict[str, str]:
    """What a span of a repeated block is called in repetition number `times`, as far as that differs."""
    recorded, source, first = repeat.source
    number, start = repeat.where
    before = passages_of(program.sections[recorded].commands)[source][first:]
    after = passages_of(program.sections[repeat.section].commands)[number][start + (times - 1) * repeat.parts :]
    names: dict[str, str] = {}
    for one, later in zip(before, after, strict=False):
        if one.size == later.size:
            for place in range(one.size):
                names.setdefault(one.name_at(place), later.name_at(place))
    return names


def _shift(span: Span, by: float) -> Span:
    return span._replace(start=span.start + by, end=span.end + by) if by else span
