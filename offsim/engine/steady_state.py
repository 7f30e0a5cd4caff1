"""Skipping blocks and steps that repeat: exact, by comparing states.

At the begin of a block (a step) the engine's state is how far every stream, copy engine, flow and kernel is: in
commands counted from this block, and in seconds left. If it equals the state one period of blocks (steps) ago and the
commands ahead look like the ones a period before, what follows takes exactly as long as the last period did, for as
long as the commands repeat: so the places on the streams move on by whole periods while the clock stands still. The
timeline says what was left out (Repeat). The last blocks, whose commands differ, are simulated.

Hosts: either all that is skipped, and a period more, is issued before it is due (what the host has not come to yet it
catches up on afterwards, and has to before anything waits for it); or they are where they were a period ago, and move
on with the streams. Where the host begins a step as it began the same one before, all steps like it are left out, the
last one too.
"""

from collections.abc import Sequence
from typing import NamedTuple

from offsim.program.commands import COMPUTE, StreamProgram
from offsim.program.timeline import Repeat, Timeline

from .host import HostThread
from .issue import LONGEST_PERIOD
from .network import Network
from .queue import Chunk, instant_tolerance


class State(NamedTuple):
    """A state relative to a block or step."""

    places: list[object]
    seconds: list[float]
    hosts: list[object]
    host_seconds: list[float]

    def same_device(self, other: "State", now: float) -> bool:
        """Streams, engines, flows and kernels are equally far."""
        return self.places == other.places and _close(self.seconds, other.seconds, instant_tolerance(now))

    def same_hosts(self, other: "State", now: float) -> bool:
        """Host threads are equally far, and equally ahead of the clock."""
        return self.hosts == other.hosts and _close(self.host_seconds, other.host_seconds, instant_tolerance(now))


class Mark(NamedTuple):
    """The begin of a block or step on the compute stream of the first simulated rank."""

    number: int
    at: float
    state: State
    settled: bool = False
    """Of a block: whether waits for what earlier passages recorded are over."""


class SteadyState:
    """Compares states at marks, and moves everything on when one repeats."""

    def __init__(
        self, program: StreamProgram, network: Network, timeline: Timeline, hosts: Sequence[HostThread]
    ) -> None:
        self.program = program
        self.network = network
        self.timeline = timeline
        self.hosts = hosts
        self.skips_steps = True
        self.skips_blocks = True
        self._step: Mark | None = None
        self._begin: Mark | None = None
        """Where the host began the last step."""
        self._blocks: list[Mark] = []
        self._chunk: Chunk | None = None

    def at_mark(self, chunk: Chunk, block: int) -> None:
        """A section (block -1) or a block of it begins on the compute stream."""
        if block < 0:
            self._at_section(chunk.passed.section)
        elif self.skips_blocks:
            self._at_block(chunk, block)

    def at_begin(self, section: int) -> int:
        """A host is about to begin a section, as the only one: how many sections, from this one on, are left out.

        All that are like the one before, if the state is as when that one began and it is done: only then does it not
        matter to it what comes next. What is still at work then (copies ahead) was so a section before, too.
        """
        before, at, [host] = self._begin, self.network.agenda.now, self.hosts
        self._begin = None
        if self.program.sections[section].step is None or not self.skips_steps or not host.rank.stream(COMPUTE).idle:
            return 0
        now = self._begin = Mark(section, at, self._begin_state(host))
        if before is None or not self._same_section(section, before.number):
            return 0
        if not (now.state.same_device(before.state, at) and now.state.same_hosts(before.state, at)):
            return 0
        count = self._alike_after(section) + 1
        seconds, same = self.timeline.real(at) - self.timeline.real(before.at), instant_tolerance(at)
        self.timeline.repeats.append(
            Repeat(section - 1, count, seconds, before.at + same, at + same, by_end=True, resumes=at - same)
        )
        self._begin = self._step = None
        return count

    def _begin_state(self, host: HostThread) -> State:
        state = State([], [], [], [])
        self._look(host, {}, {}, state)
        for stream in host.rank.streams.values():
            if not stream.idle:
                ahead = stream.ahead[0]
                plan = id(ahead.chunk.plan)
                state.places.append((plan, stream.done - ahead.start, stream.issued - stream.done))
        return state

    def _at_section(self, section: int) -> None:
        before, at = self._step, self.network.agenda.now
        self._blocks, self._step = [], None
        if self.program.sections[section].step is None or not self.skips_steps:
            return
        now = self._step = Mark(section, at, self._section_state(section))
        if before is None or not self._same_section(section, before.number):
            return
        count = self._alike_after(max(host.number for host in self.hosts))
        if count and now.state.same_device(before.state, at) and now.state.same_hosts(before.state, at):
            self._skip_sections(section, count)
            seconds = self.timeline.real(at) - self.timeline.real(before.at)
            same = instant_tolerance(at)
            begin, end = before.at - same, at - same
            self.timeline.repeats.append(Repeat(section - 1, count, seconds, begin, end, resumes=end))
            self._step = None

    def _same_section(self, one: int, other: int) -> bool:
        sections = self.program.sections
        return other == one - 1 and sections[one].commands is sections[other].commands

    def _alike_after(self, section: int) -> int:
        """How many sections after this one have the very same commands."""
        last = section
        while last + 1 < len(self.program.sections) and self._same_section(last + 1, last):
            last += 1
        return last - section

    def _section_state(self, section: int) -> State:
        state = State([], [], [], [])
        for host in self.hosts:
            last = host.chunks[-1]
            state.places.append((last.passed.section - section, last.number))
            self._look(host, last.starts, {}, state)
            state.hosts.append((host.number - section, host.part, *host.state))
        return state

    def _skip_sections(self, first: int, count: int) -> None:
        """What has been issued of section `first` and later ones now belongs to sections `count` later."""
        for host in self.hosts:
            host.number += count
            for passed in host.passed[-2:]:
                if passed.section >= first:
                    passed.section += count

    def _at_block(self, chunk: Chunk, block: int) -> None:
        plan, at = chunk.plan, self.network.agenda.now
        chunks = self._chunks_of(chunk)
        if chunk is not self._chunk:
            self._blocks, self._chunk = [], chunk
        if not plan.may_repeat(block) or chunks is None:
            self._blocks = []
            return
        mark = Mark(block, at, self._block_state(chunks, block), all(one.settled for one in chunks))
        for before in reversed(self._blocks):
            repeat = self._move_on(chunks, before, mark) if mark.state.same_device(before.state, at) else None
            if repeat is not None:
                self.timeline.repeats.append(repeat)
                self._blocks = []
                return
        self._blocks = [*self._blocks[1 - LONGEST_PERIOD :], mark]

    def _chunks_of(self, one: Chunk) -> list[Chunk] | None:
        """Every rank's part of the same passage; None if a host has not come to it."""
        wanted = (one.passed.section, one.number)
        found = [c for host in self.hosts for c in host.chunks if (c.passed.section, c.number) == wanted]
        return found if len(found) == len(self.hosts) else None

    def _block_state(self, chunks: Sequence[Chunk], block: int) -> State:
        state, now = State([], [], [], []), self.network.agenda.now
        for host, chunk in zip(self.hosts, chunks, strict=True):
            self._look(host, chunk.starts, chunk.plan.begins[block], state)
            here = host.chunks[-1] is chunk
            state.hosts.append((here, host.part - block, *host.state))
            for part in range(len(chunk.released) - 1, block - 1, -1):
                if chunk.issued(part) <= now:
                    break  # And so are those before.
                pieces = zip(chunk.released[part], chunk.plan.parts[part].pieces, strict=False)
                state.host_seconds.extend([at - now for at, piece in pieces if at + piece.cost > now])
        return state

    def _look(self, host: HostThread, starts: dict[str, int], begins: dict[str, int], state: State) -> None:
        """Add a rank's streams, engines, kernels and flows, and how far its host is ahead, to a state."""
        rank, now = host.rank, self.network.agenda.now
        for name, stream in rank.streams.items():
            place = stream.done - starts.get(name, stream.issued) - begins.get(name, 0)
            plan = id(stream.ahead[0].chunk.plan) if stream.ahead and not begins else 0
            state.places.append((name, place, stream.busy, plan))
            if stream.busy and not stream.waits:
                state.seconds.append(now - stream.started)
        for engine in rank.engines.values():
            state.places.append((engine.busy, engine.waiting))
            if engine.busy:
                state.seconds.append(now - engine.granted)
        state.places.append(dict(rank.kept))
        rank.gpu.look(state.places, state.seconds)
        if rank is self.hosts[0].rank:
            self.network.look(state.places, state.seconds)
        state.host_seconds.append(max(0.0, host.clock - now))

    def _move_on(self, chunks: Sequence[Chunk], before: Mark, mark: Mark) -> Repeat | None:
        """Skip as many periods as the commands allow; None if they allow none."""
        plan, block, period = chunks[0].plan, mark.number, mark.number - before.number
        places = self._blocks_in_work(chunks, before.number, block)
        if places is None or min(places) < 0:
            return None
        last = plan.last_alike(min(places), period, settled=before.settled)
        if last < block:
            return None
        together = 0
        issued = max(self._issued_in_time(chunks, places, before, mark), self._paced(chunks, places, before, mark))
        alone = (min(last, issued - period) - max(places)) // period
        if mark.state.same_hosts(before.state, mark.at):
            together = (last - max(*places, self._furthest_host(chunks))) // period
        times = min(max(alone, together), self._room(chunks, before.number, block))
        if times <= 0:
            return None
        for host, chunk in zip(self.hosts, chunks, strict=True):
            host.move_on(chunk, before.number, block, times, together=together > alone)
            if alone >= together:
                host.come_sooner(times * (mark.at - before.at))
        same = instant_tolerance(mark.at)
        return Repeat(
            section=chunks[0].passed.section,
            times=times,
            period=mark.at - before.at,
            begin=before.at - same,
            after=mark.at - same,
            resumes=mark.at - same,
            where=(chunks[0].number, min(places) - period),
            parts=period,
            hosts=together > alone,
        )

    def _furthest_host(self, chunks: Sequence[Chunk]) -> int:
        """The block that the furthest host issues; beyond the last one if it is in another section."""
        elsewhere = any(host.chunks[-1] is not chunk for host, chunk in zip(self.hosts, chunks, strict=True))
        return len(chunks[0].plan.parts) if elsewhere else max(host.part for host in self.hosts)

    def _blocks_in_work(self, chunks: Sequence[Chunk], before: int, block: int) -> list[int] | None:
        """The blocks at which the streams are; None if one is busy with something that does not move on."""
        found = []
        for host, chunk in zip(self.hosts, chunks, strict=True):
            for name, stream in host.rank.streams.items():
                if name in chunk.starts and chunk.plan.per_period(name, before, block):
                    found.append(chunk.plan.part_at(name, stream.done - chunk.starts[name]))
                elif stream.busy and not stream.waits:
                    return None
        return found

    def _room(self, chunks: Sequence[Chunk], before: int, block: int) -> int:
        """Periods that may pass before a stream goes on that waits for an event and does not move on with them."""
        found = len(chunks[0].plan.parts)
        for host, chunk in zip(self.hosts, chunks, strict=True):
            counts = {name: chunk.plan.per_period(name, before, block) for name in chunk.starts}
            moving = [name for name, count in counts.items() if count]
            found = min([found, *(host.rank.streams[name].room(moving) // counts[name] for name in moving)])
        return found

    def _issued_in_time(self, chunks: Sequence[Chunk], places: Sequence[int], before: Mark, mark: Mark) -> int:
        """The last block up to which every host has issued all before it is due; -1 if any was late.

        Nothing in the period that repeats waited for a host if the furthest block, and the next, had been issued when
        it began. Blocks after these are due a period later for each period of blocks.
        """
        period, seconds, furthest = mark.number - before.number, mark.at - before.at, max(places)
        found = last = len(chunks[0].plan.parts) - 1
        for host, chunk in zip(self.hosts, chunks, strict=True):
            if not host.blocked or max(chunk.issued(furthest), chunk.issued(min(furthest + 1, last))) > before.at:
                return -1
            part = furthest + 1
            while part <= found and chunk.issued(part) <= mark.at + (part - furthest - 1) // period * seconds:
                part += 1
            found = part - 1
        return found

    def _paced(self, chunks: Sequence[Chunk], places: Sequence[int], before: Mark, mark: Mark) -> int:
        """The last block up to which hosts issue just as many seconds apart as the period lasts; -1 if none is."""
        period, seconds, same = mark.number - before.number, mark.at - before.at, instant_tolerance(mark.at)
        found = len(chunks[0].plan.parts) - 1
        for host, chunk in zip(self.hosts, chunks, strict=True):
            part = max(period, min(places))
            while (
                part <= found and host.blocked and _close(chunk.since(part - period, -seconds), chunk.since(part), same)
            ):
                part += 1
            found = part - 1
        return found if found > max(places) else -1


def _close(one: Sequence[float], other: Sequence[float], limit: float) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= limit for a, b in zip(one, other, strict=True))
