"""Collectives: ranks meet, transfers run, each rank's kernel ends with its own sends and receives.

All-to-all: the transfer i -> j starts when both ranks' kernels run, after the fixed latency. Rings (all-gather,
all-reduce) start when all ranks are there and end together. `aggregated` all-to-alls are one flow per sender
and way to its peers (a switch, a host memory) that start when all are there: equal to pairs whenever ranks are alike.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol

from offsim.program.commands import Collective

from .environment import PromptEnvironment
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


class Part(NamedTuple):
    """One transfer of a call."""

    flow_class: FlowClass
    bytes: float
    ranks: tuple[int, ...]
    """The simulated ranks that it occupies."""


class Call(NamedTuple):
    """What every call of the same collective on the same ranks has in common."""

    parts: tuple[Part, ...]
    of_rank: dict[int, tuple[Part, ...]]
    """The transfers that each simulated rank has a part in."""
    latency: float


class Meeting:
    """One call of a collective, on all simulated ranks of its group."""

    __slots__ = ("arrived", "began", "call", "done", "flows", "members", "open_transfers")

    def __init__(self, env: PromptEnvironment, call: Call, members: tuple[int, ...]) -> None:
        self.call = call
        self.members = members
        self.arrived: set[int] = set()
        self.open_transfers = {rank: len(parts) for rank, parts in call.of_rank.items()}
        self.done = {rank: env.event() for rank in members}
        self.flows: list[tuple[Flow, tuple[int, ...]]] = []
        self.began: dict[int, float] = {}

    def last_flow(self, rank: int) -> Flow:
        """The transfer that a rank's kernel ended with."""
        if len(self.members) == 1 and len(self.flows) == 1:
            return self.flows[0][0]
        return max([flow for flow, ranks in self.flows if rank in ranks], key=lambda flow: flow.finish)


class Collectives:
    """All collectives of a run, matched by group and order of issue."""

    def __init__(self, env: PromptEnvironment, network: Network, routes: CollectiveRoutes) -> None:
        self.env = env
        self.network = network
        self.routes = routes
        self._numbers: dict[tuple[int, tuple[int, ...], str], int] = {}
        self._meetings: dict[tuple[tuple[int, ...], str, int], Meeting] = {}
        self._calls: dict[tuple[object, ...], Call] = {}

    def arrive(self, rank: int, command: Collective, group: tuple[int, ...], members: tuple[int, ...]) -> Meeting:
        """Rank's kernel of its next call on this group runs; `members` are the simulated ranks of the group."""
        slot = (rank, group, command.stream)
        number = self._numbers[slot] = self._numbers.get(slot, 0) + 1
        key = (group, command.stream, number)
        meeting = self._meetings.get(key)
        if meeting is None:
            meeting = self._meetings[key] = Meeting(self.env, self._call(command, group, members), members)
        arrived = meeting.arrived
        arrived.add(rank)
        ready = [part for part in meeting.call.of_rank[rank] if arrived.issuperset(part.ranks)]
        if ready:
            self._begin(meeting, ready)
        if len(arrived) == len(members):
            del self._meetings[key]
        return meeting

    def _call(self, command: Collective, group: tuple[int, ...], members: tuple[int, ...]) -> Call:
        """What this call shares with all others like it; makes its classes known to the network."""
        key = (command.kind, command.bytes, command.group, group)
        if key not in self._calls:
            transfers = self.routes.transfers(command, group)
            for transfer in transfers:
                self.network.introduce(transfer[2])
            parts = tuple(Part(transfer[2], transfer[3], ends(transfer, members)) for transfer in transfers)
            of_rank = {rank: tuple(part for part in parts if rank in part.ranks) for rank in members}
            self._calls[key] = Call(parts, of_rank, self.routes.latency(command))
        return self._calls[key]

    def _begin(self, meeting: Meeting, parts: list[Part]) -> None:
        """All ends of these are there: after the fixed latency the bytes flow."""
        now = self.env.now
        for part in parts:
            for rank in part.ranks:
                meeting.began.setdefault(rank, now)
        if meeting.call.latency:
            self.env.alarm(meeting.call.latency, partial(self._start, meeting, parts))
        else:
            self._start(meeting, parts)

    def _start(self, meeting: Meeting, parts: list[Part]) -> None:
        """The bytes of these transfers flow."""
        now = self.env.now
        flows = [Flow(part.flow_class, part.bytes, partial(self._finish, meeting, part.ranks), now) for part in parts]
        self.network.start_all(tuple([part.flow_class.index for part in parts]), flows)
        meeting.flows += [(flow, part.ranks) for flow, part in zip(flows, parts, strict=True)]

    def _finish(self, meeting: Meeting, ranks: tuple[int, ...]) -> None:
        """A transfer has ended: each rank's kernel ends with its last one."""
        left = meeting.open_transfers
        for rank in ranks:
            left[rank] -= 1
            if left[rank] == 0:
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
