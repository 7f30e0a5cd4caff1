"""The host thread of one rank: issues commands in order and runs ahead until something blocks it.

Its clock runs ahead of the simulation's: commands carry the instant at which they are issued, so a launch costs no
event. It blocks on synchronisation, on pageable copies, and when a stream holds `queue_depth` commands.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from simpy import Event

from offsim.program.commands import COMPUTE, Command, StreamProgram, Synchronize
from offsim.program.spans import Span, Window
from offsim.scenario.node import Overheads

from .agenda import Alarm, cancel
from .environment import PromptEnvironment, fire
from .issue import Plans
from .part_plan import HostSpan, Piece
from .queue import Chunk, Passed, Place, Queue, sooner
from .rank import Rank


class CaughtUpLateError(Exception):
    """Something waited for a host that issues late because blocks were skipped: the skip was not exact."""


class HostThread:
    """One rank's host thread, a SimPy process."""

    def __init__(
        self, env: PromptEnvironment, rank: Rank, program: StreamProgram, plans: Plans, overheads: Overheads
    ) -> None:
        self.env = env
        self.agenda = env.agenda
        self.rank = rank
        self.program = program
        self.plans = plans
        self.clock = 0.0
        self.awaiting: Command | str = ""
        """What it is blocked by; "" if by nothing."""
        self._blocked_at = 0.0
        self.number = 0
        """The section that is being issued."""
        self.part = 0
        self.piece = 0
        """The piece of the part of the passage that comes next, or is waited in."""
        self.chunks: list[Chunk] = []
        """The passages of the last two sections."""
        self.passed: list[Passed] = []
        """Every section that it has begun to issue."""
        self.catching_up = False
        """After a skip: it issues late what it would have issued meanwhile."""
        self._asleep: Alarm | None = None
        """Until its own clock comes."""
        self.depth = overheads.queue_depth
        self._return_cost = overheads.synchronize.value
        self.at_begin: Callable[[int], int] | None = None
        """Called where it begins a section: how many sections, from this one on, it leaves out."""
        self.process = env.process(self._run())
        rank.check_host = self._check

    def _check(self) -> None:
        """A stream has to wait for this host: only right if it issues when it should."""
        if self.catching_up:
            raise CaughtUpLateError

    def _run(self) -> Generator[Event, Any, None]:
        sections = self.program.sections
        while self.number < len(sections):
            skipped = self.at_begin(self.number) if self.at_begin is not None else 0
            if skipped:
                self.number += skipped
                continue
            passed = Passed(self.number, self.clock)
            self.passed.append(passed)
            self.chunks = [chunk for chunk in self.chunks if chunk.passed in self.passed[-2:]]
            plans = self.plans.of_section(sections[self.number].commands)
            first = next((i for i, plan in enumerate(plans) if COMPUTE in plan.items), -1)
            for number, plan in enumerate(plans):
                chunk = self.rank.begin_passage(plan, passed, number, first=number == first)
                self.chunks.append(chunk)
                yield from self._issue(chunk)
                self.rank.end_passage(chunk)
            passed.end = self.clock
            self.number += 1
        yield from self._drain()

    def _issue(self, chunk: Chunk) -> Generator[Event, Any, None]:
        """Issue a passage, part by part, piece by piece."""
        self.part = 0
        parts, roomy = chunk.plan.parts, self._has_room_for(chunk)
        while self.part < len(parts):
            self.piece = 0
            chunk.released.append([])
            while self.piece < len(parts[self.part].pieces):
                while not roomy and (full := self._full(chunk)) is not None:
                    yield from self._make_room(*full)
                piece = parts[self.part].pieces[self.piece]
                self._release(chunk, piece)
                if piece.blocker is not None:
                    yield from self._block(chunk, piece)
                self.piece += 1
            self.part += 1

    def _drain(self) -> Generator[Event, Any, None]:
        """Wait until every stream is empty."""
        for stream in self.rank.streams.values():
            if not stream.idle:
                self.awaiting = f"the end of stream {stream.name!r}"
                yield self._reached(stream, stream.issued)
        self.awaiting = ""

    def _reached(self, stream: Queue, place: int) -> Event:
        """Fires when so many commands of a stream are done."""
        event = self.env.event()
        stream.reached(place, partial(fire, event))
        return event

    @property
    def state(self) -> tuple[int, str]:
        """Where in a part it is, and what kind of thing it waits for: a piece's blocker is the same in every block."""
        return self.piece, self.awaiting if isinstance(self.awaiting, str) else "what ends the piece"

    @property
    def blocked(self) -> bool:
        """Whether it issues nothing more on its own: all instants of what it has issued are known."""
        return bool(self.awaiting) or self._asleep is not None or self.clock <= self.agenda.now

    def _release(self, chunk: Chunk, piece: Piece) -> None:
        """Issue a piece: its commands carry instants from now on."""
        chunk.released[self.part].append(self.clock)
        streams, starts, begins = self.rank.streams, chunk.starts, chunk.plan.begins[self.part]
        for name, end in piece.ends:
            streams[name].released(starts[name] + begins.get(name, 0) + end)
        for work in piece.work:
            self._note_work(work)
        self.clock += piece.cost

    def _place(self, chunk: Chunk, name: str, count: int) -> int:
        """Commands of a stream until `count` of the current part are done, since the start."""
        return chunk.starts[name] + chunk.plan.begins[self.part].get(name, 0) + count

    def _note_work(self, work: HostSpan) -> None:
        start = self.clock + work.offset
        span = Span(self.rank.index, "host", "host", work.name, start, start + work.duration)
        self.rank.timeline.named.append(span)

    def _block(self, chunk: Chunk, piece: Piece) -> Generator[Event, Any, None]:
        """Wait for what a piece's last command waits for."""
        command, self._blocked_at = piece.blocker, self.clock
        assert command is not None
        places = self._awaited(chunk, piece)
        pending = [(stream, place) for stream, place in places if stream.done < place]
        if pending:
            self.awaiting = command
            events = [self._reached(stream, place) for stream, place in pending]
            yield self.env.all_of(events) if len(events) > 1 else events[0]
            self.awaiting = ""
            if self.catching_up and self.clock > self.agenda.now:
                raise CaughtUpLateError
            self.clock = max(self.clock, self.agenda.now)
            self._note_blocked(command, places)
        elif self.catching_up:
            raise CaughtUpLateError
        self.catching_up = False
        if command.__class__ is Synchronize:
            self.clock += self._return_cost

    def _awaited(self, chunk: Chunk, piece: Piece) -> list[Place]:
        """The places on this rank's streams that a blocker waits for."""
        streams, command = self.rank.streams, piece.blocker
        if piece.event is not None:
            place = chunk.recorded(self.part, piece.event)
            return [] if place is None else [place]
        if isinstance(command, Synchronize) and command.scope == "device":
            return [(stream, stream.issued) for stream in streams.values()]
        assert command is not None
        stream = self.rank.stream(command.target if isinstance(command, Synchronize) else command.stream)
        return [(stream, stream.issued)]

    def _note_blocked(self, command: Command, places: list[Place]) -> None:
        """Name the stream that was waited for: of several, the one that drained last."""
        start = self._blocked_at
        if self.clock > start:
            cause = max((stream for stream, _ in places), key=lambda stream: stream.drained_at).name
            span = Span(self.rank.index, "host", "blocked", _title(command), start, self.clock, cause=cause)
            self.rank.timeline.named.append(span)

    def _has_room_for(self, chunk: Chunk) -> bool:
        """Whether all of a passage fits behind what its streams still have to do."""
        ahead = [(stream.issued - stream.done, chunk.plan.counts[name]) for name, stream in chunk.streams.items()]
        return all(open_ + new <= self.depth for open_, new in ahead)

    def _full(self, chunk: Chunk) -> Place | None:
        """A stream without room for the next piece, and how many of its commands must be done first."""
        for name, end in chunk.plan.parts[self.part].pieces[self.piece].ends:
            stream, place = self.rank.streams[name], self._place(chunk, name, end) - self.depth
            if stream.done < place:
                return stream, place
        return None

    def _make_room(self, stream: Queue, place: int) -> Generator[Event, Any, None]:
        """Block until so many commands are done; what drains until the host's own clock counts."""
        if self.clock > self.agenda.now:
            yield self._sleep()
            return
        self.catching_up = False
        start = self.clock
        self.awaiting = f"room in the queue of {stream.name!r}"
        yield self._reached(stream, place)
        self.awaiting = ""
        self.clock = max(self.clock, self.agenda.now)
        if self.clock > start:
            name, rank = f"queue of {stream.name} full", self.rank.index
            self.rank.timeline.named.append(Span(rank, "host", "host", name, start, self.clock))

    def _sleep(self) -> Event:
        """Fires when the simulation comes to its own clock."""
        event = self.env.event()
        self._asleep = self.agenda.at(self.clock, partial(self._awake, event))
        return event

    def _awake(self, event: Event) -> None:
        self._asleep = None
        fire(event)

    def move_on(self, chunk: Chunk, before: int, block: int, times: int, *, together: bool) -> None:
        """Take `times` periods, each as long as from one block to another, as done.

        `together`: the host moves on as the streams do; else it has issued all of this already.
        """
        plan = chunk.plan
        if together:
            parts = times * (block - before)
            # What comes now was released when its like, so many parts before, was.
            chunk.released[:0] = [[] for _ in range(parts)]
            self.part += parts
        counts = {name: times * plan.per_period(name, before, block) for name in chunk.starts}
        moving = {name for name, count in counts.items() if count} | ({""} if together else set())
        for name in moving - {""}:
            self.rank.streams[name].move_on(counts[name], moving)

    def come_sooner(self, seconds: float) -> None:
        """The clock stands still where so many seconds are skipped: what was to come, comes sooner."""
        now = self.agenda.now
        if not self._still_waits(now + seconds):
            self.catching_up = True
        ahead = {ahead.chunk for stream in self.rank.streams.values() for ahead in stream.ahead}
        for chunk in ahead.union(self.chunks):
            chunk.come_sooner(now, seconds)
        for stream in self.rank.streams.values():
            stream.come_sooner()
        for passed in self.passed[-2:]:
            passed.come_sooner(now, seconds)
        self.clock, self._blocked_at = sooner(self.clock, now, seconds), sooner(self._blocked_at, now, seconds)
        if self._asleep is not None:
            call = self._asleep[2]
            cancel(self._asleep)
            self._asleep = self.agenda.at(self.clock, call)

    def _still_waits(self, until: float) -> bool:
        """Whether it has nothing to do until then: what it waits for has not happened, or its clock is later."""
        if self._asleep is not None:
            return self.clock >= until
        return any(stream.awaited_by("") for stream in self.rank.streams.values())

    def finish(self) -> None:
        """Once the run is over: write the section windows, and let go of the rank."""
        for passed in self.passed:
            reached = max(passed.compute_end, passed.end)
            self.rank.timeline.windows.append(
                Window(self.rank.index, passed.section, passed.begin, passed.end, reached)
            )
        self.rank.let_go()
        self.chunks, self.at_begin = [], None


def _title(command: Command) -> str:
    if isinstance(command, Synchronize):
        return f"synchronize {command.scope} {command.target}".strip()
    return getattr(command, "name", type(command).__name__)
