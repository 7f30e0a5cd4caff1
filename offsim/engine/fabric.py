"""A node as rows (linear constraints) and flow classes (what a transfer uses of them).

Rows: each directed link and switch uplink, the duplex limit of each GPU's link, host read, write and total per socket,
each NVLink side, and per rank and direction the bundle cap of each collective. Flows of one class always have equal
rates. Left out: latency (added once per operation) and the CPU's own traffic.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from offsim.program.commands import CollectiveName, Direction, HostMemory
from offsim.program.groups import ParallelGroups
from offsim.scenario.node import Node
from offsim.scenario.wiring import CollectiveKind

from .interference import collective_slowdowns
from .values_in_use import ValuesInUse

Usage = dict[int, float]
LinkOwner = tuple[str | int, ...]


class FabricConstraint(NamedTuple):
    """One constraint of the fabric."""

    name: str
    kind: str
    bound: float
    slowdowns: tuple[tuple[str, float], ...] = ()
    """(aggressor, relative slowdown): the bound shrinks while that kind of copy or collective is active on `rank`."""
    rank: int | None = None
    owner: LinkOwner = ("node",)
    """Whose it is: ("rank", 3), ("switch", 0), ("socket", 1), or ("between", 0, 1) for a link of two sockets."""


@dataclass(frozen=True, eq=False)
class FlowClass:
    """Flows that always have the same rate."""

    index: int
    label: str
    weight: float
    cap: float
    usage: tuple[tuple[int, float], ...]
    """(row, coefficient)."""
    companions: tuple[str, object] = ("", None)
    """Flows with equal companions start together: the rate alone is theirs together."""
    active_as: tuple[tuple[int, str], ...] = ()
    """(rank, direction of a copy or kind of collective): what interference looks at."""
    alone: float | None = None
    """Rate with only its companions around, where a folded class knows it."""
    own: tuple[tuple[int, float], ...] | None = None
    """What one rank's flow and its companions use of each row, in a folded class; the rest is other ranks' use."""


@dataclass
class Fabric:
    """Rows and flow classes of a node, for the ranks of one program."""

    node: Node
    groups: ParallelGroups
    proportional_weight: bool = False
    """Collective weights grow with the number of peers instead of staying constant."""
    values: ValuesInUse = field(default_factory=ValuesInUse)
    """Where it says what it reads of the node."""
    rows: list[FabricConstraint] = field(default_factory=list)
    classes: list[FlowClass] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._row_index: dict[str, int] = {}
        self._class_index: dict[object, FlowClass] = {}
        self._bundles: dict[tuple[str, float], tuple[float, tuple[tuple[str, float], ...]]] = {}
        """What a rank's kernels move and what slows them, by kind of collective and bytes."""
        self.ranks = list(range(self.groups.ranks))
        self._socket = {gpu: i for i, gpus in enumerate(self.node.wiring.sockets) for gpu in gpus}
        self._switch = {gpu: i for i, switch in enumerate(self.node.wiring.switches) for gpu in switch.gpus}

    def switch_of(self, rank: int) -> int | None:
        """The PCIe switch that a GPU is behind, if any."""
        return self._switch.get(rank)

    def socket_of(self, rank: int) -> int:
        """The socket whose memory is a GPU's own."""
        return self._socket[rank]

    def _row(
        self,
        name: str,
        kind: str,
        bound: float,
        owner: LinkOwner,
        slowdowns: tuple[tuple[str, float], ...] = (),
        rank: int | None = None,
    ) -> int:
        """The index of a row, added on first use."""
        if name not in self._row_index:
            self._row_index[name] = len(self.rows)
            self.rows.append(FabricConstraint(name, kind, bound, slowdowns, rank, owner))
        return self._row_index[name]

    def _use_link(self, usage: Usage, direction: Direction, gpu: int, cost: float = 1.0) -> None:
        """A GPU's own link in one direction (`cost` bytes of it a byte), and what both directions share."""
        pcie = self.node.wiring.pcie
        rate = pcie.h2d if direction == "H2D" else pcie.d2h
        bound, gamma = self.values.number(rate), self.values.number(pcie.duplex)
        owner: LinkOwner = ("rank", gpu)
        _add(usage, self._row(f"{direction} link of gpu {gpu}", f"{direction} link", bound, owner), cost)
        # Both directions together: x_down / C_down + x_up / C_up <= gamma.
        _add(usage, self._row(f"duplex of gpu {gpu}", "duplex", gamma, owner), 1 / bound)

    def _use_uplink(self, usage: Usage, direction: Direction, gpu: int, cost: float) -> None:
        """The link between a GPU's switch and the host, if it is behind one."""
        number = self._switch.get(gpu)
        if number is not None:
            switch = self.node.wiring.switches[number]
            rate = switch.h2d if direction == "H2D" else switch.d2h
            name, bound = f"{direction} uplink of switch {number}", self.values.number(rate)
            _add(usage, self._row(name, f"{direction} uplink", bound, ("switch", number)), cost)

    def _use_way(self, usage: Usage, direction: Direction, gpu: int, socket: int, cost: float = 1.0) -> None:
        """The way between a GPU and a socket's memory."""
        own, between = self._socket[gpu], self.node.host.cross_socket
        self._use_link(usage, direction, gpu, cost)
        self._use_uplink(usage, direction, gpu, cost)
        if own != socket:
            assert between is not None
            a, b = (socket, own) if direction == "H2D" else (own, socket)
            bound = self.values.number(between)
            _add(usage, self._row(f"socket {a} to {b}", "cross socket", bound, ("between", a, b)))

    def _use_host(self, usage: Usage, socket: int, *directions: str) -> None:
        """Host memory reads and writes; both count in the total."""
        memory, owner = self.node.host.socket(socket), ("socket", socket)
        for direction in directions:
            bound = self.values.number(memory.read if direction == "read" else memory.write)
            _add(usage, self._row(f"host {direction} {socket}", f"host {direction}", bound, owner))
            _add(usage, self._row(f"host total {socket}", "host total", self.values.number(memory.total), owner))

    def copy_class(self, rank: int, direction: Direction, memory: HostMemory) -> FlowClass:
        """A copy-engine transfer between host memory and one GPU; weight 1, capped where pages bind."""
        key = ("copy", rank, direction, memory)
        if key not in self._class_index:
            usage: Usage = {}
            socket = self._socket[rank]
            self._use_way(usage, direction, rank, socket)
            self._use_host(usage, socket, "read" if direction == "H2D" else "write")
            self._add_class(
                key, f"{direction} copy", 1.0, self._copy_cap(direction, memory), usage, key, ((rank, direction),)
            )
        return self._class_index[key]

    def _copy_cap(self, direction: Direction, memory: HostMemory) -> float:
        host, pcie = self.node.host, self.node.wiring.pcie
        if memory == "pinned":
            rate = pcie.h2d if direction == "H2D" else pcie.d2h
        elif direction == "H2D":
            rate = host.pageable_h2d
        else:
            rate = host.fresh_d2h if memory == "fresh" else host.pageable_d2h
        return self.values.number(rate)

    def _add_class(
        self,
        key: object,
        label: str,
        weight: float,
        cap: float,
        usage: Usage,
        companions: object,
        active_as: tuple[tuple[int, str], ...],
    ) -> None:
        index = len(self.classes)
        made = FlowClass(index, label, weight, cap, tuple(usage.items()), (label, companions), active_as)
        self.classes.append(made)
        self._class_index[key] = made
        for _, name in active_as:
            self.values.occurs(name if name in ("H2D", "D2H") else "collective")

    def kind(self, name: CollectiveName) -> CollectiveKind:
        """The node's figures for a kind of collective; all-reduce rings go at all-gather's rate."""
        kinds = self.node.wiring.collectives
        assert kinds is not None
        return kinds.all_to_all if name == "all-to-all" else kinds.all_gather

    def latency(self, name: CollectiveName) -> float:
        """Fixed part of a collective [s]."""
        return self.values.number(self.kind(name).latency)

    def _weight(self, name: CollectiveName, peers: int) -> float:
        """A rank's weight against a copy engine: how it grows with its peers is not known beyond one."""
        return self.values.number(self.kind(name).weight) * (peers if self.proportional_weight else 1)

    def pair_class(self, name: CollectiveName, bytes_: float, group: tuple[int, ...], i: int, j: int) -> FlowClass:
        """The transfer of one pair in an all-to-all in which each rank sends `bytes_` in all."""
        key = ("pair", name, bytes_, group, i, j)
        if key not in self._class_index:
            usage: Usage = {}
            self._use_transport(usage, name, i, j)
            for end, rank in (("send", i), ("receive", j)):
                _add(usage, self._bundle_row(name, bytes_, end, rank))
            weight = self._weight(name, len(group) - 1) / (len(group) - 1)
            self._add_class(key, name, weight, inf, usage, (bytes_, group), active_on(name, (i, j)))
        return self._class_index[key]

    def aggregated_class(
        self, name: CollectiveName, bytes_: float, group: tuple[int, ...], i: int, peers: tuple[int, ...]
    ) -> FlowClass:
        """The transfers of one sender to peers that it reaches the same way, as one flow spread evenly over them."""
        key = ("aggregated", name, bytes_, group, i, peers)
        if key not in self._class_index:
            usage: Usage = {}
            for j in peers:
                part: Usage = {}
                self._use_transport(part, name, i, j)
                _add(part, self._bundle_row(name, bytes_, "receive", j))
                for row, a in part.items():
                    _add(usage, row, a / len(peers))
            _add(usage, self._bundle_row(name, bytes_, "send", i))
            others = len(group) - 1
            weight = self._weight(name, others) * len(peers) / others
            self._add_class(key, name, weight, inf, usage, (bytes_, group), active_on(name, (i, *peers)))
        return self._class_index[key]

    def ways(self, i: int, group: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The peers of a rank, together where they are reached the same way: by a switch, or over one host memory."""
        found: dict[tuple[bool, int], list[int]] = {}
        for j in group:
            if j != i:
                below = self._switch.get(i, -1) == self._switch.get(j, -2)
                found.setdefault((below, self._socket[j]), []).append(j)
        return [tuple(peers) for peers in found.values()]

    def ring_class(self, name: CollectiveName, bytes_: float, group: tuple[int, ...]) -> FlowClass:
        """A ring over the group: neighbour transfers at one common rate."""
        key = ("ring", name, bytes_, group)
        if key not in self._class_index:
            usage: Usage = {}
            for i, j in zip(group, (*group[1:], group[0]), strict=True):
                self._use_transport(usage, name, i, j)
                for end, rank in (("send", i), ("receive", j)):
                    _add(usage, self._bundle_row(name, bytes_, end, rank))
            weight = self._weight(name, len(group) - 1)
            self._add_class(key, name, weight, inf, usage, (bytes_, group), active_on(name, group))
        return self._class_index[key]

    def _bundle_row(self, name: CollectiveName, bytes_: float, end: str, rank: int) -> int:
        """What one rank's collective kernels send (or receive) in all, less while others interfere."""
        if (name, bytes_) not in self._bundles:
            rate = self.values.at(self.kind(name).rate, max(bytes_, 1.0))
            slowdowns = collective_slowdowns(self.kind(name).interference, name, self.values)
            self._bundles[name, bytes_] = (rate, slowdowns)
        bound, slowdowns = self._bundles[name, bytes_]
        size = f"({bytes_:.0f} B)"
        title = f"{name} {end} of rank {rank} {size}"
        return self._row(title, f"{name} {end} {size}", bound, ("rank", rank), slowdowns, rank)

    def _use_transport(self, usage: Usage, name: CollectiveName, i: int, j: int) -> None:
        """The route of a collective's transfer: NVLink, a common switch, or host memory at the receiver."""
        assert self.node.wiring.collectives is not None
        transport = self.node.wiring.collectives.transport
        if transport == "nvlink":
            nvlink = self.node.wiring.nvlink
            assert nvlink is not None
            send, receive = self.values.number(nvlink.send), self.values.number(nvlink.receive)
            _add(usage, self._row(f"NVLink send of gpu {i}", "NVLink send", send, ("rank", i)))
            _add(usage, self._row(f"NVLink receive of gpu {j}", "NVLink receive", receive, ("rank", j)))
        elif transport == "pcie" and self._switch.get(i, -1) == self._switch.get(j, -2):
            self._use_link(usage, "D2H", i)
            self._use_link(usage, "H2D", j, self._link_cost(name))
        else:
            # NCCL's SHM transport keeps its buffers at the receiver: sender's kernels write, receiver's read.
            self._use_way(usage, "D2H", i, self._socket[j])
            self._use_host(usage, self._socket[j], "write", "read")
            self._use_way(usage, "H2D", j, self._socket[j], self._link_cost(name))

    def _link_cost(self, name: CollectiveName) -> float:
        """What a byte that kernels read over PCIe takes of the link towards the GPU."""
        return self.values.number(self.kind(name).link_cost)


def active_on(name: CollectiveName, ranks: Iterable[int]) -> tuple[tuple[int, str], ...]:
    """What interference sees of a collective's flow on these ranks; all-reduce rings are rings as all-gather's are."""
    kind = "all-to-all" if name == "all-to-all" else "all-gather"
    return tuple((rank, kind) for rank in ranks)


def _add(usage: Usage, row: int, coefficient: float = 1.0) -> None:
    usage[row] = usage.get(row, 0.0) + coefficient
