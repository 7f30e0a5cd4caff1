"""Blocks that repeat are left out.

If the state at the begin of a block equals that one period of blocks before, and the commands ahead look like the ones
a period before, the next period takes exactly as long: so the places on the streams move on by whole periods while the
clock stands still. A period that was found is remembered: where its state comes up again, in another forward, before
commands that look the same, it need not be simulated first. The last blocks, whose commands differ, are simulated.
"""

from collections.abc import Sequence
from typing import NamedTuple

from offsim.program.repeats import Repeat
from offsim.program.timeline import Timeline

from .host import HostThread
from .issue import LONGEST_PERIOD, PassagePlan
from .left_out import LeftOut, Pattern
from .network import Network
from .queue import IssuedPassage, instant_tolerance
from .state import Mark, State, close, empty_state, look


class Period(NamedTuple):
    """A period that was simulated: blocks at whose begin the state was the same, nothing waiting for a host between."""

    before: Mark
    mark: Mark
    looks: tuple[int, ...]
    """How the parts looked that were at work, from the first one at its begin to the last one at its end; before them,
    how many parts before the block the first one is."""
    repeat: Repeat
    patterns: list[Pattern]
    """What each host's streams did in the period."""


class BlockSkips:
    """Compares states at the begins of blocks, and moves everything on when one repeats."""

    def __init__(self, network: Network, timeline: Timeline, hosts: Sequence[HostThread]) -> None:
        self.network = network
        self.timeline = timeline
        self.hosts = hosts
        self._blocks: list[Mark] = []
        self._chunk: IssuedPassage | None = None
        self._known: list[Period] = []

    def at_block(self, chunk: IssuedPassage, block: int) -> None:
        """A block begins on the compute stream of the first simulated rank."""
        chunks = self._chunks_of(chunk)
        if chunk is not self._chunk:
            self._blocks, self._chunk = [], chunk
        if not chunk.plan.may_repeat(block) or chunks is None:
            self._blocks = []
            return
        at, settled = self.network.agenda.now, all(one.settled for one in chunks)
        notes = tuple([host.record.length for host in self.hosts])
        mark = Mark(block, at, self._block_state(chunks, block), notes, settled)
        if self._again(chunks, mark):
            self._blocks = []
        else:
            self._blocks = [*self._blocks[1 - LONGEST_PERIOD :], mark]

    def _again(self, chunks: Sequence[IssuedPassage], mark: Mark) -> bool:
        """Move on if this state was there a few blocks ago, or in another forward; whether it did."""
        for before in reversed(self._blocks):
            if mark.state.same_device(before.state, mark.at) and self._move_on(chunks, before, mark):
                return True
        for known in self._known:
            if mark.state.same_device(known.mark.state, mark.at) and self._move_on_as(chunks, known, mark):
                return True
        return False

    def _chunks_of(self, one: IssuedPassage) -> list[IssuedPassage] | None:
        """Every rank's part of the same passage; None if a host has not come to it."""
        wanted = (one.passed.section, one.number)
        found = [c for host in self.hosts for c in host.chunks if (c.passed.section, c.number) == wanted]
        return found if len(found) == len(self.hosts) else None

    def _block_state(self, chunks: Sequence[IssuedPassage], block: int) -> State:
        state, now = empty_state(self.network), self.network.agenda.now
        for host, chunk in zip(self.hosts, chunks, strict=True):
            look(state, host, chunk.starts, chunk.plan.begins[block])
            here = host.chunks[-1] is chunk
            state.hosts.append((here, host.part - block, *host.state))
            for part in range(len(chunk.released) - 1, block - 1, -1):
                if chunk.issued(part) <= now:
                    break  # And so are those before.
                pieces = zip(chunk.released[part], chunk.plan.parts[part].pieces, strict=False)
                state.host_seconds.extend([at - now for at, piece in pieces if at + piece.cost > now])
        return state

    def _move_on(self, chunks: Sequence[IssuedPassage], before: Mark, mark: Mark) -> bool:
        """Skip as many periods as the commands allow; whether they allow any."""
        plan, block, period = chunks[0].plan, mark.number, mark.number - before.number
        places = self._blocks_in_work(chunks, before.number, block)
        if places is None or min(places) < 0:
            return False
        last = plan.last_alike(min(places), period, settled=before.settled)
        if last < block:
            return False
        together = 0
        issued = in_time = self._issued_in_time(chunks, places, before, mark)
        if issued - period < last:
            issued = max(issued, self._paced(chunks, places, before, mark))
        alone = (min(last, issued - 1) - max(places)) // period
        if mark.state.same_hosts(before.state, mark.at) and self._hosts_alike(plan, places, period, before):
            together = (last - max(*places, self._furthest_host(chunks))) // period
        times = min(max(alone, together), self._room(chunks, before.number, block, mark.at - before.at))
        if times <= 0:
            return False
        tracks = self._tracks(chunks, before.number, block)
        repeat = _repeat(chunks[0], before, mark, min(places), times)._replace(tracks=tracks)
        patterns = self._patterns(chunks, before.number, mark)
        if together > alone:
            self._move_hosts_on(chunks, before, mark, repeat)
        else:
            self._leave_out(chunks, (before.number, block), repeat, patterns)
        if in_time >= 0 and before.settled:
            looks = self._looks(plan, before.number, min(places) - period, places)
            self._known.append(Period(before, mark, looks, repeat, patterns))
        return True

    def _move_on_as(self, chunks: Sequence[IssuedPassage], known: Period, mark: Mark) -> bool:
        """Skip periods like one that began in this state, if the commands ahead look like those then; whether it did.

        Everything is asked as at the end of the first of them, which lies ahead and would end in this state, too.
        """
        plan, block, at = chunks[0].plan, mark.number, mark.at
        period, seconds = known.repeat.parts, known.repeat.period
        ahead = Mark(block + period, at + seconds, mark.state, mark.notes, mark.settled)
        if ahead.number >= len(plan.parts) or not mark.settled:
            return False
        now = self._blocks_in_work(chunks, block, ahead.number)
        if now is None or min(now) < 0:
            return False
        places = [place + period for place in now]
        last = plan.last_alike(min(places), period, settled=True)
        if last < ahead.number or self._looks(plan, block, min(now), places) != known.looks:
            return False
        issued = self._issued_in_time(chunks, places, mark, ahead)
        room = self._room(chunks, block, ahead.number, seconds)
        times = min((min(last, issued - 1) - max(places)) // period, room - 1)
        if times < 0:
            return False
        repeat = known.repeat._replace(
            section=chunks[0].passed.section,
            times=times + 1,
            resumes=at - instant_tolerance(at),
            lag=self.timeline.real(at) - self.timeline.real(known.before.at),
            where=(chunks[0].number, min(now)),
            tracks=self._tracks(chunks, block, ahead.number),
        )
        self._leave_out(chunks, (block, ahead.number), repeat, known.patterns)
        return True

    def _looks(self, plan: PassagePlan, block: int, first: int, places: Sequence[int]) -> tuple[int, ...]:
        """See Period: `first` is at work at the begin, `places` are at the end."""
        return (block - first, *plan.likes(first, max(places) + 1))

    def _move_hosts_on(self, chunks: Sequence[IssuedPassage], before: Mark, mark: Mark, repeat: Repeat) -> None:
        """Move streams and hosts on by periods, each as long as from one mark to the other."""
        for host, chunk, first in zip(self.hosts, chunks, before.notes, strict=True):
            host.move_on(chunk, (before.number, mark.number), repeat.times)
            host.record.again(first, repeat.times, repeat.period, parts=repeat.parts)
        self._left_out(repeat)

    def _leave_out(
        self, chunks: Sequence[IssuedPassage], blocks: tuple[int, int], repeat: Repeat, patterns: Sequence[Pattern]
    ) -> None:
        """Move streams on by periods, each as long as from one block to another; hosts have issued all of that."""
        begin = self.network.agenda.now + self.network.agenda.skipped
        for host, chunk, pattern in zip(self.hosts, chunks, patterns, strict=True):
            left_out = {
                name: LeftOut(host.rank.streams[name].done, repeat.times, begin, repeat.period, pattern[name])
                for name in chunk.per_period(*blocks)
            }
            host.stay(left_out, repeat.times * repeat.period)
        self._left_out(repeat)

    def _left_out(self, repeat: Repeat) -> None:
        """Say that something was."""
        self.timeline.repeats.append(repeat)
        self.network.agenda.skipped += repeat.times * repeat.period

    def _patterns(self, chunks: Sequence[IssuedPassage], before: int, mark: Mark) -> list[Pattern]:
        """When in the period from block `before` to the mark each stream's commands were done, by host."""
        return [
            {
                name: [mark.at - end for end in host.rank.streams[name].ends[-count:]]
                for name, count in chunk.per_period(before, mark.number).items()
            }
            for host, chunk in zip(self.hosts, chunks, strict=True)
        ]

    def _tracks(self, chunks: Sequence[IssuedPassage], before: int, block: int) -> frozenset[str]:
        """The tracks that go on meanwhile."""
        return frozenset((*chunks[0].per_period(before, block), "H2D engine", "D2H engine"))

    def _hosts_alike(self, plan: PassagePlan, places: Sequence[int], period: int, before: Mark) -> bool:
        """Whether what hosts still have to issue of their blocks looks like what they had a period before, too."""
        first = min(*places, *(host.part for host in self.hosts))
        return plan.last_alike(first, period, settled=before.settled) >= min(places)

    def _furthest_host(self, chunks: Sequence[IssuedPassage]) -> int:
        """The block that the furthest host issues; beyond the last one if it is in another section."""
        elsewhere = any(host.chunks[-1] is not chunk for host, chunk in zip(self.hosts, chunks, strict=True))
        return len(chunks[0].plan.parts) if elsewhere else max(host.part for host in self.hosts)

    def _blocks_in_work(self, chunks: Sequence[IssuedPassage], before: int, block: int) -> list[int] | None:
        """The blocks at which the streams are; None if one is busy with something that does not move on."""
        found = []
        for host, chunk in zip(self.hosts, chunks, strict=True):
            moving = chunk.per_period(before, block)
            for name, stream in host.rank.streams.items():
                if name in moving:
                    found.append(chunk.plan.part_at(name, stream.done - chunk.starts[name]))
                elif stream.busy and not stream.waits:
                    return None
        return found

    def _room(self, chunks: Sequence[IssuedPassage], before: int, block: int, seconds: float) -> int:
        """Periods, of so many seconds, that may pass before a stream does something that does not move on with them.

        It starts a command that is to be issued then, or goes on because an event fires.
        """
        found, now = len(chunks[0].plan.parts), self.network.agenda.now
        for host, chunk in zip(self.hosts, chunks, strict=True):
            counts = chunk.per_period(before, block)
            found = min([found, *(host.rank.streams[name].room(counts) // count for name, count in counts.items())])
            for name, stream in host.rank.streams.items():
                if name not in counts and stream.starts_at < now + found * seconds:
                    found = int((stream.starts_at - now) / seconds)
        return found

    def _issued_in_time(self, chunks: Sequence[IssuedPassage], places: Sequence[int], before: Mark, mark: Mark) -> int:
        """The last block up to which every host has issued all before it is due; -1 if any was late.

        Nothing in the period that repeats waited for a host if the furthest block, and the next, had been issued when
        it began. Blocks after these are due a period later for each period of blocks: each before the period in which
        a stream comes to the block before it, since copies look at what comes next.
        """
        period, seconds, furthest = mark.number - before.number, mark.at - before.at, max(places)
        found = last = len(chunks[0].plan.parts) - 1
        for host, chunk in zip(self.hosts, chunks, strict=True):
            if not host.blocked or max(chunk.issued(furthest), chunk.issued(min(furthest + 1, last))) > before.at:
                return -1
            if chunk.issued(found) <= mark.at:
                continue  # And so are those before.
            part = furthest + 1
            while part <= found and chunk.issued(part) <= mark.at + (part - furthest - 2) // period * seconds:
                part += 1
            found = part - 1
        return found

    def _paced(self, chunks: Sequence[IssuedPassage], places: Sequence[int], before: Mark, mark: Mark) -> int:
        """The last block up to which hosts issue just as many seconds apart as the period lasts; -1 if none is."""
        period, seconds, same = mark.number - before.number, mark.at - before.at, instant_tolerance(mark.at)
        found = len(chunks[0].plan.parts) - 1
        for host, chunk in zip(self.hosts, chunks, strict=True):
            part = max(period, min(places))
            while (
                part <= found and host.blocked and close(chunk.since(part - period, -seconds), chunk.since(part), same)
            ):
                part += 1
            found = part - 1
        return found if found > max(places) else -1


def _repeat(chunk: IssuedPassage, before: Mark, mark: Mark, first: int, times: int) -> Repeat:
    """So many repetitions of what was done from one mark to the other, from whose end on part `first` is at work."""
    same, section, period = instant_tolerance(mark.at), chunk.passed.section, mark.number - before.number
    return Repeat(
        section=section,
        times=times,
        period=mark.at - before.at,
        begin=before.at - same,
        after=mark.at - same,
        resumes=mark.at - same,
        source=(section, chunk.number, first - period),
        where=(chunk.number, first),
        parts=period,
    )
