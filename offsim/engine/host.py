"""The host thread of one rank: issues commands in order and runs ahead until something blocks it.

Its clock runs ahead of the simulation's: commands carry the instant at which they are issued, so a launch costs no
event. It blocks on synchronisation, on pageable copies, and when a stream holds `queue_depth` commands. Where blocks
are left out that it had issued before, its clock falls behind the simulation's: what it does next, it did meanwhile.
"""

from collections.abc import Callable, Generator
from functools import partial
from math import inf
from typing import Any

from simpy import Event

from offsim.program.commands import COMPUTE, Command, StreamProgram, Synchronize
from offsim.program.spans import SectionWindow

from .agenda import Alarm, cancel
from .environment import PromptEnvironment, fire
from .host_record import HostRecord
from .issue import Plans
from .left_out import LeftOut
from .part_plan import IssuedRun
from .queue import IssuedPassage, Passed, PlaceInQueue, instant_tolerance
from .rank import Rank


class HostThread:
    """One rank's host thread, a SimPy process."""

    def __init__(
        self, env: PromptEnvironment, rank: Rank, program: StreamProgram, plans: Plans, queue_depth: int
    ) -> None:
        self.env = env
        self.agenda = env.agenda
        self.rank = rank
        self.program = program
        self.plans = plans
        self.clock = 0.0
        self.awaiting: Command | str = ""
        """What it is blocked by; "" if by nothing."""
        self._reached: list[float] = []
        """Instants at which what it is blocked by was there; infinite while it is not."""
        self.record = HostRecord(env.agenda, rank.index, rank.timeline)
        self.number = 0
        """The section that is being issued."""
        self.part = 0
        self.piece = 0
        """The piece of the part of the passage that comes next, or is waited in."""
        self.chunks: list[IssuedPassage] = []
        """The passages of the last two sections."""
        self.passed: list[Passed] = []
        """Every section that it has begun to issue."""
        self._asleep: Alarm | None = None
        """The alarm at which the host's own clock comes."""
        self.depth = queue_depth
        self.at_begin: Callable[[int], int] | None = None
        """Called where it begins a section: how many sections, from this one on, it leaves out."""
        self.process = env.process(self._run())

    def _run(self) -> Generator[Event, Any, None]:
        sections = self.program.sections
        while self.number < len(sections):
            skipped = self.at_begin(self.number) if self.at_begin is not None else 0
            if skipped:
                self.number += skipped
                continue
            self.rank.timeline.check_length()
            # What the record has no instant for, since it was while something was left out, has that of its end.
            passed = Passed(self.number, max(self.clock, self.agenda.now))
            self.record.edge(self.number, self.clock)
            self.passed.append(passed)
            self.chunks = [chunk for chunk in self.chunks if chunk.passed in self.passed[-2:]]
            plans = self.plans.of_section(sections[self.number].commands)
            first = next((i for i, plan in enumerate(plans) if COMPUTE in plan.items), -1)
            for number, plan in enumerate(plans):
                chunk = self.rank.begin_passage(plan, passed, number, first=number == first)
                self.chunks.append(chunk)
                yield from self._issue(chunk)
                self.rank.end_passage(chunk)
            passed.end = max(self.clock, self.agenda.now)
            self.record.edge(self.number, self.clock, ends=True)
            self.number += 1
        yield from self._drain()

    def _issue(self, chunk: IssuedPassage) -> Generator[Event, Any, None]:
        """Issue a passage, part by part, piece by piece."""
        self.part = 0
        parts, roomy = chunk.plan.parts, self._has_room_for(chunk)
        while self.part < len(parts):
            self.piece = 0
            chunk.released.append([])
            while self.piece < len(parts[self.part].pieces):
                while not roomy and (full := self._full(chunk)) is not None:
                    yield from self._make_room(chunk, full)
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
                self._reached = [inf]
                yield self._arrival(0, (stream, stream.issued))
        self.awaiting = ""

    def _arrival(self, number: int, place: PlaceInQueue) -> Event:
        """Fires when a place on a stream is reached, the one of that number among those that it waits for."""
        event, (stream, count) = self.env.event(), place
        stream.reached(count, partial(fire, event), note=partial(self._note_reached, number, place))
        return event

    def _note_reached(self, number: int, place: PlaceInQueue) -> None:
        stream, count = place
        self._reached[number] = stream.reached_at(count)

    def _waits_for(self, place: PlaceInQueue) -> bool:
        """Whether a place on a stream is reached after its own clock: it may have fallen behind the simulation's."""
        stream, count = place
        if stream.done < count:
            return True
        late = self.clock < self.agenda.now and stream.just_left_out
        return late and stream.reached_at(count) > self.clock + instant_tolerance(self.agenda.now)

    @property
    def state(self) -> tuple[int, str]:
        """Where in a part the host is, and what kind of thing it waits for: the same in every block."""
        return self.piece, self.awaiting if isinstance(self.awaiting, str) else "what ends the piece"

    @property
    def blocked(self) -> bool:
        """Whether the host issues nothing more on its own: all instants of what it has issued are known."""
        return bool(self.awaiting) or self._asleep is not None or self.clock <= self.agenda.now

    def _release(self, chunk: IssuedPassage, piece: IssuedRun) -> None:
        """Issue a piece: its commands carry instants from now on."""
        chunk.released[self.part].append(self.clock)
        streams, starts, begins = self.rank.streams, chunk.starts, chunk.plan.begins[self.part]
        for name, end in piece.ends:
            streams[name].released(starts[name] + begins.get(name, 0) + end)
        for work in piece.work:
            start = self.clock + work.offset
            self.record.work(chunk, self.part, work.number, start, start + work.duration)
        self.clock += piece.cost

    def _place(self, chunk: IssuedPassage, name: str, count: int) -> int:
        """Commands of a stream until `count` of the current part are done, since the start."""
        return chunk.starts[name] + chunk.plan.begins[self.part].get(name, 0) + count

    def _wait(self, places: list[PlaceInQueue], awaiting: Command | str) -> Generator[Event, Any, None]:
        """Wait until places on streams are reached; the wait has begun in the record."""
        self.awaiting = awaiting
        pending = [i for i, (stream, count) in enumerate(places) if stream.done < count]
        self._reached = [inf if i in pending else place[0].reached_at(place[1]) for i, place in enumerate(places)]
        events = [self._arrival(i, places[i]) for i in pending]
        if events:
            yield self.env.all_of(events) if len(events) > 1 else events[0]
        self.awaiting = ""
        last = max(self._reached)
        self.clock, same = max(self.clock, last), instant_tolerance(self.agenda.now)
        cause = next(stream.name for (stream, _), at in zip(places, self._reached, strict=True) if at >= last - same)
        self.record.waited(self.clock, cause)

    def _block(self, chunk: IssuedPassage, piece: IssuedRun) -> Generator[Event, Any, None]:
        """Wait for what a piece's last command waits for."""
        command = chunk.plan.passage[self.part].hook_at(piece.number)
        places = [place for place in self._awaited(chunk, piece) if self._waits_for(place)]
        if places:
            self.record.wait(chunk, self.part, piece.number, self.clock)
            yield from self._wait(places, command)
        self.clock += piece.return_cost

    def _awaited(self, chunk: IssuedPassage, piece: IssuedRun) -> list[PlaceInQueue]:
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

    def _has_room_for(self, chunk: IssuedPassage) -> bool:
        """Whether all of a passage fits behind what its streams still have to do, by the host's clock."""
        if self.clock < self.agenda.now:
            return False
        ahead = [(stream.issued - stream.done, chunk.plan.counts[name]) for name, stream in chunk.streams.items()]
        return all(open_ + new <= self.depth for open_, new in ahead)

    def _full(self, chunk: IssuedPassage) -> PlaceInQueue | None:
        """A stream without room for the next piece, and how many of its commands must be done first."""
        late = self.clock < self.agenda.now
        for name, end in chunk.plan.parts[self.part].pieces[self.piece].ends:
            stream, count = self.rank.streams[name], self._place(chunk, name, end) - self.depth
            if stream.done < count or (late and self._waits_for((stream, count))):
                return stream, count
        return None

    def _make_room(self, chunk: IssuedPassage, place: PlaceInQueue) -> Generator[Event, Any, None]:
        """Block until so many commands of a stream are done; what drains until the host's own clock counts."""
        if self.clock > self.agenda.now:
            yield self._sleep()
            return
        name = place[0].name
        self.record.wait(chunk, self.part, -1, self.clock, name=f"queue of {name} full")
        yield from self._wait([place], f"room in the queue of {name!r}")

    def _sleep(self) -> Event:
        """Fires when the simulation comes to its own clock."""
        event = self.env.event()
        self._asleep = self.agenda.at(self.clock, partial(self._awake, event))
        return event

    def _awake(self, event: Event) -> None:
        self._asleep = None
        fire(event)

    def move_on(self, chunk: IssuedPassage, blocks: tuple[int, int], times: int) -> None:
        """Take `times` periods, each as long as from one block to another, as done: the host moves on as streams do."""
        parts = times * (blocks[1] - blocks[0])
        # What comes now was released when its like, so many parts before, was.
        chunk.released[:0] = [[] for _ in range(parts)]
        self.part += parts
        counts = chunk.per_period(*blocks)
        for name, count in counts.items():
            self.rank.streams[name].move_on(times * count, {*counts, ""})

    def stay(self, left_out: dict[str, LeftOut], seconds: float) -> None:
        """Take what is left out of each stream as done: the host had issued it all, and goes on meanwhile.

        The clock stands still where so many seconds are left out: what was to come, comes sooner.
        """
        for name, left in left_out.items():
            stream = self.rank.streams[name]
            stream.left_out.append(left)
            stream.move_on(left.last - left.first, left_out)
        now = self.agenda.now
        ahead = {ahead.chunk for stream in self.rank.streams.values() for ahead in stream.ahead}
        for chunk in ahead.union(self.chunks):
            chunk.come_sooner(now, seconds)
        for stream in self.rank.streams.values():
            stream.come_sooner()
        for passed in reversed(self.passed):
            if not passed.come_sooner(now, seconds):
                break
        self.record.stay(seconds)
        self.clock -= seconds
        self._reached = [at - seconds for at in self._reached]
        if self._asleep is not None:
            call = self._asleep[2]
            cancel(self._asleep)
            self._asleep = self.agenda.at(self.clock, call)

    def finish(self) -> None:
        """Once the run is over: write the section windows, and let go of the rank."""
        for passed in self.passed:
            reached = max(passed.compute_end, passed.end)
            self.rank.timeline.windows.append(
                SectionWindow(self.rank.index, passed.section, passed.begin, passed.end, reached)
            )
        self.rank.let_go()
        self.chunks, self.at_begin = [], None
