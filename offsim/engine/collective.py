"""Collectives: ranks meet, transfers run, each rank's kernel ends with its own sends and receives.

All-to-all: the transfer i -> j starts when both ranks' kernels run, after the fixed latency. Rings (all-gather,
all-reduce) start when all ranks are there and end together. `aggregated` all-to-alls are one flow per sender
and way to its peers (a switch, a host memory) that start when all are there: equal to pairs whenever ranks are alike.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol

from offsim.program.commands import Collective

from .agenda import Agenda, Callback
from .fabric import FlowClass
from .network import Batch, Classes, Network
from .sharing import Delays

PairTransfer = tuple[int, int, FlowClass, float]
"""(sender, receiver, class, bytes); receiver -1: the transfer occupies every member."""


class CollectiveRoutes(Protocol):
    """Which flows a collective is made of: the whole fabric's, or those of a folded one."""

    def transfers(self, command: Collective, group: tuple[int, ...]) -> list[PairTransfer]:
        """The transfers of one call between the simulated ranks of its group."""
        ...

    def latency(self, command: Collective) -> float:
        """Fixed part of one call [s]."""
        ...


class CallPart(NamedTuple):
    """One transfer of a call."""

    number: int
    """The index of its class of flows."""
    bytes: float
    ranks: tuple[int, ...]
    """The simulated ranks that it occupies."""


class Bundle(NamedTuple):
    """Transfers of a call that start together, of equally many bytes."""

    classes: Classes
    bytes: float
    ranks: tuple[int, ...]
    """The simulated ranks that they occupy."""


class Call:
    """What every call of the same collective on the same ranks has in common."""

    def __init__(self, parts: tuple[CallPart, ...], members: tuple[int, ...], latency: float, network: Network) -> None:
        self.latency = latency
        self.bits = {rank: 1 << i for i, rank in enumerate(members)}
        self.everyone = (1 << len(members)) - 1
        self.counts = {rank: sum(rank in part.ranks for part in parts) for rank in members}
        self._parts = parts
        self._network = network
        self._ranks = {part.number: part.ranks for part in parts}
        self._ready: dict[tuple[int, int], tuple[Bundle, ...]] = {}
        self._ends: dict[Classes, tuple[tuple[int, int], ...]] = {}

    def ready(self, rank: int, arrived: int) -> tuple[Bundle, ...]:
        """What may start when a rank comes to those who have arrived (their bits)."""
        found = self._ready.get((rank, arrived))
        if found is None:
            there = {other for other, bit in self.bits.items() if arrived & bit} | {rank}
            found = tuple(self._bundles([p for p in self._parts if rank in p.ranks and there.issuperset(p.ranks)]))
            self._ready[rank, arrived] = found
        return found

    def _bundles(self, parts: list[CallPart]) -> Iterable[Bundle]:
        for bytes_ in dict.fromkeys(part.bytes for part in parts):
            alike = [part for part in parts if part.bytes == bytes_]
            ranks = dict.fromkeys(rank for part in alike for rank in part.ranks)
            yield Bundle(self._network.classes(tuple(part.number for part in alike)), bytes_, tuple(ranks))

    def ends(self, classes: Classes) -> tuple[tuple[int, int], ...]:
        """Each rank with how many of these transfers occupy it."""
        found = self._ends.get(classes)
        if found is None:
            ranks = [rank for index in classes.indices for rank in self._ranks[index]]
            found = self._ends[classes] = tuple((rank, ranks.count(rank)) for rank in dict.fromkeys(ranks))
        return found

    def of_rank(self, rank: int) -> list[int]:
        """The classes of the transfers that occupy a rank, in order."""
        return [part.number for part in self._parts if rank in part.ranks]


class Meeting:
    """One call of a collective, on all simulated ranks of its group."""

    __slots__ = ("agenda", "arrived", "batches", "began", "call", "delayed", "left", "waiting")

    def __init__(self, agenda: Agenda, call: Call) -> None:
        self.agenda = agenda
        self.call = call
        self.arrived = 0
        """Bits of the ranks that are there."""
        self.left = dict(call.counts)
        """Transfers that a rank waits for."""
        self.waiting: dict[int, Callback] = {}
        self.batches: list[Batch] = []
        """What has ended."""
        self.delayed = False
        """Whether any of that was held up."""
        self.began: dict[int, float] = {}

    def __str__(self) -> str:
        return f"ranks {[rank for rank, bit in self.call.bits.items() if not self.arrived & bit]}"

    def ended(self, batch: Batch) -> None:
        """Take transfers as ended: each rank's kernel ends with its last one."""
        self.batches.append(batch)
        if batch.history:
            self.delayed = True
        left = self.left
        for rank, number in self.call.ends(batch.classes):
            open_ = left[rank] = left[rank] - number
            if not open_:
                self.agenda.soon(self.waiting.pop(rank))


class LastTransfer:
    """The transfer that a rank's kernel ended with."""

    __slots__ = ("meeting", "rank")

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting = meeting
        self.rank = rank

    def delays(self) -> Delays:
        """How long whom held the transfer up."""
        own = self.meeting.call.of_rank(self.rank)
        finish = {index: batch for batch in self.meeting.batches for index in batch.classes.indices if index in own}
        last = max([index for index in own if index in finish], key=lambda index: finish[index].finish)
        return finish[last].delays(last)


class Channel:
    """The calls of one group on one stream, matched by order of issue."""

    def __init__(
        self,
        agenda: Agenda,
        network: Network,
        routes: CollectiveRoutes,
        group: tuple[int, ...],
        members: tuple[int, ...],
    ) -> None:
        self.agenda, self.network = agenda, network
        self._routes = routes
        self._group = group
        self._members = members
        """The simulated ranks of the group."""
        self._numbers = dict.fromkeys(members, 0)
        self._meetings: dict[int, Meeting] = {}
        self._calls: dict[tuple[str, float], Call] = {}

    def arrive(self, rank: int, command: Collective, done: Callback) -> Meeting:
        """Let a rank's kernel of its next call run; `done` is called at its end."""
        number = self._numbers[rank] = self._numbers[rank] + 1
        meeting = self._meetings.get(number)
        if meeting is None:
            call = self._calls.get((command.kind, command.bytes)) or self._call(command)
            meeting = self._meetings[number] = Meeting(self.agenda, call)
        call = meeting.call
        meeting.waiting[rank] = done
        ready = call.ready(rank, meeting.arrived)
        meeting.arrived |= call.bits[rank]
        if ready:
            self._begin(meeting, ready)
        if meeting.arrived == call.everyone:
            del self._meetings[number]
        return meeting

    def _call(self, command: Collective) -> Call:
        """What calls like this one have in common; makes its classes known to the network."""
        transfers = self._routes.transfers(command, self._group)
        for transfer in transfers:
            self.network.rates.introduce(transfer[2])
        members = self._members
        parts = tuple(CallPart(transfer[2].index, transfer[3], ends(transfer, members)) for transfer in transfers)
        call = Call(parts, members, self._routes.latency(command), self.network)
        self._calls[command.kind, command.bytes] = call
        return call

    def _begin(self, meeting: Meeting, bundles: tuple[Bundle, ...]) -> None:
        """All ends of these are there: after the fixed latency the bytes flow."""
        now, began = self.agenda.now, meeting.began
        for bundle in bundles:
            for rank in bundle.ranks:
                if rank not in began:
                    began[rank] = now
        if meeting.call.latency:
            self.agenda.alarm(meeting.call.latency, partial(self._start, meeting, bundles))
        else:
            self._start(meeting, bundles)

    def _start(self, meeting: Meeting, bundles: tuple[Bundle, ...]) -> None:
        """The bytes of these transfers flow."""
        for bundle in bundles:
            self.network.start(bundle.classes, bundle.bytes, meeting)


class CollectivesInFlight:
    """All collectives of a run."""

    def __init__(self, agenda: Agenda, network: Network, routes: CollectiveRoutes) -> None:
        self.agenda = agenda
        self.network = network
        self.routes = routes
        self._channels: dict[tuple[tuple[int, ...], str], Channel] = {}

    def channel(self, group: tuple[int, ...], members: tuple[int, ...], stream: str) -> Channel:
        """The calls of a group on a stream; `members` are its simulated ranks."""
        found = self._channels.get((group, stream))
        if found is None:
            found = Channel(self.agenda, self.network, self.routes, group, members)
            self._channels[group, stream] = found
        return found


def ends(transfer: PairTransfer, members: tuple[int, ...]) -> tuple[int, ...]:
    """The ranks that a transfer occupies: its two ends, or every member."""
    sender, receiver = transfer[:2]
    if receiver == -1:
        return members
    return (sender,) if sender == receiver else (sender, receiver)


def member_pairs(group: Iterable[int]) -> list[tuple[int, int]]:
    """Ordered pairs of different members."""
    members = tuple(group)
    return [(i, j) for i in members for j in members if i != j]


class FabricRoutes:
    """Collectives over the unfolded fabric: every rank simulated."""

    def __init__(self, fabric: Any, *, aggregated: bool) -> None:
        self.fabric = fabric
        self.aggregated = aggregated
        self._cache: dict[tuple[Collective, tuple[int, ...]], list[PairTransfer]] = {}

    def transfers(self, command: Collective, group: tuple[int, ...]) -> list[PairTransfer]:
        """See CollectiveRoutes."""
        key = (command._replace(name=""), group)
        if key not in self._cache:
            self._cache[key] = self._transfers(command, group)
        return self._cache[key]

    def _transfers(self, command: Collective, group: tuple[int, ...]) -> list[PairTransfer]:
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
        return [(i, j, fabric.pair_class(kind, sent, group, i, j), part) for i, j in member_pairs(group)]

    def latency(self, command: Collective) -> float:
        """See CollectiveRoutes."""
        return float(self.fabric.latency(command.kind))
