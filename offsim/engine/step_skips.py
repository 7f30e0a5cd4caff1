"""Sections that repeat are left out, as steps do; what they are for does not matter here.

Where the state at the begin of a section equals that at the begin of the one before, and both have the same commands,
the sections on the streams become later ones while the clock stands still. Where the host begins a section as it began
the same one before, all sections like it are left out, the last one too.
"""

from collections.abc import Sequence

from offsim.program.commands import COMPUTE, StreamProgram
from offsim.program.repeats import Repeat
from offsim.program.timeline import Timeline

from .host import HostThread
from .network import Network
from .queue import instant_tolerance
from .state import Mark, State, empty_state, look


class StepSkips:
    """Compares states at the begins of sections, and leaves out what repeats."""

    def __init__(
        self, program: StreamProgram, network: Network, timeline: Timeline, hosts: Sequence[HostThread]
    ) -> None:
        self.program = program
        self.network = network
        self.timeline = timeline
        self.hosts = hosts
        self._step: Mark | None = None
        self._begin: Mark | None = None
        """Where the host began the last section."""

    def at_begin(self, section: int) -> int:
        """How many sections, from the one on that a host is about to begin as the only one, are left out.

        All that are like the one before, if the state is as when that one began and it is done: only then does it not
        matter to it what comes next. What is still at work then (copies ahead) was so a section before, too.
        """
        before, at, [host] = self._begin, self.network.agenda.now, self.hosts
        self._begin = None
        late = host.clock < at
        if not self._may_repeat(section) or late or not host.rank.stream(COMPUTE).idle:
            return 0
        now = self._begin = Mark(section, at, self._begin_state(host), (host.record.length,))
        if before is None or not self._same_section(section, before.number):
            return 0
        if not (now.state.same_device(before.state, at) and now.state.same_hosts(before.state, at)):
            return 0
        count = self._last_alike(section) + 1 - section
        seconds, same = self.timeline.real(at) - self.timeline.real(before.at), instant_tolerance(at)
        repeat = Repeat(section - 1, count, seconds, before.at + same, at + same, by_end=True, resumes=at - same)
        self._left_out(repeat, before)
        self._begin = self._step = None
        return count

    def _begin_state(self, host: HostThread) -> State:
        state = empty_state(self.network)
        look(state, host, {}, {}, plans=True)
        for stream in host.rank.streams.values():
            if not stream.idle:
                ahead = stream.ahead[0]
                plan = id(ahead.chunk.plan)
                state.places.append((plan, stream.done - ahead.start, stream.issued - stream.done))
        return state

    def at_section(self, section: int) -> None:
        """Take note that a section begins on the compute stream of the first simulated rank."""
        before, at = self._step, self.network.agenda.now
        self._step = None
        if not self._may_repeat(section):
            return
        notes = tuple([host.record.length for host in self.hosts])
        now = self._step = Mark(section, at, self._section_state(section), notes)
        if before is None or not self._same_section(section, before.number):
            return
        # Everything from the section before this one to what hosts will then be in looks the same.
        count = self._last_alike(section) - max(host.number for host in self.hosts)
        if count > 0 and now.state.same_device(before.state, at) and now.state.same_hosts(before.state, at):
            seconds, same = self.timeline.real(at) - self.timeline.real(before.at), instant_tolerance(at)
            repeat = Repeat(section - 1, count, seconds, before.at - same, at - same, resumes=at - same)
            self._left_out(repeat, before)
            self._skip_sections(section, count)
            self._step = None

    def _left_out(self, repeat: Repeat, before: Mark) -> None:
        """Say that sections were: hosts did again what they have done since then."""
        for host, first in zip(self.hosts, before.notes, strict=True):
            host.record.again(first, repeat.times, repeat.period, sections=1)
        self.timeline.repeats.append(repeat)
        self.network.agenda.skipped += repeat.times * repeat.period

    def _may_repeat(self, section: int) -> bool:
        """Whether the section before or after has the very same commands: else nobody asks for its state."""
        last = len(self.program.sections) - 1
        return (section > 0 and self._same_section(section, section - 1)) or (
            section < last and self._same_section(section + 1, section)
        )

    def _same_section(self, one: int, other: int) -> bool:
        sections = self.program.sections
        return other == one - 1 and sections[one].commands is sections[other].commands

    def _last_alike(self, section: int) -> int:
        """The last section after this one up to which all have the very same commands."""
        last = section
        while last + 1 < len(self.program.sections) and self._same_section(last + 1, last):
            last += 1
        return last

    def _section_state(self, section: int) -> State:
        state = empty_state(self.network)
        for host in self.hosts:
            last = host.chunks[-1]
            state.places.append((last.passed.section - section, last.number))
            look(state, host, last.starts, {}, plans=True)
            state.hosts.append((host.number - section, host.part, *host.state))
        return state

    def _skip_sections(self, first: int, count: int) -> None:
        """What has been issued of section `first` and later ones now belongs to sections `count` later."""
        for host in self.hosts:
            host.number += count
            for passed in reversed(host.passed):
                if passed.section < first:
                    break
                passed.section += count
