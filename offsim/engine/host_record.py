"""What a host thread does is noted at real instants; what it waits for also in the record's time.

The record's time stands still where blocks are left out, but a host that has issued them all goes on. What it waits for
then has, in the record's time, the instant at which the record resumes.
"""

from offsim.program.host_track import Again, Done, Edge, HostTrack
from offsim.program.spans import SpanKind
from offsim.program.timeline import Timeline

from .agenda import Agenda
from .queue import IssuedPassage, instant_tolerance, sooner


class HostRecord:
    """Notes of one rank's host thread."""

    def __init__(self, agenda: Agenda, rank: int, timeline: Timeline) -> None:
        self.agenda = agenda
        self.rank = rank
        self._entries = timeline.hosts.setdefault(rank, HostTrack()).entries
        self._spans = timeline.named
        self._since = 0.0
        """When it began to wait, in the record's time."""
        self._waiting: Done | None = None
        """What the host waits in."""

    @property
    def length(self) -> int:
        """How many notes there are."""
        return len(self._entries)

    def edge(self, section: int, at: float, *, ends: bool = False) -> None:
        """Note that the host begins a section, or ends it."""
        self._entries.append(Edge(section, at + self.agenda.skipped, ends))

    def work(self, chunk: IssuedPassage, part: int, number: int, start: float, end: float) -> None:
        """Note that the host is busy with a command of a part."""
        later = self.agenda.skipped
        self._entries.append(Done("host", chunk.plan.passage, part, number, start + later, end + later))

    def wait(self, chunk: IssuedPassage, part: int, number: int, since: float, name: str = "") -> None:
        """Note that the host begins to wait: in a command of a part, or (named) before it issues what comes next."""
        kind: SpanKind = "host" if name else "blocked"
        real = since + self.agenda.skipped
        self._waiting = Done(kind, chunk.plan.passage, part, number, real, real, "", name)
        self._since = max(since, self.agenda.now)

    def waited(self, until: float, cause: str) -> None:
        """Note that the host has waited for a stream."""
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        real = until + self.agenda.skipped
        if real - waiting.start > instant_tolerance(real):
            done = waiting._replace(end=real, cause="" if waiting.name else cause)
            self._entries.append(done)
            if until > self._since and not waiting.name:
                self._spans.append(done.span(self.rank)._replace(start=self._since, end=until))

    def again(self, first: int, times: int, period: float, parts: int = 0, sections: int = 0) -> None:
        """Note that the host does `times` times more what the notes since `first` say, which took a period."""
        waiting = self._waiting
        self._entries.append(Again(first, len(self._entries), times, period, waiting, parts, sections))
        if waiting is not None:
            self._waiting = waiting.again(times * parts, times * period)

    def stay(self, seconds: float) -> None:
        """Note that the host goes on where so many seconds are left out, in which the record's time stands still."""
        self._since = sooner(self._since, self.agenda.now, seconds)
