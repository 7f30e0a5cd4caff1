"""Which work a section's end depends on: backwards along streams and waits, without a clock.

The walk ends where everything before is needed anyway; that is counted, not looked at.
"""

from collections import Counter

from offsim.program.commands import COMPUTE, Synchronize

from .acts import Act, Acts, PassageInSection, SectionActs

NeededPart = tuple[PassageInSection, Acts, dict[str, int]]
"""A part, with the passage that it stands in and the passage's commands before it."""


class NeededWork:
    """The work that has ended when the host and the compute stream are through, and what it needs of earlier sections.

    `later`: the need of an equal section that follows; its end counts, too.
    """

    def __init__(self, section: SectionActs, later: "NeededWork | None" = None) -> None:
        self.work: Counter[Act] = Counter()
        """How often each act is needed."""
        self.required: dict[str, int] = {}
        """How many of the section's commands are needed, by stream; 0 for all that came before it."""
        self.events: set[str] = set()
        """Those recorded before the section."""
        self.all_before = False
        """Whether the host waits for all that was issued before the section."""
        self._require((COMPUTE, section.counts.get(COMPUTE, 0)))
        if later is not None:
            self._require_for(section, later)
        parts = [(passage, *stretch) for passage in section.passages for stretch in passage.stretches]
        self.complete = self._walk(parts)
        """Whether everything is needed."""

    def _require_for(self, section: SectionActs, later: "NeededWork") -> None:
        """What a section that follows depends on."""
        for stream in section.counts if later.all_before else later.required:
            self._require((stream, section.counts.get(stream, 0)))
        for event in later.events:
            self._require(section.recorded.get(event, event))

    def _walk(self, parts: list[NeededPart]) -> bool:
        """Backwards through all parts; whether all work is needed."""
        left, missing = len(parts), 0
        while left and not self._covers(parts[left - 1]):
            left -= 1
            missing += self._part(parts[left])
        for acts, times in Counter([acts for _, acts, _ in parts[:left]]).items():
            for act, number in acts.work.items():
                self.work[act] += times * number
        for part in parts[:left]:
            for act in part[1].outward:
                self._wait(part, act)
        return not missing

    def _covers(self, part: NeededPart) -> bool:
        """Whether all that was issued up to the end of a part is needed."""
        passage, acts, begins = part
        required, counts = self.required, acts.counts
        for stream in {*passage.base, *begins, *counts}:
            if required.get(stream, 0) < passage.before(begins, stream) + counts.get(stream, 0):
                return False
        return True

    def _part(self, part: NeededPart) -> int:
        """Backwards through a part; how much work is not needed."""
        passage, acts, begins = part
        missing = 0
        for act in reversed(acts.acts):
            place = passage.before(begins, act.stream) + act.place
            if act.blocks:
                self._require((act.stream, place))
            if not act.stream or act.is_wait:
                if place <= self.required.get(act.stream, 0):
                    self._wait(part, act)
            elif act.is_work:
                if place <= self.required.get(act.stream, 0):
                    self.work[act] += 1
                else:
                    missing += 1
        return missing

    def _wait(self, part: NeededPart, act: Act) -> None:
        """What a stream waits for in a wait, or the host in a synchronisation, is needed."""
        passage, _, begins = part
        if act.awaited is not None:
            self._require(passage.awaited(begins, act.awaited))
        elif isinstance(act.command, Synchronize) and act.command.scope == "device":
            self.all_before = True
            for stream in {*passage.base, *begins, *act.issued}:
                self._require((stream, passage.before(begins, stream) + act.issued.get(stream, 0)))
        elif isinstance(act.command, Synchronize) and act.command.scope == "stream":
            stream = act.command.target
            self._require((stream, passage.before(begins, stream) + act.issued.get(stream, 0)))

    def _require(self, place: tuple[str, int] | str) -> None:
        if isinstance(place, str):
            self.events.add(place)
        elif place[1] >= self.required.get(place[0], 0):
            self.required[place[0]] = place[1]
