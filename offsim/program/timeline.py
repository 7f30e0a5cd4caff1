"""The record of a run of a program: spans on tracks, and when each section began and ended.

Simulation and replay write the same record, so the same tables read it. Where a simulation skipped repeated steps, the
record holds the step (or blocks of it) once with how often it repeats; `step_seconds` and `shifted_spans` expand it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from offsim.scenario.faults import ScenarioError

from .commands import StreamProgram
from .host_track import HostTrack
from .repeats import Boundary, Repeat, boundary_of, repetitions
from .section_index import SectionIndex
from .spans import Journal, JournalRow, Named, SectionWindow, Span

MOST_SPANS = 4_000_000
"""That a simulation notes, each in about 100 bytes. The catalogue's scenarios, steps left out, note 100 to 330."""


@dataclass
class Timeline:
    """Spans and section windows of every simulated (or live) rank."""

    ranks: int
    """Ranks of the program."""
    represented: dict[int, int]
    """Simulated rank -> how many identical ranks it stands for."""
    named: list[Span] = field(default_factory=list)
    journal: Journal = field(default_factory=Journal)
    hosts: dict[int, HostTrack] = field(default_factory=dict)
    """All that the host threads of simulated ranks did; spans of a host have only what that waited for."""
    windows: list[SectionWindow] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    capacities: dict[str, float] = field(default_factory=dict)
    measured: dict[tuple[int, str], float] = field(default_factory=dict)
    # Not init=False: compiled by mypyc, an attribute that __init__ does not set is never set.
    _index: SectionIndex | None = field(default=None, repr=False, compare=False)

    @property
    def spans(self) -> list[Span]:
        """All spans of the record."""
        if self.journal.spans:
            self.named += self.journal.read_spans()
        return self.named

    @spans.setter
    def spans(self, spans: list[Span]) -> None:
        self.named = spans

    def rows(self) -> Iterator[JournalRow]:
        """All spans of the record, without looking up names and delays."""
        yield from self.journal.rows()
        for rank, track, kind, name, start, end, bytes_, delays, cause in self.named:
            yield (rank, track, kind, cause), Named(name), 0, start, end, bytes_, delays

    def check_length(self) -> None:
        """Raise ScenarioError if the record has become longer than it may."""
        if self.journal.length > MOST_SPANS:
            raise ScenarioError(
                f"more than {MOST_SPANS:,} commands would be simulated one by one: ask for fewer workload.steps, "
                "or leave fold, steady_state and block_period of [simulation] on"
            )

    @property
    def instants(self) -> dict[tuple[int, str], float]:
        """When each (rank, event)'s latest record was reached."""
        if self.journal.events:
            self.measured.update(self.journal.read_events())
        return self.measured

    @instants.setter
    def instants(self, instants: dict[tuple[int, str], float]) -> None:
        self.measured = instants

    def window(self, rank: int, section: int) -> SectionWindow:
        """The window in the record that stands for a section: its own, or the one it repeats."""
        recorded = self.recorded_section(section)
        return self._by_section().windows[rank, recorded]

    def _by_section(self) -> SectionIndex:
        found = self._index
        if found is None or found.size != (len(self.windows), len(self.repeats)):
            found = self._index = SectionIndex(self.windows, self.repeats)
        return found

    def recorded_section(self, section: int) -> int:
        """The section whose record stands for `section`."""
        for repeat in self._by_section().steps:
            if repeat.section < section <= repeat.section + repeat.times:
                return repeat.section
        return section

    def repeats_within(self, section: int) -> list[Repeat]:
        """Blocks of a recorded section that stand for more than themselves."""
        return self._by_section().within.get(section, [])

    def step_seconds(self, rank: int, section: int) -> float:
        """How long a recorded section, such as a step, really took, its repeated blocks included [s]."""
        start, end = self.step_bounds(rank, section)
        return end - start + sum(repeat.times * repeat.period for repeat in self.repeats_within(section))

    def real(self, instant: float) -> float:
        """When an instant of the record really was."""
        return instant + self.delay_at(instant)

    def step_bounds(self, rank: int, section: int) -> tuple[float, float]:
        """Start and end of a section, such as a step, in the record's time.

        The host's clock where it ends with a synchronisation (what a progress bar shows); else from the compute
        stream's end of the previous section to its own, since the host has long run ahead. No two sections overlap.
        """
        index = self._by_section()
        window, earlier = index.windows[rank, section], index.earlier.get((rank, section))
        if window.compute_end <= window.end + 1e-9:
            start = window.start if earlier is None else max(window.start, earlier)
            return start, max(start, window.end)
        return window.start if earlier is None else earlier, window.compute_end

    def delay_at(self, instant: float) -> float:
        """How much later an instant of the record really is: the skipped repeats before it."""
        return sum(repeat.times * repeat.period for repeat in self.repeats if repeat.resumes <= instant)

    def shifted_spans(self, program: StreamProgram | None = None) -> Iterator[Span]:
        """All spans at their real instants, repeated ones included, under their own names if `program` is given."""
        boundaries = [boundary_of(repeat, self.spans) for repeat in self.repeats]
        spans = (span for span in self.spans if span.track != "host" or span.rank not in self.hosts)
        recorded = [(span, self._placed(span, boundaries)) for span in spans]
        placed = [*recorded]
        for repeat, boundary in zip(self.repeats, boundaries, strict=True):
            if repeat.parts:
                ends = {track: self.real(end) for track, end in boundary.ends.items()}
                for record, span in repetitions(repeat, recorded, ends, program):
                    # To sections that repeat, what was left out happened where the record resumes.
                    placed.append((record._replace(start=repeat.resumes, end=repeat.resumes), span))
        for repeat in [repeat for repeat in self.repeats if not repeat.parts]:
            placed += repetitions(repeat, placed, {})
        for _, span in placed:
            yield span
        for rank, track in self.hosts.items():
            yield from track.spans(rank)

    def _placed(self, span: Span, boundaries: list[Boundary]) -> Span:
        """A span at its real instants: later, and longer if something was left out while it lasted."""
        start = end = 0.0
        for repeat, boundary in zip(self.repeats, boundaries, strict=True):
            span = boundary.cut(repeat, span)
            later_start, later_end = repeat.moves(span)
            start, end = start + later_start, end + later_end
        return span._replace(start=span.start + start, end=span.end + end) if start or end else span
