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
from functools import lru_cache
from typing import NamedTuple, TypeVar

from offsim.program.commands import Collective, CollectiveName, StreamProgram, passages_of

from .fabric import Fabric, FlowClass, Owner

REFERENCE_BYTES = 1e8
"""Size at which rings are looked at: routes don't depend on it."""
RingUse = tuple[tuple[str, str, float], ...]
"""What rings use of an owner's rows: (ring, kind of row, coefficient)."""
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


class Around(NamedTuple):
    """All that the symmetry of ranks depends on."""

    groups: tuple[tuple[int, ...], ...]
    switch_of: tuple[tuple[int, int | None], ...]
    socket_of: tuple[tuple[int, int], ...]
    switches: tuple[tuple[float, float], ...]
    """Bounds of each one's uplink."""
    sockets: tuple[tuple[float, float, float], ...]
    """Bounds of each one's memory."""
    rings: frozenset[tuple[Owner, RingUse]]


def find_symmetry(fabric: Fabric, program: StreamProgram) -> Symmetry:
    """The coarsest symmetry found; every rank its own colour where links between sockets are in doubt."""
    node = fabric.node
    around = Around(
        fabric.groups,
        tuple((rank, fabric.switch_of(rank)) for rank in fabric.ranks),
        tuple((rank, fabric.socket_of(rank)) for rank in fabric.ranks),
        tuple((switch.h2d.value, switch.d2h.value) for switch in node.switches),
        tuple((socket.read.value, socket.write.value, socket.total.value) for socket in node.host.sockets),
        frozenset(_ring_use(fabric, program).items()),
    )
    return _symmetry_of(around)


@lru_cache(maxsize=64)
def _symmetry_of(around: Around) -> Symmetry:
    """Colours refined until nothing more tells ranks apart. Nobody changes them: many programs run on one node."""
    rings, groups = dict(around.rings), around.groups
    ranks = dict.fromkeys((rank for rank, _ in around.socket_of), 0)
    switches = _number(dict(enumerate(around.switches)))
    sockets, colours = _number(dict(enumerate(around.sockets))), dict.fromkeys(range(len(groups)), 0)
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
        colours = _number({i: (colour, mates.inside[i]) for i, colour in colours.items()})
        if [len(set(found.values())) for found in (ranks, switches, sockets, colours)] == before:
            break
    found = Symmetry(ranks, switches, sockets, colours)
    if _sockets_in_doubt(around, found, rings):
        return Symmetry(*({key: key for key in part} for part in found))
    return found


class _Mates:
    """Colours of the ranks below each switch, on each socket and in each group, and in what they have in common."""

    def __init__(self, around: Around, ranks: dict[int, int]) -> None:
        self._switch, self._socket = dict(around.switch_of), dict(around.socket_of)
        self._group = {rank: number for number, group in enumerate(around.groups) for rank in group}
        self.below = _colours((self._switch[rank], colour) for rank, colour in ranks.items())
        self.on = _colours((self._socket[rank], colour) for rank, colour in ranks.items())
        self.inside = _colours((self._group[rank], colour) for rank, colour in ranks.items())
        self._below_and_inside = _colours(
            ((self._switch[rank], self._group[rank]), colour) for rank, colour in ranks.items()
        )
        self._on_and_inside = _colours(
            ((self._socket[rank], self._group[rank]), colour) for rank, colour in ranks.items()
        )

    def of(
        self, rank: int, switches: dict[int, int], sockets: dict[int, int], groups: dict[int, int]
    ) -> tuple[Hashable, ...]:
        """What a rank's surroundings look like."""
        switch, socket, group = self._switch[rank], self._socket[rank], self._group[rank]
        return (
            None if switch is None else switches[switch],
            sockets[socket],
            groups[group],
            None if switch is None else self._below_and_inside[switch, group],
            self._on_and_inside[socket, group],
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


def _ring_use(fabric: Fabric, program: StreamProgram) -> dict[Owner, RingUse]:
    """What rings use of each owner's rows."""
    use: dict[Owner, list[tuple[str, str, float]]] = {}
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


def _sockets_in_doubt(around: Around, found: Symmetry, rings: dict[Owner, RingUse]) -> bool:
    """Whether links between sockets that look alike carry different flows."""
    socket_of = dict(around.socket_of)
    used = sorted(set(socket_of.values()))
    seen: dict[Hashable, Hashable] = {}
    counts: dict[tuple[int, int], Counter[int]] = {}
    for number, group in enumerate(around.groups):
        for rank in group:
            counts.setdefault((number, socket_of[rank]), Counter())[found.ranks[rank]] += 1
    for a in used:
        for b in used:
            if a != b:
                flows = _between(counts, len(around.groups), a, b)
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
