"""Which work a section's end depends on: backwards along streams and waits, without a clock.

The walk ends where everything before is needed anyway; that is counted, not looked at.
"""

from collections import Counter

from offsim.program.commands import COMPUTE, Synchronize

from .acts import Act, SectionActs, Stretch


class Need:
    """The work that has ended when the host and the compute stream are through, and what it needs of earlier sections.

    `later`: the need of an equal section that follows; its end counts, too.
    """

    def __init__(self, section: SectionActs, later: "Need | None" = None) -> None:
        self.work: Counter[Act] = Counter()
        """How often each act is needed."""
        self.required: dict[str, int] = {}
        """Per stream, how many of the section's commands; 0 for all that came before it."""
        self.events: set[str] = set()
        """Those recorded before the section."""
        self.all_before = False
        """Whether the host waits for all that was issued before the section."""
        self._require((COMPUTE, section.counts.get(COMPUTE, 0)))
        if later is not None:
            self._require_for(section, later)
        self.complete = self._walk(section.stretches)
        """Whether everything is needed."""

    def _require_for(self, section: SectionActs, later: "Need") -> None:
        """What a section that follows depends on."""
        for stream in section.counts if later.all_before else later.required:
            self._require((stream, section.counts.get(stream, 0)))
        for event in later.events:
            self._require(section.recorded.get(event, event))

    def _walk(self, stretches: list[Stretch]) -> bool:
        """Backwards through all parts; whether all work is needed."""
        left, missing = len(stretches), 0
        while left and not self._covers(stretches[left - 1]):
            left -= 1
            missing += self._part(stretches[left])
        for acts, times in Counter([stretch.acts for stretch in stretches[:left]]).items():
            for act in acts.work:
                self.work[act] += times * acts.work[act]
        for stretch in stretches[:left]:
            for act in stretch.acts.outward:
                self._wait(stretch, act)
        return not missing

    def _covers(self, stretch: Stretch) -> bool:
        """Whether all that was issued up to the end of a part is needed."""
        required, counts = self.required, stretch.acts.counts
        streams = {*stretch.base, *stretch.begins, *counts}
        return all(required.get(stream, 0) >= stretch.before(stream) + counts.get(stream, 0) for stream in streams)

    def _part(self, stretch: Stretch) -> int:
        """Backwards through a part; how much work is not needed."""
        missing = 0
        for act in reversed(stretch.acts.acts):
            place = stretch.before(act.stream) + act.place
            if act.blocks:
                self._require((act.stream, place))
            if not act.stream or act.is_wait:
                if place <= self.required.get(act.stream, 0):
                    self._wait(stretch, act)
            elif act.is_work:
                if place <= self.required.get(act.stream, 0):
                    self.work[act] += 1
                else:
                    missing += 1
        return missing

    def _wait(self, stretch: Stretch, act: Act) -> None:
        """What a stream waits for in a wait, or the host in a synchronisation, is needed."""
        if act.awaited is not None:
            self._require(stretch.awaited(act.awaited))
        elif isinstance(act.command, Synchronize) and act.command.scope == "device":
            self.all_before = True
            for stream in {*stretch.base, *stretch.begins, *act.issued}:
                self._require((stream, stretch.before(stream) + act.issued.get(stream, 0)))
        elif isinstance(act.command, Synchronize) and act.command.scope == "stream":
            stream = act.command.target
            self._require((stream, stretch.before(stream) + act.issued.get(stream, 0)))

    def _require(self, place: tuple[str, int] | str) -> None:
        if isinstance(place, str):
            self.events.add(place)
        elif place[1] >= self.required.get(place[0], 0):
            self.required[place[0]] = place[1]
