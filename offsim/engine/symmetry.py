"""Which ranks a node's topology and a program make identical, found without looking at pairs of ranks.

Colour refinement over ranks, PCIe switches, sockets and the groups that collectives are over: two ranks keep one
colour only if their switch, socket and groups look alike and they have equally many mates of each colour below their
switch, on their socket and in their groups; a switch, a socket and a group look like the ranks in them. Rings, which
visit ranks in order, tell ranks apart by what they use of each one's links. The result is an equitable partition: every
rank of a colour meets the same flows, so all of them do everything at the same instants. Where links between more than
two sockets could still differ, that is checked, and nothing is taken as alike if they do; nor is it where no choice of
representatives works (see there).
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar

from offsim.program.commands import Collective, CollectiveName, StreamProgram
from offsim.program.groups import Partition
from offsim.program.passages import passages_of

from .fabric import Fabric, FlowClass, LinkOwner

REFERENCE_BYTES = 1e8
"""Size at which rings are looked at: routes don't depend on it."""
RingUse = tuple[tuple[str, str, float], ...]
"""What rings use of an owner's rows: (ring, kind of row, coefficient)."""
K = TypeVar("K", bound=Hashable)
GroupNumber = tuple[str, int]
"""A group: the name of its partition, and its place there."""


class Symmetry(NamedTuple):
    """Colours of ranks, switches, sockets and groups, each numbered from 0."""

    ranks: dict[int, int]
    switches: dict[int, int]
    sockets: dict[int, int]
    groups: dict[GroupNumber, int]
    """Colours of the groups of the partitions that collectives are over."""
    represented: dict[int, int]
    """One rank of each colour -> how many it stands for."""

    def colour(self, owner: LinkOwner) -> Hashable:
        """What rows of owners that look alike have in common."""
        kind, *numbers = owner
        if kind == "node":
            return owner
        colours = {"rank": self.ranks, "switch": self.switches, "socket": self.sockets, "between": self.sockets}
        return (kind, *(colours[str(kind)][int(number)] for number in numbers))


class Around(NamedTuple):
    """All that the symmetry of ranks depends on."""

    partitions: tuple[tuple[str, Partition], ...]
    """The partitions that collectives are over."""
    switch_of: tuple[tuple[int, int | None], ...]
    socket_of: tuple[tuple[int, int], ...]
    switches: tuple[tuple[float, float], ...]
    """Bounds of each one's uplink."""
    sockets: tuple[tuple[float, float, float], ...]
    """Bounds of each one's memory."""
    rings: frozenset[tuple[LinkOwner, RingUse]]

    @property
    def groups(self) -> dict[GroupNumber, tuple[int, ...]]:
        """All groups of these partitions."""
        return {(name, i): group for name, partition in self.partitions for i, group in enumerate(partition)}


def find_symmetry(fabric: Fabric, program: StreamProgram) -> Symmetry:
    """The coarsest symmetry found; every rank its own colour where that cannot be used."""
    node, calls = fabric.node, collective_calls(program)
    memories = [node.host.socket(i) for i in range(len(node.wiring.sockets))]
    around = Around(
        tuple((name, fabric.groups[name]) for name in sorted({name for _, name in calls})),
        tuple((rank, fabric.switch_of(rank)) for rank in fabric.ranks),
        tuple((rank, fabric.socket_of(rank)) for rank in fabric.ranks),
        tuple((switch.h2d.value, switch.d2h.value) for switch in node.wiring.switches),
        tuple((memory.read.value, memory.write.value, memory.total.value) for memory in memories),
        frozenset(_ring_use(fabric, calls).items()),
    )
    return _symmetry_of(around)


@lru_cache(maxsize=64)
def _symmetry_of(around: Around) -> Symmetry:
    """Colours refined until nothing more tells ranks apart. Nobody changes them: many programs run on one node."""
    rings, groups = dict(around.rings), around.groups
    ranks = dict.fromkeys((rank for rank, _ in around.socket_of), 0)
    switches = _number(dict(enumerate(around.switches)))
    sockets, colours = _number(dict(enumerate(around.sockets))), dict.fromkeys(groups, 0)
    while True:
        before = [len(set(found.values())) for found in (ranks, switches, sockets, colours)]
        mates = _Mates(around, ranks)
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
        colours = _number({i: (i[0], colour, mates.inside[i]) for i, colour in colours.items()})
        if [len(set(found.values())) for found in (ranks, switches, sockets, colours)] == before:
            break
    found = Symmetry(ranks, switches, sockets, colours, {})
    represented = representatives(around.partitions, found)
    if represented is None or _sockets_in_doubt(around, found, rings):
        return _no_symmetry(found)
    return found._replace(represented=represented)


def _no_symmetry(found: Symmetry) -> Symmetry:
    """Everything its own colour."""
    ranks, switches, sockets = ({key: key for key in part} for part in found[:3])
    groups = {group: number for number, group in enumerate(found.groups)}
    return Symmetry(ranks, switches, sockets, groups, dict.fromkeys(ranks, 1))


class _Mates:
    """Colours of the ranks below each switch, on each socket and in each group, and in what they have in common."""

    def __init__(self, around: Around, ranks: dict[int, int]) -> None:
        self._switch, self._socket = dict(around.switch_of), dict(around.socket_of)
        self._groups = groups_by_rank(around.partitions)
        self.below = _colours((self._switch[rank], colour) for rank, colour in ranks.items())
        self.on = _colours((self._socket[rank], colour) for rank, colour in ranks.items())
        members = [(rank, group, colour) for rank, colour in ranks.items() for group in self._groups.get(rank, ())]
        self.inside = _colours((group, colour) for _, group, colour in members)
        self._below_and_inside = _colours(((self._switch[rank], group), colour) for rank, group, colour in members)
        self._on_and_inside = _colours(((self._socket[rank], group), colour) for rank, group, colour in members)

    def of(
        self, rank: int, switches: dict[int, int], sockets: dict[int, int], groups: dict[GroupNumber, int]
    ) -> tuple[Hashable, ...]:
        """What a rank's surroundings look like."""
        switch, socket = self._switch[rank], self._socket[rank]
        return (
            None if switch is None else switches[switch],
            sockets[socket],
            *(
                (groups[group], self._below_and_inside[switch, group], self._on_and_inside[socket, group])
                for group in self._groups.get(rank, ())
            ),
        )


Colours = tuple[tuple[int, int], ...]


def _colours(pairs: Iterable[tuple[K, int]]) -> dict[K, Colours]:
    """How many of each colour there are at each place."""
    found: dict[K, Counter[int]] = {}
    for place, colour in pairs:
        found.setdefault(place, Counter())[colour] += 1
    return {place: tuple(sorted(counter.items())) for place, counter in found.items()}


def collective_calls(program: StreamProgram) -> list[tuple[CollectiveName, str]]:
    """The kinds of collectives that a program has, with the names of the partitions that they are over."""
    sections = {id(section.commands): section.commands for section in program.sections}
    passages = {id(passage): passage for commands in sections.values() for passage in passages_of(commands)}
    parts = [part for passage in passages.values() for part in passage]
    templates = {id(part.template): part.template.commands for part in parts if part.template is not None}
    found: set[tuple[CollectiveName, str]] = set()
    for commands in [*templates.values(), *(part.before for part in parts), *(part.after for part in parts)]:
        found.update([(c.kind, c.group) for c in commands if isinstance(c, Collective)])
    return sorted(found)


def _ring_use(fabric: Fabric, calls: list[tuple[CollectiveName, str]]) -> dict[LinkOwner, RingUse]:
    """What rings use of each owner's rows."""
    use: dict[LinkOwner, list[tuple[str, str, float]]] = {}
    for name, ring in _rings(fabric, calls):
        for row, a in ring.usage:
            one = fabric.rows[row]
            use.setdefault(one.owner, []).append((f"{ring.label} over {name}", one.kind, a))
    return {owner: tuple(sorted(entries, key=repr)) for owner, entries in use.items()}


def _rings(fabric: Fabric, calls: list[tuple[CollectiveName, str]]) -> list[tuple[str, FlowClass]]:
    """Each ring with the name of its partition."""
    return [
        (name, fabric.ring_class(kind, REFERENCE_BYTES, group))
        for kind, name in calls
        if kind != "all-to-all"
        for group in fabric.groups[name]
        if len(group) > 1
    ]


def _sockets_in_doubt(around: Around, found: Symmetry, rings: dict[LinkOwner, RingUse]) -> bool:
    """Whether links between sockets that look alike carry different flows."""
    socket_of = dict(around.socket_of)
    used = sorted(set(socket_of.values()))
    seen: dict[Hashable, Hashable] = {}
    counts: dict[tuple[GroupNumber, int], Counter[int]] = {}
    for number, group in around.groups.items():
        for rank in group:
            counts.setdefault((number, socket_of[rank]), Counter())[found.ranks[rank]] += 1
    for a in used:
        for b in used:
            if a != b:
                flows = tuple(_between(counts, name, len(groups), a, b) for name, groups in around.partitions)
                ring = rings.get(("between", a, b), ())
                if seen.setdefault((found.sockets[a], found.sockets[b]), (flows, ring)) != (flows, ring):
                    return True
    return False


def _between(
    counts: dict[tuple[GroupNumber, int], Counter[int]], name: str, groups: int, a: int, b: int
) -> tuple[tuple[tuple[int, int], int], ...]:
    """How many ordered pairs of each two colours share a group of a partition, one on socket a and one on b."""
    pairs: Counter[tuple[int, int]] = Counter()
    for group in range(groups):
        for one, many in counts.get(((name, group), a), Counter()).items():
            for other, more in counts.get(((name, group), b), Counter()).items():
                pairs[one, other] += many * more
    return tuple(sorted(pairs.items()))


def _number(signatures: Mapping[K, Hashable]) -> dict[K, int]:
    """Signatures as small integers, equal ones alike."""
    numbers: dict[Hashable, int] = {}
    return {key: numbers.setdefault(signature, len(numbers)) for key, signature in signatures.items()}


def groups_by_rank(partitions: Iterable[tuple[str, Partition]]) -> dict[int, list[GroupNumber]]:
    """The groups that each rank is in, one of each partition."""
    found: dict[int, list[GroupNumber]] = {}
    for name, partition in partitions:
        for number, group in enumerate(partition):
            for rank in group:
                found.setdefault(rank, []).append((name, number))
    return found


def representatives(partitions: Iterable[tuple[str, Partition]], symmetry: Symmetry) -> dict[int, int] | None:
    """One rank of each colour, with how many ranks it stands for; None if no choice was found that works.

    Groups of one colour are simulated as one of them, in which the representatives of all members meet. So in every
    partition, two representatives whose groups look alike must be in the same group.
    """
    size, groups = Counter(symmetry.ranks.values()), groups_by_rank(partitions)
    chosen: dict[int, int] = {}
    seen: set[int] = set()
    for rank, colour in symmetry.ranks.items():
        if colour in seen:
            continue
        pairs = [pair for other in chosen for pair in zip(groups.get(rank, ()), groups.get(other, ()), strict=True)]
        if all(one == other or symmetry.groups[one] != symmetry.groups[other] for one, other in pairs):
            chosen[rank] = size[colour]
            seen.add(colour)
    return chosen if len(seen) == len(size) else None
