"""The record of a run of a program: spans on tracks, and when each section began and ended.

Simulation and replay write the same record, so the same tables read it. Where a simulation skipped repeated steps, the
record holds the step once with how often it repeats; `steps` and `shifted_spans` expand it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

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
    """After section `section` of the record, the next `times` sections repeated it, `period` seconds each."""

    section: int
    times: int
    period: float
    begin: float
    """Instant of the record at which the repeated section began."""
    after: float
    """Instant of the record after which everything is later by times x period."""


@dataclass
class Timeline:
    """Spans and section windows of every simulated (or live) rank."""

    ranks: int
    """Ranks of the program."""
    represented: dict[int, int]
    """Simulated rank -> how many identical ranks it stands for."""
    spans: list[Span] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    capacities: dict[str, float] = field(default_factory=dict)
    instants: dict[tuple[int, str], float] = field(default_factory=dict)
    """(rank, event): when its latest record was reached."""

    def window(self, rank: int, section: int) -> Window:
        """The window in the record that stands for a section: its own, or the one it repeats."""
        recorded = self.recorded_section(section)
        return self._windows()[rank, recorded]

    def _windows(self) -> dict[tuple[int, int], Window]:
        return {(window.rank, window.section): window for window in self.windows}

    def recorded_section(self, section: int) -> int:
        """The section whose record stands for `section`."""
        for repeat in self.repeats:
            if repeat.section < section <= repeat.section + repeat.times:
                return repeat.section
        return section

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
        return sum(repeat.times * repeat.period for repeat in self.repeats if repeat.after <= instant)

    def shifted_spans(self) -> Iterator[Span]:
        """All spans at their real instants, repeated ones included."""
        for span in self.spans:
            yield _shift(span, self.delay_at(span.start))
        for repeat in self.repeats:
            earlier = self.delay_at(repeat.begin)
            inside = [span for span in self.spans if repeat.begin <= span.start < repeat.after]
            for k in range(1, repeat.times + 1):
                for span in inside:
                    yield _shift(span, earlier + k * repeat.period)


def _shift(span: Span, by: float) -> Span:
    return span._replace(start=span.start + by, end=span.end + by) if by else span
