"""The host thread of one rank: issues commands in order and runs ahead until something blocks it.

Its clock runs ahead of the simulation's: commands carry the instant at which they are issued, so a launch costs no
event. It blocks on synchronisation, on pageable copies, and when a stream holds `queue_depth` commands.
"""

from collections.abc import Callable, Generator
from typing import Any

from simpy import Environment, Event

from offsim.program.commands import (
    COMPUTE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    HostWork,
    Record,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.timeline import Repeat, Span, Window
from offsim.scenario.node import Overheads

from .host_costs import HostCosts
from .rank import Rank
from .steady_state import SteadyState
from .stream import Marker, RecordedEvent, Stream


class HostThread:
    """One rank's host thread, a SimPy process."""

    def __init__(
        self, env: Environment, rank: Rank, program: StreamProgram, overheads: Overheads, steady: SteadyState | None
    ) -> None:
        self.env = env
        self.rank = rank
        self.program = program
        self.clock = 0.0
        self.awaiting = ""
        self.steady = steady
        self.events: dict[str, RecordedEvent] = {}
        self.markers: list[tuple[Marker, float, float]] = []
        self.depth = overheads.queue_depth
        self._pushed = rank.stream(COMPUTE)
        self._costs = HostCosts(overheads)
        self._return_cost = overheads.synchronize.value
        self._issue: dict[type, Callable[[Any], Event | None]] = {
            Compute: self._compute,
            Copy: self._copy,
            Collective: self._collective,
            Record: self._record,
            Wait: self._wait,
            Synchronize: self._synchronize,
            Allocate: self._allocate,
            Free: lambda _: None,
            HostWork: self._host_work,
        }
        self.process = env.process(self._run())

    def _run(self) -> Generator[Event, Any, None]:
        sections, number = self.program.sections, 0
        issue, depth = self._issue, self.depth
        while number < len(sections):
            begin = self.clock
            for command in sections[number].commands:
                blocker = issue[command.__class__](command)
                if blocker is not None or len(self._pushed.queue) >= depth or command.__class__ is Synchronize:
                    yield from self._block(command, blocker)
            marker = Marker(number)
            self.rank.stream(COMPUTE).push(self.clock, marker)
            self.markers.append((marker, begin, self.clock))
            number += 1 + self._repeats(number, begin)
        for stream in self.rank.streams.values():
            drained = stream.drained()
            if drained is not None:
                self.awaiting = f"the end of stream {stream.name!r}"
                yield drained
        self.awaiting = ""

    def _block(self, command: Command, blocker: Event | None) -> Generator[Event, Any, None]:
        """Wait for what the command waits for, and for room in the stream it was put on."""
        start = self.clock
        if blocker is not None:
            self.awaiting = f"{command!r}"
            yield blocker
            self.awaiting = ""
            self.clock = max(self.clock, self.env.now)
            self._note_blocked(command, start)
        if command.__class__ is Synchronize:
            self.clock += self._return_cost
        if len(self._pushed.queue) >= self.depth:
            yield from self._make_room(self._pushed)

    def _note_blocked(self, command: Command, start: float) -> None:
        if self.clock > start:
            cause = self._awaited_stream(command)
            span = Span(self.rank.index, "host", "blocked", _title(command), start, self.clock, cause=cause)
            self.rank.timeline.spans.append(span)

    def _awaited_stream(self, command: Command) -> str:
        """The stream that the host waited for: of a device synchronisation, the one that drained last."""
        if not isinstance(command, Synchronize):
            return getattr(command, "stream", "")
        if command.scope == "event":
            return self.events[command.target].stream
        if command.scope == "stream":
            return command.target
        return max(self.rank.streams.values(), key=lambda stream: stream.drained_at).name

    def _make_room(self, stream: Stream) -> Generator[Event, Any, None]:
        """Block until there is room again; what drains until the host's own clock counts."""
        if self.clock > self.env.now:
            yield self.env.timeout(self.clock - self.env.now)
        if len(stream.queue) < self.depth:
            return
        # Blocked, it wakes when a sixteenth of the queue is free: the device cannot tell, and it spares events.
        enough, start = self.depth - self.depth // 16, self.clock
        while len(stream.queue) >= enough:
            yield stream.room(enough)
        self.clock = max(self.clock, self.env.now)
        if self.clock > start:
            name, rank = f"queue of {stream.name} full", self.rank.index
            span = Span(rank, "host", "host", name, start, self.clock)
            self.rank.timeline.spans.append(span)

    def _repeats(self, number: int, begin: float) -> int:
        """How many of the next sections repeat this one exactly and need no simulation."""
        if self.steady is None:
            return 0
        if self.clock > self.env.now + self._return_cost + 1e-15:
            self.steady.forget()
            return 0
        count = self.steady.repeats(self.program, number, self.rank, self.clock - self.env.now)
        if count:
            repeat = Repeat(number, count, self.clock - begin, begin, self.clock)
            self.rank.timeline.repeats.append(repeat)
        return count

    def finish(self) -> None:
        """Write the section windows, once the run is over."""
        for marker, begin, end in self.markers:
            reached = marker.reached if marker.reached is not None else end
            self.rank.timeline.windows.append(Window(self.rank.index, marker.section, begin, end, reached))

    def _put(self, command: Compute | Copy | Collective | Record | Wait, recorded: RecordedEvent | None = None) -> None:
        """On the command's stream, issued now."""
        self._pushed = self.rank.stream(command.stream)
        self._pushed.push(self.clock, command, recorded)

    def _compute(self, command: Compute) -> None:
        self.clock += self._costs.of(command)
        self._put(command)

    def _copy(self, command: Copy) -> Event | None:
        self.clock += self._costs.of(command)
        self._put(command)
        return None if command.host_memory == "pinned" else self._pushed.drained()

    def _collective(self, command: Collective) -> None:
        self.clock += self._costs.of(command)
        self._put(command)

    def _record(self, command: Record) -> None:
        self.clock += self._costs.of(command)
        recorded = self.events[command.event] = RecordedEvent(command.event, command.stream)
        self._put(command, recorded)

    def _wait(self, command: Wait) -> None:
        self.clock += self._costs.of(command)
        self._put(command, self.events.get(command.event))

    def _synchronize(self, command: Synchronize) -> Event | None:
        if command.scope == "event":
            recorded = self.events.get(command.target)
            return None if recorded is None or recorded.done else recorded.wait(self.env)
        names = list(self.rank.streams) if command.scope == "device" else [command.target]
        pending = [drained for name in names if (drained := self.rank.stream(name).drained()) is not None]
        return self.env.all_of(pending) if len(pending) > 1 else pending[0] if pending else None

    def _allocate(self, command: Allocate) -> None:
        self.clock += self._costs.of(command)

    def _host_work(self, command: HostWork) -> None:
        self.rank.timeline.spans.append(
            Span(self.rank.index, "host", "host", command.name, self.clock, self.clock + command.duration)
        )
        self.clock += self._costs.of(command)


def _title(command: Command) -> str:
    if isinstance(command, Synchronize):
        return f"synchronize {command.scope} {command.target}".strip()
    return getattr(command, "name", type(command).__name__)
