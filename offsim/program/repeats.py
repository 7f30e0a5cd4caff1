"""What a simulation left out because it repeats what the record holds: where that is, and how often it was again."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .commands import StreamProgram
from .passages import passages_of
from .spans import Span


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
    """Where blocks repeat: the section of the record, its passage, and the first part that may have been at work."""
    where: tuple[int, int] = (0, 0)
    """Where blocks repeat: the passage of `section` and the part that is at work instead in the first repetition."""
    parts: int = 0
    """Parts of the passage from one repetition of blocks to the next; 0 where sections repeat."""
    lag: float | None = None
    """Seconds from the record to its first repetition; the period, unless told."""
    by_end: bool = False
    """Whether spans belong to it that end in (begin, after], not those that start in [begin, after): what is at work
    at its end was so at its begin."""
    tracks: frozenset[str] = frozenset()
    """Where blocks repeat: the tracks that went on."""

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


class Boundary(NamedTuple):
    """What is at work when a repetition of blocks begins, and just so when it ends; by rank and track."""

    lasting: dict[tuple[int, str], float]
    """Seconds for which it lasts on."""
    ends: dict[tuple[int, str], float]
    """Where the record resumes: its end in the record, after the last repetition; other commands may follow there."""

    def cut(self, repeat: Repeat, span: Span) -> Span:
        """A span of the record that was at work when the first repetition began, as long as it was then."""
        key = (span.rank, span.track)
        if key in self.lasting and span.start < repeat.resumes < span.end:
            return span._replace(end=repeat.resumes + self.lasting[key])
        return span


def boundary_of(repeat: Repeat, spans: Sequence[Span]) -> Boundary:
    """What is at work between repetitions of blocks; nothing, of sections."""
    going = [span for span in spans if span.track in repeat.tracks]
    begun = [span for span in going if span.start < repeat.begin < span.end]
    left = [span for span in going if span.start < repeat.resumes < span.end]
    return Boundary(
        {(span.rank, span.track): span.end - repeat.begin for span in begun},
        {(span.rank, span.track): span.end for span in left},
    )


def repetitions(
    repeat: Repeat,
    placed: Sequence[tuple[Span, Span]],
    ends: Mapping[tuple[int, str], float],
    program: StreamProgram | None = None,
) -> list[tuple[Span, Span]]:
    """The spans that a repeat stands for, given as (span of the record, its real instants).

    `ends`: by rank and track, when that really ends which is at work at the end of the last repetition.
    """
    inside = [(recorded, span) for recorded, span in placed if repeat.covers(recorded)]
    found = []
    for times in range(1, repeat.times + 1):
        names = renamed(program, repeat, times) if program is not None and repeat.parts else {}
        for recorded, span in inside:
            again = _shift(span, repeat.later(times))._replace(name=names.get(span.name, span.name))
            if times == repeat.times and recorded.end > repeat.after:
                again = again._replace(end=ends.get((span.rank, span.track), again.end))
            found.append((recorded, again))
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
