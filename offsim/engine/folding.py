"""Folding: ranks that topology and program make identical are simulated once.

Colour refinement over ranks, flows and rows gives an equitable partition. If all ranks share one colour, a class of
flows has one rate, and a class K of rows carries, on each of its rows, the sum over the class's flows of their
coefficients in K divided by |K|. The quotient problem therefore has the same max-min fair rates as the full one.
"""

from collections import Counter
from collections.abc import Hashable
from typing import TypeVar

from offsim.program.commands import Collective, CollectiveName, Direction, HostMemory, StreamProgram
from offsim.scenario.node import CollectiveKind

from .collective import Transfer, pairs
from .fabric import Fabric, FlowClass, Row
from .network import shared_rates

REFERENCE_BYTES = 1e8
"""Size at which symmetry is looked at: routes don't depend on it."""


class FoldedFabric:
    """The quotient of a fabric by its symmetry: rank 0 stands for all, each row for its class."""

    def __init__(self, fabric: Fabric, row_colour: dict[str, int], pair_colour: dict[tuple[int, int], int]) -> None:
        self.fabric = fabric
        self.rows: list[Row] = []
        self._row_colour = row_colour
        self._pair_colour = pair_colour
        self._row_class: dict[Hashable, int] = {}
        self._made: dict[Hashable, FlowClass] = {}
        self._transfer_lists: dict[Hashable, list[Transfer]] = {}

    def _key_of(self, row: Row) -> Hashable:
        """The class of a row: by colour, or by kind (which names the size) for bundle caps, which may come later."""
        colour = self._row_colour.get(row.name)
        return ("colour", colour) if colour is not None else (row.kind, row.bound, row.slowdowns)

    def _quotient(self, key: Hashable, members: list[FlowClass], call: list[FlowClass]) -> FlowClass:
        """One class whose rate is that of each member; `call` are the flows that start with the first member."""
        if key not in self._made:
            usage: dict[int, float] = {}
            for member in members:
                for row, a in member.usage:
                    index = self._folded_row(self.fabric.rows[row])
                    usage[index] = usage.get(index, 0.0) + a
            sizes = self._sizes()
            first = members[0]
            self._made[key] = FlowClass(
                index=len(self._made),
                label=first.label,
                weight=first.weight,
                cap=first.cap,
                usage=tuple((index, a / sizes[index]) for index, a in usage.items()),
                companions=(first.label, ("call", first.companions[1] if len(call) > 1 else key)),
                copy_of=(0, first.copy_of[1]) if first.copy_of is not None else None,
                alone=self._alone(first, call),
                own=self._own(first, [member for member in members if member in call]),
            )
        return self._made[key]

    def _alone(self, first: FlowClass, call: list[FlowClass]) -> float:
        """The rate of one member with only its companions around, on the unfolded fabric."""
        classes = sorted(call, key=lambda c: c.index)
        rates, _, _ = shared_rates(self.fabric.rows, Counter(classes))
        return rates[classes.index(first)]

    def _own(self, first: FlowClass, together: list[FlowClass]) -> tuple[tuple[int, float], ...]:
        """What the call's own members use of one row of each class: a row that the first one uses."""
        own = []
        for row, _ in first.usage:
            used = sum(dict(member.usage).get(row, 0.0) for member in together)
            own.append((self._folded_row(self.fabric.rows[row]), used))
        return tuple(own)

    def _folded_row(self, row: Row) -> int:
        key = self._key_of(row)
        if key not in self._row_class:
            self._row_class[key] = len(self.rows)
            rank = 0 if row.rank is not None else None
            self.rows.append(Row(row.name, row.kind, row.bound, row.slowdowns, rank))
        return self._row_class[key]

    def _sizes(self) -> dict[int, int]:
        """How many real rows each folded row stands for."""
        sizes: dict[int, int] = {}
        for row in self.fabric.rows:
            index = self._row_class.get(self._key_of(row))
            if index is not None:
                sizes[index] = sizes.get(index, 0) + 1
        return sizes

    def copy_class(self, _rank: int, direction: Direction, memory: HostMemory) -> FlowClass:
        """All ranks' copies of this kind, as rank 0's."""
        key = ("copy", direction, memory)
        if key not in self._made:
            members = [self.fabric.copy_class(r, direction, memory) for r in self.fabric.ranks]
            self._quotient(key, members, members[:1])
        return self._made[key]

    def kind(self, name: CollectiveName) -> CollectiveKind:
        """See Fabric.kind."""
        return self.fabric.kind(name)

    def latency(self, command: Collective) -> float:
        """Fixed part of one call [s]."""
        return self.kind(command.kind).latency.value

    def transfers(self, command: Collective, group: tuple[int, ...]) -> list[Transfer]:
        """Rank 0's transfers, one for each class of peers."""
        kind, sent = command.kind, command.bytes
        key = ("transfers", kind, sent, command.group)
        found = self._transfer_lists.get(key)
        if found is None:
            found = self._transfer_lists[key] = self._transfers(kind, sent, command.group, group)
        return found

    def _transfers(self, kind: CollectiveName, sent: float, scope: str, group: tuple[int, ...]) -> list[Transfer]:
        groups = self.fabric.groups if scope == "sequence" else (tuple(self.fabric.ranks),)
        if kind != "all-to-all":
            rings = [self.fabric.ring_class(kind, sent, g) for g in groups]
            return [(0, 0, self._quotient(("ring", kind, sent, scope), rings, rings[:1]), sent)]
        by_colour: dict[int, list[FlowClass]] = {}
        for g in groups:
            for i, j in pairs(g):
                by_colour.setdefault(self._pair_colour[i, j], []).append(self.fabric.pair_class(kind, sent, g, i, j))
        part = sent / (len(group) - 1)
        call = [self.fabric.pair_class(kind, sent, groups[0], i, j) for i, j in pairs(groups[0])]
        return [
            (0, 0, self._quotient(("pair", kind, sent, scope, colour), members, call), part)
            for colour, members in sorted(by_colour.items())
        ]


def fold(fabric: Fabric, program: StreamProgram) -> FoldedFabric | None:
    """The folded fabric if all ranks are alike, else None."""
    flows = _flows(fabric, program)
    ranks, rows, flow_colour = _refine(fabric, flows)
    if len(set(ranks.values())) > 1:
        return None
    colours = {fabric.rows[row].name: colour for row, colour in rows.items() if fabric.rows[row].rank is None}
    pair_colour = {(ends[0], ends[1]): flow_colour[key] for key, (_, ends) in flows.items() if key[0] == "pair"}
    return FoldedFabric(fabric, colours, pair_colour)


K = TypeVar("K")
FlowKey = tuple[str, object]


def _flows(fabric: Fabric, program: StreamProgram) -> dict[FlowKey, tuple[FlowClass, tuple[int, ...]]]:
    """Every flow that the program can start, with the ranks at its ends."""
    distinct = {id(section.commands): section.commands for section in program.sections}
    kinds = {(c.kind, c.group) for commands in distinct.values() for c in commands if isinstance(c, Collective)}
    found: dict[FlowKey, tuple[FlowClass, tuple[int, ...]]] = {}
    for rank in fabric.ranks:
        found["H2D", rank] = (fabric.copy_class(rank, "H2D", "pinned"), (rank,))
        found["D2H", rank] = (fabric.copy_class(rank, "D2H", "pinned"), (rank,))
    for kind, scope in sorted(kinds):
        for group in fabric.groups if scope == "sequence" else (tuple(fabric.ranks),):
            if len(group) == 1:
                continue
            if kind == "all-to-all":
                for i, j in pairs(group):
                    found["pair", (i, j)] = (fabric.pair_class(kind, REFERENCE_BYTES, group, i, j), (i, j))
            else:
                found[f"ring {kind}", group] = (fabric.ring_class(kind, REFERENCE_BYTES, group), group)
    return found


def _refine(
    fabric: Fabric, flows: dict[FlowKey, tuple[FlowClass, tuple[int, ...]]]
) -> tuple[dict[int, int], dict[int, int], dict[FlowKey, int]]:
    """Stable colours of ranks, rows and flows (an equitable partition)."""
    ranks: dict[int, int] = dict.fromkeys(fabric.ranks, 0)
    rows = {i: hash((row.kind, row.bound)) for i, row in enumerate(fabric.rows)}
    flow: dict[FlowKey, int] = {key: hash((key[0], entry[0].weight, entry[0].cap)) for key, entry in flows.items()}
    users: dict[int, list[tuple[FlowKey, float]]] = {row: [] for row in rows}
    for key, (flow_class, _) in flows.items():
        for row, a in flow_class.usage:
            users[row].append((key, a))
    while True:
        before = [len(set(colours.values())) for colours in (ranks, rows, flow)]
        flow = _number(
            {
                key: (flow[key], tuple(ranks[r] for r in ends), tuple(sorted((rows[c], a) for c, a in fc.usage)))
                for key, (fc, ends) in flows.items()
            }
        )
        rows = _number({row: (rows[row], tuple(sorted((flow[k], a) for k, a in users[row]))) for row in rows})
        seen: dict[int, list[tuple[int, int]]] = {rank: [] for rank in ranks}
        for key, (_, ends) in flows.items():
            for place, rank in enumerate(ends):
                seen[rank].append((flow[key], place if key[0] == "pair" else 0))
        ranks = _number({rank: (ranks[rank], tuple(sorted(seen[rank]))) for rank in ranks})
        if [len(set(colours.values())) for colours in (ranks, rows, flow)] == before:
            return ranks, rows, flow


def _number(signatures: dict[K, Hashable]) -> dict[K, int]:
    """Signatures as small integers, equal ones alike."""
    numbers: dict[Hashable, int] = {}
    return {key: numbers.setdefault(signature, len(numbers)) for key, signature in signatures.items()}
