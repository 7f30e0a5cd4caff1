"""A rank's trace against its program: the host's clock, every stream's order, the copy engines and the waits.

The walk issues the program's commands in host order. Each takes its own span off its stream; when it was done follows
from that, or for what leaves no span from what was done before. Every host span must begin at the clock that the costs
of commands add up to. The host looks at the queues a few commands at a time: up to what blocks it, to the end of a part
(a block), or to a sixteenth of a queue's depth. What is found wrong is put into words.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from offsim.program.commands import (
    WHOLE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    HostWork,
    Piece,
    Record,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.passages import passages_of, stream_of
from offsim.program.spans import Span
from offsim.scenario.scenario import Scenario

from .instants import Done, after, near
from .kernels import seconds_of

Tracks = Mapping[tuple[int, str], list[Span]]
Windows = Mapping[int, tuple[float, float]]
"""Of one rank: section -> when its host began and ended it."""


@dataclass
class Walk:
    """One rank's commands as its trace has them."""

    scenario: Scenario
    program: StreamProgram
    rank: int
    tracks: Tracks
    windows: Windows
    wrong: list[str] = field(default_factory=list)
    done: dict[str, list[Done]] = field(default_factory=lambda: defaultdict(list))
    """By stream, in order."""

    def __post_init__(self) -> None:
        self.spans = {track: deque(spans) for (rank, track), spans in self.tracks.items() if rank == self.rank}
        self.clock, self.section = 0.0, 0
        self.records: dict[str, tuple[str, float]] = {}
        self.ends: dict[str, list[float]] = defaultdict(list)
        self.written: dict[tuple[str, Piece], float] = {}
        self.read: dict[tuple[str, Piece], float] = {}
        """Until when each piece of a buffer is."""
        self.costs = self.scenario.node.host.overheads
        groups = self.program.groups
        self.members = {name: groups.of(name, self.rank) for name in groups.names}
        self._visit: dict[type, Callable[[Any], None]] = {
            Compute: self._compute,
            Copy: self._copy,
            Collective: self._collective,
            Record: self._record,
            Wait: self._wait,
            Synchronize: self._synchronize,
            HostWork: self._work,
            Allocate: lambda command: self._spend(self.costs.allocation.value),
            Free: lambda command: self._spend(0.0),
        }

    def run(self) -> "Walk":
        """Through the whole program."""
        for number, section in enumerate(self.program.sections):
            self.section = number
            begin, end = self.windows.get(self.section, (-1.0, -1.0))
            self._expect(near(begin, self.clock), f"{section.name} begins at {begin}, the host at {self.clock}")
            for commands in self._issued_together(section.commands):
                self._make_room(commands)
                for command in commands:
                    self._visit[type(command)](command)
            self._expect(near(end, self.clock), f"{section.name} ends at {end}, the host at {self.clock}")
        for track, spans in self.spans.items():
            self._expect(not spans, f"{track} has {len(spans)} spans that no command left, first {spans and spans[0]}")
        return self

    def _expect(self, holds: object, what: str) -> None:
        if not holds:
            self.wrong.append(f"rank {self.rank}: {what}")

    # The host

    def _issued_together(self, commands: Iterable[Command]) -> Iterator[list[Command]]:
        """Commands between which the host does not look whether queues are full."""
        longest = max(1, self.costs.queue_depth // 16)
        for part in (part for passage in passages_of(commands) for part in passage):
            together: list[Command] = []
            for command in part.commands():
                together.append(command)
                stream = stream_of(command)
                blocks = isinstance(command, Synchronize) or getattr(command, "host_memory", "pinned") != "pinned"
                if blocks or (stream and sum(stream_of(one) == stream for one in together) >= longest):
                    yield together
                    together = []
            if together:
                yield together

    def _make_room(self, commands: list[Command]) -> None:
        """The host waits until the queues have room for these."""
        streams = Counter(stream for command in commands if (stream := stream_of(command)))
        while True:
            places = {stream: len(self.ends[stream]) + n - self.costs.queue_depth for stream, n in streams.items()}
            full = {stream: self.ends[stream][place - 1] for stream, place in places.items() if place > 0}
            stream = next((stream for stream, until in full.items() if not after(self.clock, until)), None)
            if stream is None:
                return
            self._waited("host", f"queue of {stream} full", full[stream], "")

    def _spend(self, seconds: float) -> None:
        self.clock += seconds

    def _waited(self, kind: str, name: str, until: float, cause: str) -> None:
        """The host waits until then, if it is not later already."""
        if after(self.clock, until):
            return
        span = self._take("host", kind, name)
        if span is not None:
            fits = near(span.start, self.clock) and near(span.end, until) and span.cause == cause
            self._expect(fits, f"host waits {span}, not from {self.clock} to {until} for {cause}")
        self.clock = until

    def _take(self, track: str, kind: str, name: str) -> Span | None:
        """The next span of a track, which must be this one."""
        waiting = self.spans.get(track, deque())
        if waiting and waiting[0].kind == kind and waiting[0].name == name:
            return waiting.popleft()
        self._expect(False, f"{track}: {kind} {name!r} is missing, there is {waiting and waiting[0]}")
        return None

    def _work(self, command: HostWork) -> None:
        span = self._take("host", "host", command.name)
        if span is not None:
            fits = near(span.start, self.clock) and near(span.end, self.clock + command.duration)
            self._expect(fits, f"{command.name} is {span}, not {command.duration} s from {self.clock}")
        self.clock += command.duration

    def _synchronize(self, command: Synchronize) -> None:
        if command.scope == "event":
            found = [self.records[command.target]] if command.target in self.records else []
        else:
            streams = [command.target] if command.scope == "stream" else [*self.ends]
            found = [(stream, self.ends[stream][-1]) for stream in streams if self.ends[stream]]
        until = max((at for _, at in found), default=0.0)
        causes = [stream for stream, at in found if near(at, until)]
        title = f"synchronize {command.scope} {command.target}".strip()
        waiting = self.spans.get("host")
        cause = waiting[0].cause if waiting and waiting[0].cause in causes else "".join(causes[:1])
        self._waited("blocked", title, until, cause)
        self.clock += self.costs.synchronize.value

    # Streams

    def _issue(self, command: Command, cost: float) -> tuple[float, float]:
        """When a command is issued, and when its stream could begin it."""
        self._spend(cost)
        ends = self.ends[stream_of(command) or ""]
        return self.clock, max(self.clock, ends[-1] if ends else 0.0)

    def _finish(self, done: Done) -> None:
        stream = done.command.stream
        self._expect(after(done.end, done.start), f"{done.command} ends at {done.end}, before {done.start}")
        self.ends[stream].append(done.end)
        self.done[stream].append(done)

    def _record(self, command: Record) -> None:
        issued, ready = self._issue(command, self.costs.event.value)
        self._finish(Done(command, self.section, issued, ready, ready, ready, ready))
        self.records[command.event] = (command.stream, ready)

    def _wait(self, command: Wait) -> None:
        issued, ready = self._issue(command, self.costs.event.value)
        stream, fired = self.records.get(command.event, ("", 0.0))
        end = max(ready, fired)
        if not near(end, ready):
            span = self._take(command.stream, "wait", command.event)
            if span is not None:
                fits = near(span.start, ready) and near(span.end, end) and span.cause == stream
                self._expect(fits, f"{span}, not a wait from {ready} to {end} for {stream}")
        self._finish(Done(command, self.section, issued, ready, ready, ready, end))

    def _compute(self, command: Compute) -> None:
        issued, ready = self._issue(command, self.costs.launch.value * len(command.kernels))
        start = end = ready
        if sum(seconds_of(kernel, self.scenario) for kernel in command.kernels) > 0.0:
            span = self._take(command.stream, "compute", command.name)
            if span is not None:
                self._expect(near(span.start, ready), f"{command.name} begins at {span.start}, could at {ready}")
                start, end = span.start, span.end
        self._uses(command, command.reads, command.writes, start, end)
        self._finish(Done(command, self.section, issued, ready, start, start, end))

    def _copy(self, command: Copy) -> None:
        issued, ready = self._issue(command, self.costs.copy.value * command.calls)
        start = end = ready
        if command.bytes or self.setup(command):
            own = self._take(command.stream, command.direction, command.name)
            engine = own and self._take_served(command, own.end)
            if own is not None and engine is not None:
                fits = near(own.start, ready) and after(engine.start, ready)
                self._expect(
                    fits, f"copy {command.name}: {own} on the stream, {engine} on the engine, ready at {ready}"
                )
                same = own.bytes == engine.bytes == command.bytes
                self._expect(same, f"{command.name} moves {own.bytes} and {engine.bytes}, not {command.bytes} bytes")
                start, end = engine.start, engine.end
        down = command.direction == "H2D"
        buffers = (command.buffer,)
        self._uses(command, () if down else buffers, buffers if down else (), start, end)
        self._finish(Done(command, self.section, issued, ready, start, start, end))
        if command.host_memory != "pinned":
            self._waited("blocked", command.name, end, command.stream)

    def _take_served(self, command: Copy, end: float) -> Span | None:
        """The span of a copy on its engine, which serves streams in an order of its own."""
        waiting = self.spans.get(f"{command.direction} engine", deque())
        found = next((span for span in waiting if span.name == command.name and near(span.end, end)), None)
        self._expect(found, f"{command.direction} engine has no {command.name!r} that ends at {end}")
        if found is not None:
            waiting.remove(found)
        return found

    def setup(self, command: Copy) -> float:
        """Seconds of a copy before its bytes flow."""
        pcie = self.scenario.node.wiring.pcie
        return pcie.latency.value + (command.calls - 1) * (
            0.0 if pcie.further_call is None else pcie.further_call.value
        )

    def _collective(self, command: Collective) -> None:
        issued, ready = self._issue(command, self.costs.collective.value)
        start = began = end = ready
        if len(self.members[command.group]) > 1:
            waiting = self.spans.get(command.stream, deque())
            span = None
            if waiting and waiting[0].kind == "rendezvous":
                span = self._take(command.stream, "rendezvous", command.name)
                start, began = (span.start, span.end) if span is not None else (ready, ready)
                end = began
            if command.bytes or self.latency(command):
                found = self._take(command.stream, "collective", command.name)
                if found is not None:
                    self._expect(found.bytes == command.bytes, f"{command.name} moves {found.bytes} bytes")
                    self._expect(span is None or near(span.end, found.start), f"{found} does not follow {span}")
                    start, began, end = start if span is not None else found.start, found.start, found.end
            self._expect(after(start, ready), f"{command.name} begins at {start}, could not before {ready}")
        self._uses(command, command.reads, command.writes, start, end)
        self._finish(Done(command, self.section, issued, ready, start, began, end))

    def latency(self, command: Collective) -> float:
        """Fixed part of a collective."""
        collectives = self.scenario.node.wiring.collectives
        kind = collectives and (collectives.all_to_all if command.kind == "all-to-all" else collectives.all_gather)
        return kind.latency.value if kind else 0.0

    def _uses(
        self,
        command: Compute | Copy | Collective,
        reads: Iterable[str],
        writes: Iterable[str],
        start: float,
        end: float,
    ) -> None:
        """What is read has arrived before; what is written, nobody still reads."""
        piece: Piece = getattr(command, "piece", WHOLE)
        for buffer in reads:
            arrived = _latest(self.written, buffer, piece)
            self._expect(after(start, arrived), f"{command.name} reads {buffer} at {start}, which arrives at {arrived}")
            self.read[buffer, piece] = max(end, self.read.get((buffer, piece), 0.0))
        for buffer in writes:
            last = _latest(self.read, buffer, piece) if buffer not in reads else 0.0
            self._expect(after(start, last), f"{command.name} writes {buffer} at {start}, which is read until {last}")
            self.written[buffer, piece] = max(end, self.written.get((buffer, piece), 0.0))


def _latest(used: Mapping[tuple[str, Piece], float], buffer: str, piece: Piece) -> float:
    """The last instant at which something used what a piece has in common with others of its buffer."""
    pieces = {other for name, other in used if name == buffer} if piece == WHOLE else {piece, WHOLE}
    return max((used.get((buffer, one), 0.0) for one in pieces), default=0.0)
