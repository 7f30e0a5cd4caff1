"""A section as bounds look at it: what the host does one after the other, parts that look alike read once."""

from collections import Counter
from collections.abc import Callable, Sequence

from offsim.program.commands import Collective, Command, Compute, Copy, Record, Synchronize, Wait
from offsim.program.passages import Template, stream_of

from .host_costs import HostCosts
from .issue import PassagePlan
from .part_plan import Awaited, PartPlan, PlaceInPart

BoundWork = Compute | Copy | Collective | Template
WORK = frozenset((Compute, Copy, Collective, Template))


class Act:
    """Something that the host puts on a stream, a template as a whole, or waits for."""

    __slots__ = ("awaited", "blocks", "command", "host", "is_record", "is_wait", "is_work", "issued", "place", "stream")

    def __init__(self, command: Command | Template, issued: dict[str, int], host: float) -> None:
        self.command = command
        self.stream = stream_of(command) or ""
        """Empty for the host's own."""
        self.issued = dict(issued) if isinstance(command, Synchronize) else {}
        """Commands of the part before a synchronisation, by stream."""
        self.place = issued.get(self.stream, 0)
        """Commands of the part on its stream up to this act."""
        self.host = host
        """Host seconds of it, and of what came before it and occupied only the host."""
        self.awaited: Awaited | None = None
        """The record that a wait for an event refers to."""
        self.is_work = command.__class__ in WORK
        self.is_record = command.__class__ is Record
        self.is_wait = command.__class__ is Wait
        self.blocks = isinstance(command, Copy) and command.host_memory != "pinned"
        """Whether the host waits for its end."""


Timed = tuple[Act, str, float, float, float, float]
"""An act, its stream, host seconds before its first command is issued, seconds alone on the stream, the least seconds
from the issue of its first command to the end of its last one, host seconds of issuing the others."""


class Acts:
    """What the host does in a part."""

    def __init__(self, plan: PartPlan, costs: HostCosts) -> None:
        self.acts: list[Act] = []
        self.rest = 0.0
        """Host seconds after the last of them."""
        self.counts: dict[str, int] = {}
        """Commands of all acts, by stream."""
        awaited = iter(plan.awaited)
        for command in plan.part.coarse():
            stream = stream_of(command)
            self.rest += 0.0 if isinstance(command, Template) else costs.of(command)
            if stream is not None:
                added = len(command.commands) if isinstance(command, Template) else 1
                self.counts[stream] = self.counts.get(stream, 0) + added
            elif not isinstance(command, Synchronize):
                continue
            act = Act(command, self.counts, self.rest)
            if act.is_wait or (isinstance(command, Synchronize) and command.scope == "event"):
                act.awaited = next(awaited)
            self.acts.append(act)
            self.rest = 0.0
        self.timed: dict[int, list[Timed]] = {}
        """What each act takes alone, by rank."""
        self.work = Counter([act for act in self.acts if act.is_work])
        self.outward = [act for act in self.acts if not act.stream or isinstance(act.awaited, int)]
        """What may depend on earlier passages, or on all of a stream."""


PartInPassage = tuple[Acts, dict[str, int]]
"""A part of a passage, and the commands of the passage before it, per stream."""


class PassageInSection:
    """A passage at its place in a section."""

    __slots__ = ("base", "earlier", "stretches")

    def __init__(
        self, stretches: list[PartInPassage], base: dict[str, int], earlier: Sequence[PlaceInPart | str]
    ) -> None:
        self.stretches = stretches
        self.base = base
        """Commands of the section before the passage, by stream."""
        self.earlier = earlier
        """What it waits for of earlier ones: a record in the section, or an event that was recorded before."""

    def before(self, begins: dict[str, int], stream: str) -> int:
        """Commands of the section on a stream before a part."""
        return self.base.get(stream, 0) + begins.get(stream, 0)

    def awaited(self, begins: dict[str, int], awaited: Awaited) -> PlaceInPart | str:
        """The record that is waited for, counted from the section's begin; or an event recorded before the section."""
        if isinstance(awaited, int):
            return self.earlier[awaited]
        stream, count = awaited
        return stream, self.before(begins, stream) + count


class SectionActs:
    """A section, passage by passage."""

    def __init__(
        self, passages: Sequence[PassagePlan], stretches_of: Callable[[PassagePlan], list[PartInPassage]]
    ) -> None:
        self.passages: list[PassageInSection] = []
        self.recorded: dict[str, PlaceInPart] = {}
        """The last record of each event."""
        base: dict[str, int] = {}
        for plan in passages:
            earlier = [self.recorded.get(event, event) for event in plan.earlier]
            self.passages.append(PassageInSection(stretches_of(plan), base, earlier))
            for event, (stream, count) in plan.records.items():
                self.recorded[event] = (stream, base.get(stream, 0) + count)
            base = {**base, **{stream: base.get(stream, 0) + count for stream, count in plan.counts.items()}}
        self.counts = base
        """Commands of the section, by stream."""
