"""A CUDA stream: a FIFO of commands.

A command starts when it has been issued and the one before it has ended. The stream is a SimPy process that wakes when
commands arrive while it has none; from then on each one's end starts the next, by a call.
"""

from collections.abc import Generator
from typing import Any

from simpy import Event, Process

from offsim.program.commands import COMPUTE, Collective, Copy, Wait
from offsim.program.spans import Delayed, SpanKind, Track

from .agenda import Alarm, cancel
from .collective import LastTransfer, Meeting
from .device import Device, nothing
from .environment import PromptEnvironment
from .gpu import KernelsInFlight
from .left_out import CaughtUpLateError
from .network import Batch
from .part_plan import KERNELS, RECORD, WAIT, Item
from .queue import Ahead, IssuedPassage, Queue, instant_tolerance


class Stream(Queue):
    """One stream of one rank."""

    def __init__(self, env: PromptEnvironment, name: str, device: Device) -> None:
        super().__init__(env.agenda, name)
        self.env = env
        self.device = device
        self.waits = False
        """Whether the stream waits for an event."""
        self.awaiting: tuple[object, ...] = ()
        """What the head waits for, as words."""
        self._journal = device.timeline.journal
        self._tracks: dict[str, Track] = {}
        self._marks = name == COMPUTE and device.at_mark is not None
        self._in: IssuedPassage | None = None
        self._in_part = -1
        """The part that it is in, of a stream with marks."""
        self._began = 0.0
        """When the head got its copy engine, or its multiprocessors for a collective."""
        self._command: Copy | Collective | None = None
        self._work = KernelsInFlight(self._computed)
        self._batch: Batch | None = None
        self._meeting: Meeting | None = None
        self._arrival: Event | None = None
        self._rest: Event | None = None
        self._issue: Alarm | None = None
        """When the head, which has been released, is issued."""
        self.process: Process | None = env.process(self._run())

    def let_go(self) -> None:
        """Forget everybody who knows this stream."""
        self._work, self._arrival, self._rest, self._in = KernelsInFlight(nothing), None, None, None
        self._issue = None
        self._waiters, self.ahead = [], []
        self.process = None

    def released(self, place: int) -> None:
        """Take note that the host has issued the first `place` commands."""
        self.issued = place
        if self._arrival is not None:
            arrival, self._arrival = self._arrival, None
            arrival.succeed()

    def _run(self) -> Generator[Event, Any, None]:
        while True:
            while not self.ahead or self.done == self.issued:
                self._arrival = self.env.event()
                yield self._arrival
            if self.starts_at < self.agenda.now - instant_tolerance(self.agenda.now):
                raise CaughtUpLateError
            self._rest = self.env.event()
            self._go_on()
            yield self._rest

    def _go_on(self) -> None:
        """Start commands until one takes time, or until there are none."""
        now, device = self.agenda.now, self.device
        while self.ahead and self.done != self.issued:
            ahead = self.ahead[0]
            place = self.done - ahead.start
            part = ahead.parts[place]
            if self._marks and (part != self._in_part or ahead.chunk is not self._in):
                self._enter(ahead, place)
                place = self.done - ahead.start
                part = self._in_part
            item = ahead.items[place]
            issued = ahead.released[part][item.piece] + item.offset
            if issued > now:
                self._issue = self.agenda.at(issued, self._issued)
                return
            self.started, self.busy = now, True
            self._running = (ahead.passage[part], item.number)
            kind = item.kind
            if kind == KERNELS:
                device.gpu.start(self._work, item.pieces, item.seconds)
                return
            if kind == RECORD:
                self._journal.events.extend((device.index, *self._running, now))
            elif kind == WAIT:
                if self._wait(ahead, place, item):
                    return
            elif self._start(item):
                return
            self._leave()
        assert self._rest is not None
        self._rest.succeed()

    def _issued(self) -> None:
        """The head has been issued."""
        self._issue = None
        self._go_on()

    def come_sooner(self) -> None:
        """Take note that what the stream waits for is issued sooner than it was to be."""
        if self._issue is not None:
            cancel(self._issue)
            self._issue = self.agenda.at(self.starts_at, self._issued)

    def _enter(self, ahead: Ahead, place: int) -> None:
        """A section or a block may begin here; then the state may repeat and everything move on."""
        chunk, part = ahead.chunk, ahead.parts[place]
        assert self.device.at_mark is not None
        if place == 0 and chunk.first:
            self.device.at_mark(chunk, -1)
        if chunk.plan.is_block(part):
            self.device.at_mark(chunk, part)
        self._in, self._in_part = chunk, ahead.parts[self.done - ahead.start]

    def _start(self, item: Item) -> bool:
        """Start a copy or a collective; whether it takes time."""
        command = item.command
        if isinstance(command, Copy):
            self._command = command
            self._request(command)
            return True
        assert isinstance(command, Collective)
        self._command = command
        return self._collective(command)

    def _end(self) -> None:
        """The head has ended: the next one starts."""
        self._leave()
        self._go_on()

    def _leave(self) -> None:
        """The head has ended."""
        self.busy, self._later, self.awaiting = False, None, ()
        self.done += 1
        ahead = self.ahead[0]
        if self.done == ahead.end:
            del self.ahead[0]
            if self.name == COMPUTE:
                ahead.chunk.passed.compute_end = self.agenda.now
        self.ends.append(self.agenda.now)
        if self._awaited <= self.done:
            self._wake()

    def _note(self, kind: SpanKind, start: float, end: float, bytes_: float, delays: Delayed, on: str = "") -> None:
        """Record what this stream (or, with it, an engine) did from then to then."""
        if end > start:
            track = self._tracks.get(kind + on) or self._track(kind, on)
            part, number = self._running if self._later is None else self.label_at(start)
            self._journal.spans.extend((track, part, number, start, end, bytes_, delays))

    def _track(self, kind: SpanKind, on: str) -> Track:
        """`on`: the engine, or of a wait the stream that was waited for."""
        name, cause = (self.name, on) if kind == "wait" else (on or self.name, "")
        track = self._tracks[kind + on] = (self.device.index, name, kind, cause)
        return track

    def _computed(self) -> None:
        """The kernels have ended."""
        work = self._work
        delays = tuple(work.lost.items()) if work.lost else ()
        self._note("compute", work.started, self.agenda.now, 0.0, delays)
        self._end()

    def _wait(self, ahead: Ahead, place: int, item: Item) -> bool:
        """Wait for an event, if it has not fired; whether it has not."""
        recorded = ahead.chunk.recorded(ahead.parts[place], item.awaited) if item.awaited is not None else None
        if recorded is None or recorded[0].done >= recorded[1]:
            return False
        stream, count = recorded
        assert isinstance(item.command, Wait)
        self.awaiting = ("event {!r} on stream {!r}", item.command.event, stream.name)
        stream.reached(count, self._waited, self.name)
        self.waits = True
        return True

    def _waited(self) -> None:
        """The event has fired."""
        self.waits = False
        if self.agenda.now - self.started > instant_tolerance(self.agenda.now):
            self._note("wait", self.started, self.agenda.now, 0.0, (), str(self.awaiting[2]))
        self._end()

    # A copy: its turn on the engine, fixed latency, then bytes at the link's rate.

    def _request(self, command: Copy) -> None:
        direction, device = command.direction, self.device
        if device.kept.get(direction) == self.name or device.engines[direction].request(self.name, self._granted):
            self._granted()
        else:
            self.awaiting = ("the {} copy engine", direction)

    def _granted(self) -> None:
        """The engine is this stream's."""
        assert isinstance(self._command, Copy)
        self.awaiting = ()
        self._began = self.agenda.now
        fixed = self.device.setup_seconds(self._command)
        if fixed:
            self.agenda.alarm(fixed, self._send)
        else:
            self._send()

    def _send(self) -> None:
        """The bytes flow."""
        command, device = self._command, self.device
        assert isinstance(command, Copy)
        device.gpu.set_active(command.direction, +1)
        self._batch = device.network.start(device.copies(command), command.bytes, self)

    def ended(self, batch: Batch) -> None:
        """Take note that the last byte of the copy has arrived."""
        self._batch = batch
        self.agenda.soon(self._copied)

    def _copied(self) -> None:
        command, batch, device = self._command, self._batch, self.device
        assert isinstance(command, Copy) and batch is not None
        direction, now = command.direction, self.agenda.now
        device.gpu.set_active(direction, -1)
        delays: Delayed = batch if batch.history else ()
        self._note(direction, self.started, now, command.bytes, delays)
        self._note(direction, self._began, now, command.bytes, delays, f"{direction} engine")
        device.kept.pop(direction, None)
        if self.next_is_copy(direction):
            device.kept[direction] = self.name
            device.engines[direction].granted = now
        else:
            device.engines[direction].release()
        self._end()

    # A collective: its kernel gets multiprocessors at a kernel boundary, then meets the other ranks.

    def _collective(self, command: Collective) -> bool:
        """Whether there are any other ranks."""
        if len(self.device.groups[command.group]) == 1:
            return False
        if not self.device.gpu.at_boundary(self._arrive):
            self._arrive()
        return True

    def _arrive(self) -> None:
        command, device = self._command, self.device
        assert isinstance(command, Collective)
        self._began = self.agenda.now
        device.gpu.set_active("collective", +1)
        self._meeting = device.arrive(command, self._met)
        self.awaiting = ("{} in {!r}", self._meeting, command.name)

    def _met(self) -> None:
        """The last transfer of this rank has ended."""
        command, meeting, device = self._command, self._meeting, self.device
        assert isinstance(command, Collective) and meeting is not None
        self._meeting = None
        device.gpu.set_active("collective", -1)
        arrived, began = self._began, meeting.began[device.index]
        if began - arrived > instant_tolerance(began):
            self._note("rendezvous", arrived, began, 0.0, ())
        delays: Delayed = LastTransfer(meeting, device.index) if meeting.delayed else ()
        self._note("collective", began, self.agenda.now, command.bytes, delays)
        self._end()
