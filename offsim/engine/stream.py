"""A CUDA stream: a FIFO of commands, one SimPy process.

A command starts when it has been issued and the one before it has ended. How many commands are done is all that others
need to know of a stream: a recorded event has fired once so many are done, and waits on events that have fired cost
nothing.
"""

from collections.abc import Callable, Generator
from math import inf
from typing import Any, Protocol

from simpy import Event
from simpy.events import Timeout

from offsim.program.commands import COMPUTE, Collective, Command, Compute, Copy, Part, Record, Wait
from offsim.program.timeline import Label

from .environment import PromptEnvironment
from .gpu import Work
from .issue import Item, PassagePlan

Place = tuple["Stream", int]
"""A stream and how many of its commands have then been done since the start."""


def instant_tolerance(now: float) -> float:
    """Instants that differ by less are the same, as are states whose seconds do: what rounding of sums leaves."""
    return 1e-13 * now + 1e-15


class Passed:
    """One section on one rank: when it was issued and done."""

    __slots__ = ("begin", "compute_end", "end", "section")

    def __init__(self, section: int, begin: float) -> None:
        self.section = section
        self.begin = self.end = self.compute_end = begin


class Chunk:
    """A passage as it is issued to a rank's streams: its plan, and when its pieces were released."""

    __slots__ = ("earlier", "first", "number", "passed", "plan", "released", "starts")

    def __init__(self, plan: PassagePlan, passed: Passed, number: int, starts: dict[str, int], *, first: bool) -> None:
        self.plan = plan
        self.passed = passed
        self.number = number
        """Which passage of its section it is."""
        self.first = first
        """Whether it is the first of its section on the compute stream."""
        self.starts = starts
        """Per stream, commands before this passage."""
        self.earlier: dict[str, Place] = {}
        """Events that this passage waits for and earlier ones recorded."""
        self.released: list[list[float]] = []
        """Per part, the host's clock at which each of its pieces began to be issued."""


class Waiter:
    """Somebody who waits until `place` commands of a stream are done."""

    __slots__ = ("event", "host", "place")

    def __init__(self, place: int, event: Event, *, host: bool) -> None:
        self.place = place
        self.event = event
        self.host = host


class Device(Protocol):
    """What a stream needs of its rank: how commands run."""

    def compute(self, stream: "Stream", command: Compute) -> Event: ...

    def copy(self, stream: "Stream", command: Copy) -> Generator[Event, Any, None]: ...

    def collective(self, stream: "Stream", command: Collective) -> Generator[Event, Any, None]: ...

    def computed(self, stream: "Stream") -> None: ...

    def recorded(self, chunk: Chunk, part: int, awaited: tuple[str, int] | str) -> Place | None: ...

    def note_wait(self, stream: "Stream", event: Label, cause: str) -> None: ...

    def note_event(self, event: Label) -> None: ...

    @property
    def at_mark(self) -> "Callable[[Chunk, int], None] | None": ...

    @property
    def check_host(self) -> "Callable[[], None]": ...


class Stream:
    """One stream of one rank."""

    def __init__(self, env: PromptEnvironment, name: str, device: "Device", *, marks: bool) -> None:
        self.env = env
        self.name = name
        self.device = device
        self.done = 0
        """Commands done since the start."""
        self.issued = 0
        """Commands that the host has released so far; some of them may carry a later instant."""
        self.busy = False
        self.started = 0.0
        self.awaiting = ""
        self.drained_at = 0.0
        self.work: Work | None = None
        """The kernels that it runs now, or ran last."""
        self.chunks: list[tuple[Chunk, list[Item], int]] = []
        """Passages with commands left, each with its commands here and how many there are before it."""
        self._running: Label = (Part(()), 0)
        self._later: tuple[float, Label] | None = None
        self._marks = marks
        self._waiters: list[Waiter] = []
        self._awaited = inf
        """The first place that somebody waits for."""
        self._arrival: Event | None = None
        self.process = env.process(self._run())

    def append(self, chunk: Chunk, items: list[Item], start: int) -> None:
        """A passage's commands: they start as its pieces are released."""
        self.chunks.append((chunk, items, start))

    def released(self, place: int) -> None:
        """The host has issued the first `place` commands."""
        self.issued = place
        if self._arrival is not None:
            arrival, self._arrival = self._arrival, None
            arrival.succeed()

    def reached(self, place: int, *, host: bool = False) -> Event:
        """Fires when `place` commands are done."""
        event = self.env.event()
        self._waiters.append(Waiter(place, event, host=host))
        self._awaited = min(self._awaited, place)
        return event

    @property
    def head(self) -> Command:
        """The next command, or the one that runs."""
        _, items, start = self.chunks[0]
        return items[self.done - start].command

    @property
    def idle(self) -> bool:
        return self.done == self.issued

    def move_on(self, count: int, *, together: bool) -> None:
        """Take `count` more commands as done; who waits, waits for so many more, hosts only if they move `together`."""
        self.done += count
        if together:
            self.issued += count
        for waiter in self._waiters:
            if together or not waiter.host:
                waiter.place += count
        if self.busy:
            self._later = (self.env.now - instant_tolerance(self.env.now), self._label())
        self._wake()

    def label_at(self, start: float) -> Label:
        """What a span that starts then is called: one that starts after a skip belongs to what comes after."""
        if self._later is not None and start >= self._later[0]:
            return self._later[1]
        return self._running

    def _label(self) -> Label:
        """What the next command is called."""
        chunk, items, start = self.chunks[0]
        part = chunk.plan.part_at(self.name, self.done - start)
        return chunk.plan.passage[part], items[self.done - start].number

    def next_is_copy(self, direction: str) -> bool:
        """Whether the next work after the current one is an issued copy of this direction; records don't count."""
        place, now = self.done + 1, self.env.now
        for chunk, items, start in self.chunks:
            while place < self.issued and place - start < len(items):
                item = items[place - start]
                part = chunk.plan.part_at(self.name, place - start)
                if chunk.released[part][item.piece] + item.offset > now:
                    return False
                if item.command.__class__ is not Record:
                    return item.command.__class__ is Copy and item.command.direction == direction
                place += 1
        return False

    def _run(self) -> Generator[Event, Any, None]:
        env, device = self.env, self.device
        current: Chunk | None = None
        part = first = end = 0
        while True:
            while not self.chunks or self.done == self.issued:
                if self.chunks:
                    device.check_host()
                self._arrival = env.event()
                yield self._arrival
            chunk, items, start = self.chunks[0]
            place = self.done - start
            if not first <= place < end or chunk is not current:
                part, first, end = self._part(chunk, place)
                current = chunk
                if self._marks and place == first:
                    self._mark(chunk, part, place)
                    place = self.done - start
                    part, first, end = self._part(chunk, place)
            item = items[place]
            issued = chunk.released[part][item.piece] + item.offset
            if issued > env.now:
                device.check_host()
                yield Timeout(env, issued - env.now)
                place = self.done - start  # another one, if meanwhile blocks were skipped
                part, first, end = self._part(chunk, place)
                item = items[place]
            command = item.command
            self.started, self.busy = env.now, True
            self._running = (chunk.plan.passage[part], item.number)
            kind = command.__class__
            if kind is Compute:
                yield device.compute(self, command)  # type: ignore[arg-type]
                device.computed(self)
            elif kind is Record:
                device.note_event(self.label_at(env.now))
            elif kind is Wait:
                if item.awaited is not None:
                    yield from self._wait(chunk, part, item)
            elif kind is Copy:
                yield from device.copy(self, command)  # type: ignore[arg-type]
            else:
                yield from device.collective(self, command)  # type: ignore[arg-type]
            self.busy, self._later = False, None
            self._leave()

    def _part(self, chunk: Chunk, place: int) -> tuple[int, int, int]:
        """The part that a command of a passage belongs to, with its first and last place on this stream."""
        plan = chunk.plan
        part = plan.part_at(self.name, place)
        first = plan.begins[part].get(self.name, 0)
        return part, first, first + plan.parts[part].counts[self.name]

    def _mark(self, chunk: Chunk, part: int, place: int) -> None:
        """A section or a block begins."""
        assert self.device.at_mark is not None
        if place == 0 and chunk.first:
            self.device.at_mark(chunk, -1)
        if chunk.plan.is_block(part):
            self.device.at_mark(chunk, part)

    def _leave(self) -> None:
        """The head command has ended."""
        self.done += 1
        chunk, items, start = self.chunks[0]
        if self.done == start + len(items):
            del self.chunks[0]
            if self.name == COMPUTE:
                chunk.passed.compute_end = self.env.now
        self.drained_at = self.env.now
        if self._awaited <= self.done:
            self._wake()

    def _wake(self) -> None:
        """Let those go on whose place has been reached."""
        ready = [waiter for waiter in self._waiters if waiter.place <= self.done]
        self._waiters = [waiter for waiter in self._waiters if waiter.place > self.done]
        self._awaited = min([waiter.place for waiter in self._waiters], default=inf)
        for waiter in ready:
            waiter.event.succeed()

    def _wait(self, chunk: Chunk, part: int, item: Item) -> Generator[Event, Any, None]:
        assert isinstance(item.command, Wait) and item.awaited is not None
        place = self.device.recorded(chunk, part, item.awaited)
        if place is None or place[0].done >= place[1]:
            return
        stream, count = place
        self.awaiting = f"event {item.command.event!r} on stream {stream.name!r}"
        yield stream.reached(count)
        self.device.note_wait(self, self.label_at(self.started), stream.name)
        self.awaiting = ""
