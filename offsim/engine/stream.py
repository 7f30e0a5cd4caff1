"""A CUDA stream: a FIFO of commands, one SimPy process.

A command starts when it has been issued and the one before it has ended. Waits on events that have fired cost nothing.
"""

from collections import deque
from collections.abc import Generator
from itertools import islice
from typing import Any, Protocol

from simpy import Environment, Event

from offsim.program.commands import Collective, Command, Compute, Copy, Record, Wait


class RecordedEvent:
    """One recording of an event: fires when the stream reaches it."""

    __slots__ = ("done", "name", "stream", "waiters")

    def __init__(self, name: str, stream: str) -> None:
        self.name = name
        self.stream = stream
        self.done = False
        self.waiters: Event | None = None

    def fire(self) -> None:
        self.done = True
        if self.waiters is not None:
            self.waiters.succeed()

    def wait(self, env: Environment) -> Event:
        """A SimPy event that fires with this recording."""
        if self.waiters is None:
            self.waiters = env.event()
        return self.waiters


class Marker:
    """A place in a stream that notes when it is reached."""

    __slots__ = ("reached", "section")

    def __init__(self, section: int) -> None:
        self.section = section
        self.reached: float | None = None


Item = tuple[float, Command | Marker, RecordedEvent | None]


class Device(Protocol):
    """What a stream needs of its rank: how commands run."""

    def compute(self, stream: "Stream", command: Compute) -> Generator[Event, Any, None]: ...

    def copy(self, stream: "Stream", command: Copy) -> Generator[Event, Any, None]: ...

    def collective(self, stream: "Stream", command: Collective) -> Generator[Event, Any, None]: ...

    def note_wait(self, stream: "Stream", event: str, cause: str) -> None: ...

    def note_event(self, event: str) -> None: ...


class Stream:
    """One stream of one rank."""

    def __init__(self, env: Environment, name: str, device: "Device") -> None:
        self.env = env
        self.name = name
        self.device = device
        self.queue: deque[Item] = deque()
        self.started = 0.0
        self.awaiting = ""
        self.drained_at = 0.0
        self._arrival: Event | None = None
        self._room: Event | None = None
        self._limit = 0
        self._drained: Event | None = None
        self.process = env.process(self._run())

    def push(self, issued: float, command: Command | Marker, recorded: RecordedEvent | None = None) -> None:
        """A command that the host issues at instant `issued` (now or later)."""
        self.queue.append((issued, command, recorded))
        if self._arrival is not None:
            arrival, self._arrival = self._arrival, None
            arrival.succeed()

    def room(self, limit: int) -> Event:
        """Fires when a command leaves the queue and fewer than `limit` are left."""
        self._limit = limit
        if self._room is None:
            self._room = self.env.event()
        return self._room

    def drained(self) -> Event | None:
        """None if nothing is left to do, else an event that fires then."""
        if not self.queue:
            return None
        if self._drained is None:
            self._drained = self.env.event()
        return self._drained

    def next_is_copy(self, direction: str) -> bool:
        """Whether the next work after the current one is an issued copy of this direction; records don't count."""
        for issued, command, _ in islice(self.queue, 1, None):
            if issued > self.env.now:
                return False
            if not isinstance(command, Record):
                return isinstance(command, Copy) and command.direction == direction
        return False

    def _run(self) -> Generator[Event, Any, None]:
        env, queue = self.env, self.queue
        while True:
            if not queue:
                self._arrival = env.event()
                yield self._arrival
            issued, command, recorded = queue[0]
            if issued > env.now:
                yield env.timeout(issued - env.now)
            self.started = env.now
            if isinstance(command, Record):
                assert recorded is not None
                recorded.fire()
                self.device.note_event(recorded.name)
            elif isinstance(command, Wait):
                if recorded is not None and not recorded.done:
                    yield from self._wait(recorded)
            elif isinstance(command, Compute):
                yield from self.device.compute(self, command)
            elif isinstance(command, Copy):
                yield from self.device.copy(self, command)
            elif isinstance(command, Collective):
                yield from self.device.collective(self, command)
            else:
                assert isinstance(command, Marker)
                command.reached = env.now
            self._leave()

    def _leave(self) -> None:
        """The head command has ended."""
        self.queue.popleft()
        if self._room is not None and len(self.queue) < self._limit:
            room, self._room = self._room, None
            room.succeed()
        if not self.queue:
            self.drained_at = self.env.now
        if not self.queue and self._drained is not None:
            drained, self._drained = self._drained, None
            drained.succeed()

    def _wait(self, recorded: RecordedEvent) -> Generator[Event, Any, None]:
        self.awaiting = f"event {recorded.name!r} on stream {recorded.stream!r}"
        yield recorded.wait(self.env)
        self.device.note_wait(self, recorded.name, recorded.stream)
        self.awaiting = ""
