"""Runs a stream program on a live device, command by command, and writes the Timeline that the engine writes.

Reads commands exactly as the engine does and knows no policy. Each section is planned once into a list of calls, so
that a command costs the host about what the framework's own call costs. A copy smaller than (its piece of) its buffer
is this rank's part.
Left out: graphs.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import ceil
from time import perf_counter, sleep
from typing import Any, NamedTuple

from offsim.engine.garbage import no_garbage_collection
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
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.spans import SectionWindow, Span, SpanKind
from offsim.program.timeline import Timeline

from .communicator import Communicator
from .contents import BufferContents
from .device import LiveDevice
from .kernels import Planner, block_key, device_copy
from .memory import Memory, PlannedCall, piece_of

SHORT_WAIT = 2e-3


class Note(NamedTuple):
    """A command of a run, between the two events that time it."""

    track: str
    kind: SpanKind
    name: str
    bytes: float
    begin: Any
    end: Any
    cause: str = ""


class Executor:
    """Runs one rank of one program on a live device."""

    def __init__(
        self,
        program: StreamProgram,
        device: LiveDevice,
        communicator: Communicator,
        contents: BufferContents,
        *,
        side_rows: Iterable[int] = (),
        spans: bool = False,
        copies_here: bool = True,
        checksums: bool = False,
    ) -> None:
        self.program, self.device, self.communicator, self.contents = program, device, communicator, contents
        self.spans, self.copies_here, self.checksums = spans, copies_here, checksums
        self.memory = Memory(program, device, contents, communicator.rank, frozenset(side_rows))
        self.memory.always_filled = checksums
        self.activations = self.memory.activations
        self.events: dict[str, Any] = {}
        self._recorded_on: dict[str, str] = {}
        self.notes: list[Note] = []
        self.sums: list[tuple[str, float]] = []
        self.host_notes: list[Span] = []
        self._zero = 0.0
        self._plan: dict[type, Callable[[Any, Planner], PlannedCall]] = {
            Compute: self._compute,
            Copy: self._copy,
            Collective: self._collective,
            Record: self._record,
            Wait: self._wait,
            Synchronize: self._synchronize,
            Allocate: lambda command, _: self.memory.allocate(command),
            Free: lambda command, _: self.memory.free(command),
            HostWork: self._host_work,
        }
        self._planned: dict[int, list[PlannedCall]] = {}
        for section in program.sections:
            self.planned(section)

    def planned(self, section: Section) -> list[PlannedCall]:
        """The calls of a section, planned on first use; sections with the same commands share them."""
        key = id(section.commands)
        if key not in self._planned:
            planner = Planner(self.activations)
            self._planned[key] = [self._plan[type(command)](command, planner) for command in section.commands]
        return self._planned[key]

    def run(self, sections: Iterable[int] | None = None, *, gate: float = 0.0) -> Timeline:
        """Execute sections (default: all) in order; returns the record of this rank, after a device synchronisation.

        With `gate` [s] all streams are held that long, so that the host has issued everything before anything runs;
        instants then count from the release.
        """
        device, rank = self.device, self.communicator.rank
        device.high_priority = frozenset(self.program.high_priority)
        chosen = list(range(len(self.program.sections)) if sections is None else sections)
        calls = [(number, self.planned(self.program.sections[number])) for number in chosen]
        self.notes.clear()
        self.host_notes.clear()
        self.events.clear()
        self.communicator.barrier()
        device.synchronize("device")
        streams = used_streams(c for number in chosen for c in self.program.sections[number].commands)
        marks = []
        # The collector looks at all of the framework's objects now and then: a pause that no program asked for.
        with no_garbage_collection():
            base = device.gate(streams, gate) if gate else device.record(COMPUTE)
            zero = self._zero = perf_counter()
            for number, section in calls:
                self.memory.loading = self.program.sections[number].use.kind == "load"
                begin = perf_counter() - zero
                for call in section:
                    call()
                marks.append((number, begin, perf_counter() - zero, device.record(COMPUTE)))
            device.synchronize("device")
        timeline = Timeline(self.communicator.world, {rank: 1})
        for number, begin, end, reached in marks:
            timeline.windows.append(SectionWindow(rank, number, begin, end, reached.seconds_since(base)))
        timeline.instants = {(rank, name): event.seconds_since(base) for name, event in self.events.items()}
        timeline.spans = [*self.host_notes, *(self._span(note, base) for note in self.notes)]
        return timeline

    def _span(self, note: Note, base: Any) -> Span:
        begin, end = note.begin.seconds_since(base), note.end.seconds_since(base)
        return Span(self.communicator.rank, note.track, note.kind, note.name, begin, end, note.bytes, (), note.cause)

    def _put(self, stream: str, kind: SpanKind, name: str, bytes_: float, work: PlannedCall) -> None:
        """Run work on a stream, between two events if spans are wanted."""
        if not self.spans:
            self.device.put(stream, work)
            return
        begin = self.device.record(stream)
        self.device.put(stream, work)
        self.notes.append(Note(stream, kind, name, bytes_, begin, self.device.record(stream)))

    def _compute(self, command: Compute, planner: Planner) -> PlannedCall:
        if command.writes:
            return self._device_copy(command)
        kernels = planner.compute(command)
        names, block = command.reads, block_key(command.name)

        def call() -> None:
            weights = None
            if names:
                buffer = self.memory.buffers[names[0]]
                weights = buffer[self.contents.offset(names[0], block) :]
            work = [kernel(weights) for kernel in kernels]
            self._put(command.stream, "compute", command.name, 0.0, lambda: [run() for run in work])
            if self.checksums:
                self._checksum(command)

        return call

    def _checksum(self, command: Compute) -> None:
        """What the kernels left: its sum, by the command's name."""

        def add() -> None:
            state = self.activations
            whole = state.outside if state.outside is not None else state.buffer
            if whole is not None:
                self.sums.append((command.name, float(whole.double().sum())))

        self.device.put(command.stream, add)

    def _device_copy(self, command: Compute) -> PlannedCall:
        def call() -> None:
            source, target = self.memory.buffers[command.reads[0]], self.memory.buffers[command.writes[0]]
            self._put(command.stream, "compute", command.name, 0.0, lambda: device_copy(source, target))

        return call

    def _copy(self, command: Copy, planner: Planner) -> PlannedCall:  # noqa: ARG002
        bytes_, here = ceil(command.bytes), self.copies_here
        cuts = [round(i * bytes_ / command.calls) for i in range(command.calls + 1)]
        pinned = command.host_memory == "pinned"

        def call() -> None:
            if not here:
                return
            device_side, host_side = self.memory.ends(command, bytes_)
            target, source = (device_side, host_side) if command.direction == "H2D" else (host_side, device_side)

            def work() -> None:
                for a, b in pairwise(cuts):
                    target[a:b].copy_(source[a:b], non_blocking=pinned)

            self._put(command.stream, command.direction, command.name, command.bytes, work)
            if not pinned:
                self.device.synchronize("stream", command.stream)

        return call

    def _collective(self, command: Collective, planner: Planner) -> PlannedCall:
        group = self.communicator.group(self.program.groups[command.group], command.stream)
        if command.reads:

            def gather() -> None:
                buffer = piece_of(self.memory.buffers[command.reads[0]], command.piece)
                work = lambda: self.communicator.all_gather(buffer, group)  # noqa: E731
                self._put(command.stream, "collective", command.name, command.bytes, work)

            return gather
        source, target = planner.exchange(command, group.size)
        run = self.communicator.operation(command.kind)

        def call() -> None:
            work = lambda: run(target(), source(), group)  # noqa: E731
            self._put(command.stream, "collective", command.name, command.bytes, work)

        return call

    def _record(self, command: Record, planner: Planner) -> PlannedCall:  # noqa: ARG002
        def call() -> None:
            self.events[command.event] = self.device.record(command.stream)
            self._recorded_on[command.event] = command.stream

        return call

    def _wait(self, command: Wait, planner: Planner) -> PlannedCall:  # noqa: ARG002
        def call() -> None:
            event = self.events.get(command.event)
            if event is None:
                return
            begin = self.device.record(command.stream) if self.spans else None
            self.device.wait(command.stream, event)
            if self.spans:
                end, cause = self.device.record(command.stream), self._recorded_on[command.event]
                self.notes.append(Note(command.stream, "wait", command.event, 0.0, begin, end, cause))

        return call

    def _synchronize(self, command: Synchronize, planner: Planner) -> PlannedCall:  # noqa: ARG002
        def call() -> None:
            target = self.events.get(command.target) if command.scope == "event" else command.target
            if command.scope != "event" or target is not None:
                self._block(command, target)

        return call

    def _block(self, command: Synchronize, target: Any) -> None:
        """The host waits; noted if spans are wanted."""
        begin = perf_counter() - self._zero
        self.device.synchronize(command.scope, target)
        if self.spans:
            cause = command.target if command.scope == "stream" else COMPUTE
            name = f"synchronize {command.scope} {command.target}".strip()
            end = perf_counter() - self._zero
            self.host_notes.append(Span(self.communicator.rank, "host", "blocked", name, begin, end, cause=cause))

    def _host_work(self, command: HostWork, planner: Planner) -> PlannedCall:  # noqa: ARG002
        def call() -> None:
            end = perf_counter() + command.duration
            if command.duration > SHORT_WAIT:
                sleep(command.duration - SHORT_WAIT)
            while perf_counter() < end:
                pass

        return call


def used_streams(commands: Iterable[Command]) -> list[str]:
    """Streams that commands are put on, in order of first use."""
    return list(dict.fromkeys(stream for c in commands if (stream := getattr(c, "stream", None)) is not None))
