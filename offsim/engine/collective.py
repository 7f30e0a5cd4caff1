"""Collectives: ranks meet, transfers run, each rank's kernel ends with its own sends and receives.

All-to-all: the transfer i -> j starts when both ranks' kernels run, after the fixed latency. Rings (all-gather,
all-reduce) start when all ranks are there and end together. `aggregated` all-to-alls are one flow per sender
and way to its peers (a switch, a host memory) that start when all are there: equal to pairs whenever ranks are alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from simpy import Environment, Event
from simpy.events import Timeout

from offsim.program.commands import Collective

from .fabric import FlowClass
from .network import Flow, Network

Transfer = tuple[int, int, FlowClass, float]
"""(sender, receiver, class, bytes); receiver -1: the transfer occupies every member."""


class CollectiveRoutes(Protocol):
    """Which flows a collective is made of: the whole fabric's, or those of a folded one."""

    def transfers(self, command: Collective, group: tuple[int, ...]) -> list[Transfer]:
        """The transfers of one call between the simulated ranks of its group."""
        ...

    def latency(self, command: Collective) -> float:
        """Fixed part of one call [s]."""
        ...


@dataclass
class Meeting:
    """One call of a collective, on all simulated ranks of its group."""

    command: Collective
    members: tuple[int, ...]
    transfers: list[Transfer]
    arrived: dict[int, float] = field(default_factory=dict)
    open_transfers: dict[int, int] = field(default_factory=dict)
    done: dict[int, Event] = field(default_factory=dict)
    flows: dict[int, list[Flow]] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)


class Collectives:
    """All collectives of a run, matched by group and order of issue."""

    def __init__(self, env: Environment, network: Network, routes: CollectiveRoutes) -> None:
        self.env = env
        self.network = network
        self.routes = routes
        self._calls: dict[tuple[int, tuple[int, ...], str], int] = {}
        self._meetings: dict[tuple[tuple[int, ...], str, int], Meeting] = {}

    def arrive(self, rank: int, command: Collective, group: tuple[int, ...], members: tuple[int, ...]) -> Meeting:
        """Rank's kernel of its next call on this group runs; `members` are the simulated ranks of the group."""
        slot = (rank, group, command.stream)
        number = self._calls[slot] = self._calls.get(slot, 0) + 1
        key = (group, command.stream, number)
        if key not in self._meetings:
            self._meetings[key] = self._call(command, group, members)
        meeting = self._meetings[key]
        meeting.arrived[rank] = self.env.now
        ready = [transfer for transfer in meeting.transfers if self._ready(meeting, transfer, rank)]
        if ready:
            self._begin(meeting, ready)
        if len(meeting.arrived) == len(members):
            del self._meetings[key]
        return meeting

    def _call(self, command: Collective, group: tuple[int, ...], members: tuple[int, ...]) -> Meeting:
        meeting = Meeting(command, members, self.routes.transfers(command, group))
        for rank in members:
            meeting.done[rank] = self.env.event()
            meeting.flows[rank] = []
            meeting.open_transfers[rank] = sum(rank in ends(t, members) for t in meeting.transfers)
        for _, _, flow_class, _ in meeting.transfers:
            self.network.introduce(flow_class)
        return meeting

    def _ready(self, meeting: Meeting, transfer: Transfer, rank: int) -> bool:
        """Whether this rank's arrival is the last that the transfer waited for."""
        needed = ends(transfer, meeting.members)
        return rank in needed and all(member in meeting.arrived for member in needed)

    def _begin(self, meeting: Meeting, transfers: list[Transfer]) -> None:
        """Both ends of these are there: after the fixed latency the bytes flow."""
        for transfer in transfers:
            for rank in ends(transfer, meeting.members):
                meeting.began.setdefault(rank, self.env.now)

        def start(_: Event) -> None:
            for transfer in transfers:
                members = ends(transfer, meeting.members)
                flow = self.network.start(transfer[2], transfer[3], partial(self._finish, meeting, members))
                for rank in members:
                    meeting.flows[rank].append(flow)

        latency = Timeout(self.env, self.routes.latency(meeting.command))
        assert latency.callbacks is not None
        latency.callbacks.append(start)

    def _finish(self, meeting: Meeting, members: tuple[int, ...]) -> None:
        """A transfer has ended: each rank's kernel ends with its last one."""
        for rank in members:
            meeting.open_transfers[rank] -= 1
            if meeting.open_transfers[rank] == 0:
                meeting.done[rank].succeed()


def ends(transfer: Transfer, members: tuple[int, ...]) -> tuple[int, ...]:
    """The ranks that a transfer occupies: its two ends, or every member."""
    sender, receiver = transfer[:2]
    if receiver == -1:
        return members
    return (sender,) if sender == receiver else (sender, receiver)


def pairs(group: Iterable[int]) -> list[tuple[int, int]]:
    """Ordered pairs of different members."""
    members = tuple(group)
    return [(i, j) for i in members for j in members if i != j]


class FabricRoutes:
    """Collectives over the unfolded fabric: every rank simulated."""

    def __init__(self, fabric: Any, *, aggregated: bool) -> None:
        self.fabric = fabric
        self.aggregated = aggregated
        self._cache: dict[tuple[Collective, tuple[int, ...]], list[Transfer]] = {}

    def transfers(self, command: Collective, group: tuple[int, ...]) -> list[Transfer]:
        """See CollectiveRoutes."""
        key = (command._replace(name=""), group)
        if key not in self._cache:
            self._cache[key] = self._transfers(command, group)
        return self._cache[key]

    def _transfers(self, command: Collective, group: tuple[int, ...]) -> list[Transfer]:
        fabric, kind, sent = self.fabric, command.kind, command.bytes
        if kind != "all-to-all":
            return [(group[0], -1, fabric.ring_class(kind, sent, group), sent)]
        if self.aggregated:
            flows = [(i, peers) for i in group for peers in fabric.ways(i, group)]
            share = sent / (len(group) - 1)
            return [
                (i, -1, fabric.aggregated_class(kind, sent, group, i, peers), share * len(peers)) for i, peers in flows
            ]
        part = sent / (len(group) - 1)
        return [(i, j, fabric.pair_class(kind, sent, group, i, j), part) for i, j in pairs(group)]

    def latency(self, command: Collective) -> float:
        """See CollectiveRoutes."""
        return float(self.fabric.kind(command.kind).latency.value)
