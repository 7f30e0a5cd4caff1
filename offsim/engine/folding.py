"""Folding: of ranks that topology and program make identical, one is simulated.

In an equitable partition (see symmetry) all flows of a class have one rate, and each row of a class K of rows carries
the sum over the class's flows of their coefficients in K, divided by |K|. The quotient problem therefore has the same
max-min fair rates as the full one. A class of flows is known by one of them and by how many there are.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from offsim.program.commands import Collective, CollectiveName, Direction, HostMemory

from .collective import PairTransfer
from .fabric import Fabric, FabricConstraint, FlowClass, LinkOwner, Usage
from .sharing import shared_rates
from .symmetry import Symmetry


class Peers(NamedTuple):
    """The peers that a rank reaches in one way: one of them, and how many look like it."""

    rank: int
    number: int


class FoldedFabric:
    """The quotient of a fabric by its symmetry: representatives stand for all, each row for its class."""

    def __init__(self, fabric: Fabric, symmetry: Symmetry) -> None:
        self.fabric = fabric
        self.symmetry = symmetry
        self.rows: list[FabricConstraint] = []
        self.represented = symmetry.represented
        """Simulated rank -> how many it stands for."""
        self._stands_for = {symmetry.ranks[rank]: rank for rank in self.represented}
        self._row_class: dict[Hashable, int] = {}
        self._folded_rows: dict[int, tuple[int, Hashable]] = {}
        self._made: dict[Hashable, FlowClass] = {}
        self._transfer_lists: dict[Hashable, list[PairTransfer]] = {}
        self._peers: dict[tuple[int, tuple[int, ...]], list[Peers]] = {}
        self._all = self._owners(fabric.ranks)

    def _owners(self, ranks: Sequence[int]) -> Counter[Hashable]:
        """How many ranks, switches, sockets and pairs of sockets of each colour these ranks have."""
        fabric = self.fabric
        switches = {fabric.switch_of(rank) for rank in ranks} - {None}
        sockets = {fabric.socket_of(rank) for rank in ranks}
        owners: list[LinkOwner] = [("rank", rank) for rank in ranks]
        owners += [("switch", switch) for switch in switches if switch is not None]
        owners += [("socket", socket) for socket in sockets]
        owners += [("between", a, b) for a in sockets for b in sockets if a != b]
        return Counter(self.symmetry.colour(owner) for owner in owners)

    def _folded_row(self, number: int) -> tuple[int, Hashable]:
        """The class of a row of the fabric, by what it is and how its owner looks; and that look."""
        if number not in self._folded_rows:
            row = self.fabric.rows[number]
            look = self.symmetry.colour(row.owner)
            key = (row.kind, row.bound, row.slowdowns, look)
            if key not in self._row_class:
                self._row_class[key] = len(self.rows)
                rank = None if row.rank is None else self._stands_for[self.symmetry.ranks[row.rank]]
                self.rows.append(FabricConstraint(row.name, row.kind, row.bound, row.slowdowns, rank, row.owner))
            self._folded_rows[number] = (self._row_class[key], look)
        return self._folded_rows[number]

    def _spread(self, usage: Sequence[tuple[int, float]], count: int, owners: Counter[Hashable]) -> Usage:
        """What `count` flows like this one use of each row, of so many like it."""
        spread: Usage = {}
        for row, a in usage:
            folded, look = self._folded_row(row)
            spread[folded] = spread.get(folded, 0.0) + a * count / owners[look]
        return spread

    def _make(
        self, first: FlowClass, count: int, own_count: int, own_owners: Counter[Hashable], call: object
    ) -> FlowClass:
        """The class of `count` flows like `first`, `own_count` of which belong to the same call."""
        return FlowClass(
            index=len(self._made),
            label=first.label,
            weight=first.weight,
            cap=first.cap,
            usage=tuple(self._spread(first.usage, count, self._all).items()),
            companions=(first.label, ("call", call)),
            active_as=self._active_as(first),
            own=tuple(self._spread(first.usage, own_count, own_owners).items()),
        )

    def _active_as(self, first: FlowClass) -> tuple[tuple[int, str], ...]:
        """The simulated ranks on which a class of flows like this one is active: alike ranks have alike flows."""
        found = [(self._stands_for[self.symmetry.ranks[rank]], name) for rank, name in first.active_as]
        return tuple(dict.fromkeys(found))

    def copy_class(self, rank: int, direction: Direction, memory: HostMemory) -> FlowClass:
        """The class of flows of copies on all ranks that this one stands for."""
        key = ("copy", rank, direction, memory)
        if key not in self._made:
            first = self.fabric.copy_class(rank, direction, memory)
            made = self._make(first, self.represented[rank], 1, self._owners([rank]), key)
            self._made[key] = self._alone_in([made])[0]
        return self._made[key]

    def _alone_in(self, call: Sequence[FlowClass]) -> list[FlowClass]:
        """The classes of one call, each with the rate that it has while nothing else runs."""
        alone = [FlowClass(i, one.label, one.weight, one.cap, one.own or one.usage) for i, one in enumerate(call)]
        rates, _, _ = shared_rates(self.rows, Counter(alone))
        return [
            FlowClass(c.index, c.label, c.weight, c.cap, c.usage, c.companions, c.active_as, rate, c.own)
            for c, rate in zip(call, rates, strict=True)
        ]

    def latency(self, command: Collective) -> float:
        """Fixed part of one call [s]."""
        return self.fabric.latency(command.kind)

    def transfers(self, command: Collective, group: tuple[int, ...]) -> list[PairTransfer]:
        """The transfers of the simulated ranks of a group, one for each class of pairs."""
        # Two partitions with this very group have equally many like it: as many as there are ranks like its own.
        key = (command.kind, command.bytes, group)
        found = self._transfer_lists.get(key)
        if found is None:
            make, like = self._pairs if command.kind == "all-to-all" else self._ring, self._like(command.group, group)
            found = self._transfer_lists[key] = make(command.kind, command.bytes, group, like)
        return found

    def _like(self, name: str, group: tuple[int, ...]) -> int:
        """How many groups of a partition look like this one."""
        numbers = [(name, number) for number in range(len(self.fabric.groups[name]))]
        colours = [self.symmetry.groups[number] for number in numbers]
        return colours.count(colours[self.fabric.groups[name].index(group)])

    def _ring(self, kind: CollectiveName, sent: float, group: tuple[int, ...], like: int) -> list[PairTransfer]:
        """A ring: one flow for all its members, and for the rings of the groups that look alike."""
        first = self.fabric.ring_class(kind, sent, group)
        usage, own = self._ring_usage(first, like, self._all), self._ring_usage(first, 1, None)
        call = (kind, ("call", sent, group))
        active = self._active_as(first)
        made = FlowClass(len(self._made), first.label, first.weight, first.cap, usage, call, active, own=own)
        key = ("ring", kind, sent, group)
        self._made[key] = self._alone_in([made])[0]
        return [(group[0], -1, self._made[key], sent)]

    def _ring_usage(
        self, ring: FlowClass, count: int, owners: Counter[Hashable] | None
    ) -> tuple[tuple[int, float], ...]:
        """What `count` such rings use of each row of a class, in the mean; without owners, of the row that one uses."""
        total: Usage = {}
        largest: Usage = {}
        for row, a in ring.usage:
            folded, look = self._folded_row(row)
            size = 1 if owners is None else owners[look]
            total[folded] = total.get(folded, 0.0) + a * count / size
            largest[folded] = max(largest.get(folded, 0.0), a)
        return tuple((largest if owners is None else total).items())

    def _pairs(self, kind: CollectiveName, sent: float, group: tuple[int, ...], like: int) -> list[PairTransfer]:
        """An all-to-all: a flow from each simulated rank to one peer of each kind."""
        owners = self._owners(group)
        colours = Counter(self.symmetry.ranks[rank] for rank in group)
        calls: list[tuple[int, int, FlowClass]] = []
        for rank in (member for member in group if member in self.represented):
            for peers in self._peers_of(rank, group):
                first = self.fabric.pair_class(kind, sent, group, rank, peers.rank)
                own = colours[self.symmetry.ranks[rank]] * peers.number
                made = self._make(first, own * like, own, owners, (sent, group))
                self._made["pair", kind, sent, group, rank, peers.rank] = made
                calls.append((rank, self._stands_for[self.symmetry.ranks[peers.rank]], made))
        part = sent / (len(group) - 1)
        finished = self._alone_in([made for _, _, made in calls])
        return [(i, j, made, part) for (i, j, _), made in zip(calls, finished, strict=True)]

    def _peers_of(self, rank: int, group: tuple[int, ...]) -> list[Peers]:
        """A rank's peers by colour and by what it shares with them."""
        if (rank, group) not in self._peers:
            fabric, found = self.fabric, dict[Hashable, Peers]()
            switch, socket = fabric.switch_of(rank), fabric.socket_of(rank)
            for peer in group:
                if peer != rank:
                    below = switch is not None and fabric.switch_of(peer) == switch
                    key = (self.symmetry.ranks[peer], below, fabric.socket_of(peer) == socket)
                    known = found.get(key, Peers(peer, 0))
                    found[key] = known._replace(number=known.number + 1)
            self._peers[rank, group] = list(found.values())
        return self._peers[rank, group]


def fold(fabric: Fabric, symmetry: Symmetry) -> FoldedFabric | None:
    """The folded fabric if any ranks are alike, else None."""
    if len(set(symmetry.ranks.values())) == len(symmetry.ranks):
        return None
    _count_together(fabric, symmetry)
    return FoldedFabric(fabric, symmetry)


def _count_together(fabric: Fabric, symmetry: Symmetry) -> None:
    """What is read of one switch or socket counts of all that look alike: their ranks do the same."""
    switches, memory = fabric.node.wiring.switches, fabric.node.host.socket
    for numbers in alike(symmetry.switches):
        fabric.values.count_together([switches[i].h2d for i in numbers])
        fabric.values.count_together([switches[i].d2h for i in numbers])
    for numbers in alike(symmetry.sockets):
        fabric.values.count_together([memory(i).read for i in numbers])
        fabric.values.count_together([memory(i).write for i in numbers])
        fabric.values.count_together([memory(i).total for i in numbers])


def alike(colours: Mapping[int, int]) -> list[list[int]]:
    """The numbers of each colour, of those that several have.

    >>> alike({0: 5, 1: 7, 2: 5})
    [[0, 2]]
    """
    found: dict[int, list[int]] = {}
    for number, colour in colours.items():
        found.setdefault(colour, []).append(number)
    return [numbers for numbers in found.values() if len(numbers) > 1]
