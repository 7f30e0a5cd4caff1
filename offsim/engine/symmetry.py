"""Which ranks a node's topology and a program make identical, found without looking at pairs of ranks.

Colour refinement over ranks, PCIe switches, sockets and sequence groups: two ranks keep one colour only if their
switch, socket and group look alike and they have equally many mates of each colour below their switch, on their socket
and in their group; a switch, a socket and a group look like the ranks in them. Rings, which visit ranks in order, tell
ranks apart by what they use of each one's links. The result is an equitable partition: every rank of a colour meets the
same flows, so all of them do everything at the same instants. Where links between more than two sockets could still
differ, that is checked, and nothing is taken as alike if they do.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from offsim.program.commands import Collective, CollectiveName, StreamProgram, passages_of

from .fabric import Fabric, FlowClass, Owner

REFERENCE_BYTES = 1e8
"""Size at which rings are looked at: routes don't depend on it."""
K = TypeVar("K", bound=Hashable)


class Symmetry(NamedTuple):
    """Colours of ranks, switches, sockets and groups, each numbered from 0."""

    ranks: dict[int, int]
    switches: dict[int, int]
    sockets: dict[int, int]
    groups: dict[int, int]

    def colour(self, owner: Owner) -> Hashable:
        """What rows of owners that look alike have in common."""
        kind, *numbers = owner
        if kind == "node":
            return owner
        colours = {"rank": self.ranks, "switch": self.switches, "socket": self.sockets, "between": self.sockets}
        return (kind, *(colours[str(kind)][int(number)] for number in numbers))


def find_symmetry(fabric: Fabric, program: StreamProgram) -> Symmetry:
    """The coarsest symmetry found; every rank its own colour where links between sockets are in doubt."""
    node, groups = fabric.node, fabric.groups
    group_of = {rank: number for number, group in enumerate(groups) for rank in group}
    rings = _ring_use(fabric, program)
    ranks = dict.fromkeys(fabric.ranks, 0)
    switches = _number({i: (switch.h2d.value, switch.d2h.value) for i, switch in enumerate(node.switches)})
    memories = {i: (s.read.value, s.write.value, s.total.value) for i, s in enumerate(node.host.sockets)}
    sockets, colours = _number(memories), dict.fromkeys(range(len(groups)), 0)
    while True:
        before = [len(set(found.values())) for found in (ranks, switches, sockets, colours)]
        mates = _Mates(fabric, group_of, ranks)
        ranks = _number(
            {
                rank: (colour, *mates.of(rank, switches, sockets, colours), rings.get(("rank", rank), ()))
                for rank, colour in ranks.items()
            }
        )
        switches = _number(
            {i: (colour, mates.below.get(i, ()), rings.get(("switch", i), ())) for i, colour in switches.items()}
        )
        sockets = _number(
            {i: (colour, mates.on.get(i, ()), rings.get(("socket", i), ())) for i, colour in sockets.items()}
        )
        colours = _number({i: (colour, mates.inside[i]) for i, colour in colours.items()})
        if [len(set(found.values())) for found in (ranks, switches, sockets, colours)] == before:
            break
    found = Symmetry(ranks, switches, sockets, colours)
    if _sockets_in_doubt(fabric, found, rings):
        return Symmetry(*({key: key for key in part} for part in found))
    return found


class _Mates:
    """Colours of the ranks below each switch, on each socket and in each group, and in what they have in common."""

    def __init__(self, fabric: Fabric, group_of: dict[int, int], ranks: dict[int, int]) -> None:
        self._fabric, self._group_of = fabric, group_of
        self.below = _colours(((fabric.switch_of(rank), colour) for rank, colour in ranks.items()))
        self.on = _colours(((fabric.socket_of(rank), colour) for rank, colour in ranks.items()))
        self.inside = _colours(((group_of[rank], colour) for rank, colour in ranks.items()))
        self._below_and_inside = _colours((self._switch_key(rank), colour) for rank, colour in ranks.items())
        self._on_and_inside = _colours((self._socket_key(rank), colour) for rank, colour in ranks.items())

    def _switch_key(self, rank: int) -> tuple[int | None, int]:
        return self._fabric.switch_of(rank), self._group_of[rank]

    def _socket_key(self, rank: int) -> tuple[int, int]:
        return self._fabric.socket_of(rank), self._group_of[rank]

    def of(
        self, rank: int, switches: dict[int, int], sockets: dict[int, int], groups: dict[int, int]
    ) -> tuple[Hashable, ...]:
        """What a rank's surroundings look like."""
        switch = self._fabric.switch_of(rank)
        return (
            None if switch is None else switches[switch],
            sockets[self._fabric.socket_of(rank)],
            groups[self._group_of[rank]],
            None if switch is None else self._below_and_inside[self._switch_key(rank)],
            self._on_and_inside[self._socket_key(rank)],
        )


Colours = tuple[tuple[int, int], ...]


def _colours(pairs: Iterable[tuple[K, int]]) -> dict[K, Colours]:
    """How many of each colour there are at each place."""
    found: dict[K, Counter[int]] = {}
    for place, colour in pairs:
        found.setdefault(place, Counter())[colour] += 1
    return {place: tuple(sorted(counter.items())) for place, counter in found.items()}


def ring_kinds(program: StreamProgram) -> list[tuple[CollectiveName, str]]:
    """The kinds of rings that a program has, with their scope."""
    sections = {id(section.commands): section.commands for section in program.sections}
    passages = {id(passage): passage for commands in sections.values() for passage in passages_of(commands)}
    parts = [part for passage in passages.values() for part in passage]
    templates = {id(part.template): part.template.commands for part in parts if part.template is not None}
    found: set[tuple[CollectiveName, str]] = set()
    for commands in [*templates.values(), *(part.before for part in parts), *(part.after for part in parts)]:
        found.update([(c.kind, c.group) for c in commands if isinstance(c, Collective) and c.kind != "all-to-all"])
    return sorted(found)


def _ring_use(fabric: Fabric, program: StreamProgram) -> dict[Owner, tuple[tuple[object, ...], ...]]:
    """What rings use of each owner's rows."""
    use: dict[Owner, list[tuple[object, ...]]] = {}
    for ring in _rings(fabric, program):
        for row, a in ring.usage:
            one = fabric.rows[row]
            use.setdefault(one.owner, []).append((ring.label, one.kind, a))
    return {owner: tuple(sorted(entries, key=repr)) for owner, entries in use.items()}


def _rings(fabric: Fabric, program: StreamProgram) -> list[FlowClass]:
    return [
        fabric.ring_class(kind, REFERENCE_BYTES, group)
        for kind, scope in ring_kinds(program)
        for group in (fabric.groups if scope == "sequence" else (tuple(sorted(fabric.ranks)),))
        if len(group) > 1
    ]


def _sockets_in_doubt(fabric: Fabric, found: Symmetry, rings: dict[Owner, tuple[tuple[object, ...], ...]]) -> bool:
    """Whether links between sockets that look alike carry different flows."""
    used = sorted({fabric.socket_of(rank) for rank in fabric.ranks})
    seen: dict[Hashable, Hashable] = {}
    counts: dict[tuple[int, int], Counter[int]] = {}
    for number, group in enumerate(fabric.groups):
        for rank in group:
            counts.setdefault((number, fabric.socket_of(rank)), Counter())[found.ranks[rank]] += 1
    for a in used:
        for b in used:
            if a != b:
                flows = _between(counts, len(fabric.groups), a, b)
                ring = rings.get(("between", a, b), ())
                if seen.setdefault((found.sockets[a], found.sockets[b]), (flows, ring)) != (flows, ring):
                    return True
    return False


def _between(counts: dict[tuple[int, int], Counter[int]], groups: int, a: int, b: int) -> Hashable:
    """How many ordered pairs of each two colours share a group, one on socket a and one on b."""
    pairs: Counter[tuple[int, int]] = Counter()
    for group in range(groups):
        for one, many in counts.get((group, a), Counter()).items():
            for other, more in counts.get((group, b), Counter()).items():
                pairs[one, other] += many * more
    return tuple(sorted(pairs.items()))


def _number(signatures: Mapping[K, Hashable]) -> dict[K, int]:
    """Signatures as small integers, equal ones alike."""
    numbers: dict[Hashable, int] = {}
    return {key: numbers.setdefault(signature, len(numbers)) for key, signature in signatures.items()}


def representatives(groups: Sequence[tuple[int, ...]], symmetry: Symmetry) -> dict[int, int]:
    """One rank of each colour, with how many it stands for; of each colour of groups, all from one group."""
    size = Counter(symmetry.ranks.values())
    chosen: dict[int, int] = {}
    for number, group in enumerate(groups):
        if symmetry.groups[number] in [symmetry.groups[earlier] for earlier in range(number)]:
            continue
        for rank in group:
            if symmetry.ranks[rank] not in [symmetry.ranks[other] for other in chosen]:
                chosen[rank] = size[symmetry.ranks[rank]]
    return chosen
