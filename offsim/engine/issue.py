"""What the host thread will issue, worked out ahead.

A program has no branches, so the order on every stream, the record that a wait refers to and the host's time between
two places where it may block are known before anything runs. What remains for the simulation is when. Parts that look
alike share one plan.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from offsim.program.commands import (
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    HostWork,
    Record,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.passages import Part, Passage, passages_of

from .durations import Durations
from .host_costs import HostCosts
from .part_plan import Awaited, Item, PartPlan, PlaceInPart

LONGEST_PERIOD = 8
"""Parts after which a pattern may repeat: prefetching in groups of P blocks repeats after P."""
SEEN: dict[type, Callable[[Any], Hashable]] = {
    Compute: lambda c: (Compute, c.stream, c.kernels),
    Copy: lambda c: (Copy, c.stream, c.direction, c.bytes, c.host_memory, c.calls),
    Collective: lambda c: (Collective, c.stream, c.kind, c.bytes, c.group),
    HostWork: lambda c: (HostWork, c.name, c.duration),
    Synchronize: lambda c: (Synchronize, c.scope, "" if c.scope == "event" else c.target),
}
"""What the engine sees of a command besides its type: no names, nor those of events."""


class Plans:
    """Plans of everything that one program issues, each different one made once."""

    def __init__(self, costs: HostCosts, durations: Durations, queue_depth: int) -> None:
        self._costs = costs
        self._durations = durations
        self._longest = max(1, queue_depth // 16)
        self._looks: dict[Hashable, tuple[int, PartPlan]] = {}
        self._likes: dict[Hashable, int] = {}
        self._passages: dict[int, PassagePlan] = {}
        self._sections: dict[int, list[PassagePlan]] = {}

    def of_section(self, commands: Sequence[Command]) -> "list[PassagePlan]":
        """The plans of a section's passages, the same ones for the same commands."""
        if id(commands) not in self._sections:
            self._sections[id(commands)] = [self._of_passage(passage) for passage in passages_of(commands)]
        return self._sections[id(commands)]

    def commands(self, program: StreamProgram) -> int:
        """How many commands one rank puts on its streams."""
        sections = Counter(id(section.commands) for section in program.sections)
        distinct = {id(section.commands): section.commands for section in program.sections}
        counts = {key: [plan.counts for plan in self.of_section(commands)] for key, commands in distinct.items()}
        return sum(times * sum(sum(one.values()) for one in counts[key]) for key, times in sections.items())

    def _of_passage(self, passage: Passage) -> "PassagePlan":
        if id(passage) not in self._passages:
            self._passages[id(passage)] = PassagePlan(passage, self)
        return self._passages[id(passage)]

    def of_part(self, part: Part, seen: Hashable, awaited: Sequence[Awaited]) -> tuple[int, PartPlan]:
        """The plan of a part, and a number that parts have in common which look alike.

        `seen`: all that the engine sees of its commands. `awaited`: what its waits, and synchronisations with events,
        refer to, in order.
        """
        look = (seen, tuple(awaited))
        found = self._looks.get(look)
        if found is None:
            settled = (seen, tuple(None if isinstance(one, int) else one for one in awaited))
            like = self._likes.setdefault(settled, len(self._likes))
            plan = PartPlan(part, awaited, like, self._costs, self._durations, self._longest)
            found = self._looks[look] = (len(self._looks), plan)
        return found


class PassagePlan:
    """A passage as the engine reads it: the plans of its parts, and where each begins."""

    def __init__(self, passage: Passage, plans: Plans) -> None:
        self.passage = passage
        self.parts: list[PartPlan] = []
        self.begins: list[dict[str, int]] = []
        """Commands of the passage before each part, by stream."""
        self.records: dict[str, PlaceInPart] = {}
        """The last record of each event, counted from the passage's begin."""
        self.earlier: list[str] = []
        """Events that waits refer to and earlier passages recorded."""
        self.items: dict[str, list[Item]] = {}
        self.part_numbers: dict[str, list[int]] = {}
        """The part that each command belongs to, by stream."""
        self._looks: list[int] = []
        counts: dict[str, int] = {}
        for number, part in enumerate(passage):
            self.begins.append(dict(counts))
            look, plan = plans.of_part(part, *self._read(part, counts))
            self._looks.append(look)
            self.parts.append(plan)
            for stream, items in plan.items.items():
                self.items.setdefault(stream, []).extend(items)
                self.part_numbers.setdefault(stream, []).extend([number] * len(items))
        self.counts = counts
        """How many commands the passage has, by stream."""
        self._likes = [plan.like for plan in self.parts]
        self._alike: dict[tuple[int, bool], list[int]] = {}

    def _read(self, part: Part, counts: dict[str, int]) -> tuple[Hashable, list[Awaited]]:
        """What the engine sees of a part, and what its waits refer to; counts its commands, and remembers records."""
        awaited: list[Awaited] = []
        before = self._read_all(part.before, counts, awaited)
        template = part.template
        if template is not None:
            counts[template.stream] = counts.get(template.stream, 0) + len(template.commands)
        return (before, id(template), self._read_all(part.after, counts, awaited)), awaited

    def _read_all(
        self, commands: Sequence[Command], counts: dict[str, int], awaited: list[Awaited]
    ) -> tuple[Hashable, ...]:
        seen: list[Hashable] = []
        for command in commands:
            if isinstance(command, Record):
                count = counts[command.stream] = counts.get(command.stream, 0) + 1
                self.records[command.event] = (command.stream, count)
                seen.append((Record, command.stream))
            elif isinstance(command, Wait):
                counts[command.stream] = counts.get(command.stream, 0) + 1
                awaited.append(self._record(command.event))
                seen.append((Wait, command.stream))
            elif isinstance(command, Allocate) or isinstance(command, Free):  # noqa: SIM101  (much faster than a union)
                seen.append("memory")
            else:
                seen.append(SEEN[command.__class__](command))
                if isinstance(command, Synchronize):
                    if command.scope == "event":
                        awaited.append(self._record(command.target))
                elif not isinstance(command, HostWork):
                    counts[command.stream] = counts.get(command.stream, 0) + 1
        return tuple(seen)

    def _record(self, event: str) -> Awaited:
        """What a wait in the last part refers to."""
        if event not in self.records:
            if event not in self.earlier:
                self.earlier.append(event)
            return self.earlier.index(event)
        stream, count = self.records[event]
        return (stream, count - self.begins[-1].get(stream, 0))

    def is_block(self, number: int) -> bool:
        """Whether a part is a transformer block."""
        return self.passage[number].template is not None

    def last_alike(self, part: int, period: int, *, settled: bool) -> int:
        """The last of the parts from `part` on that look like the ones `period` before; part - 1 if none does.

        `settled`: all events have fired that earlier passages recorded, so that it does not matter which a wait means.
        """
        key = (period, settled)
        if key not in self._alike:
            looks = self._likes if settled else self._looks
            last = [i - 1 for i in range(len(looks) + 1)]
            for i in range(len(looks) - 1, period - 1, -1):
                if looks[i] == looks[i - period]:
                    last[i] = last[i + 1]
            self._alike[key] = last
        return self._alike[key][part]

    def likes(self, start: int, stop: int) -> list[int]:
        """How the parts from `start` to before `stop` look once settled: equal ones are alike, in all passages."""
        return self._likes[start:stop]

    def may_repeat(self, part: int) -> bool:
        """Whether this part may be like one of a few before, or the next ones like it, with room for a period more."""
        if part + 3 > len(self._likes):
            return False
        like, likes = self._likes[part], self._likes
        return (
            like in likes[max(0, part - LONGEST_PERIOD) : part] or like in likes[part + 1 : part + 1 + LONGEST_PERIOD]
        )

    def per_period(self, stream: str, before: int, part: int) -> int:
        """Commands of a stream from one part to another."""
        return self.begins[part].get(stream, 0) - self.begins[before].get(stream, 0)

    def part_at(self, stream: str, place: int) -> int:
        """The part that issues a stream's command number `place` of this passage; -1 before the first."""
        numbers = self.part_numbers[stream]
        if place < 0:
            return -1
        return numbers[place] if place < len(numbers) else len(self.parts) - 1
