"""What flows carry together: no link, uplink, memory or NVLink side more than it can, whatever the interval.

A flow lies where its bytes moved: a copy after its fixed part, a collective after its latency until its last rank ends.
In any interval, all flows that lie within it take no more of a resource than that gives in so long.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from offsim.program.commands import Copy
from offsim.scenario.node import Node
from offsim.scenario.scenario import Scenario

from .instants import near
from .meetings import Call, calls
from .walk import Walk

TOGETHER = 24
"""Flows of one resource that are looked at together."""


class Flow(NamedTuple):
    """Bytes that move from `start` to `end`."""

    title: str
    start: float
    end: float
    takes: dict[str, float]
    """Of each resource, so much in all."""


class Resources:
    """The resources of a node, each with what it gives a second; what flows take of them."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.gives: dict[str, float] = {}
        self.socket = {gpu: i for i, gpus in enumerate(node.wiring.sockets) for gpu in gpus}
        self.switch = {gpu: i for i, switch in enumerate(node.wiring.switches) for gpu in switch.gpus}

    def _take(self, takes: dict[str, float], name: str, gives: float, amount: float) -> None:
        self.gives[name] = gives
        takes[name] = takes.get(name, 0.0) + amount

    def link(self, takes: dict[str, float], direction: str, gpu: int, bytes_: float, cost: float = 1.0) -> None:
        """A GPU's own link, and what its two directions share."""
        pcie = self.node.wiring.pcie
        rate = (pcie.h2d if direction == "H2D" else pcie.d2h).value
        self._take(takes, f"{direction} link {gpu}", rate, bytes_ * cost)
        self._take(takes, f"duplex {gpu}", pcie.duplex.value, bytes_ / rate)

    def way(self, takes: dict[str, float], direction: str, gpu: int, to: int, bytes_: float, cost: float = 1.0) -> None:
        """From a GPU to a socket's memory, or back."""
        self.link(takes, direction, gpu, bytes_, cost)
        if gpu in self.switch:
            switch = self.node.wiring.switches[self.switch[gpu]]
            rate = (switch.h2d if direction == "H2D" else switch.d2h).value
            self._take(takes, f"{direction} uplink {self.switch[gpu]}", rate, bytes_ * cost)
        own = self.socket[gpu]
        if own != to and self.node.host.cross_socket is not None:
            a, b = (to, own) if direction == "H2D" else (own, to)
            self._take(takes, f"socket {a} to {b}", self.node.host.cross_socket.value, bytes_)

    def memory(self, takes: dict[str, float], socket: int, bytes_: float, *uses: str) -> None:
        """Reads and writes of a socket's memory."""
        memories = self.node.host.sockets
        memory = memories[socket] if len(memories) > 1 else memories[0]
        for use in uses:
            self._take(takes, f"{use} of {socket}", getattr(memory, use).value, bytes_)
            self._take(takes, f"total of {socket}", memory.total.value, bytes_)

    def copy(self, command: Copy, gpu: int) -> tuple[dict[str, float], float]:
        """What a copy takes, and the fastest that it can be [bytes/s]."""
        takes: dict[str, float] = {}
        self.way(takes, command.direction, gpu, self.socket[gpu], command.bytes)
        self.memory(takes, self.socket[gpu], command.bytes, "read" if command.direction == "H2D" else "write")
        host, pcie = self.node.host, self.node.wiring.pcie
        paged = {"pageable": host.pageable_d2h, "fresh": host.fresh_d2h, "pinned": pcie.d2h}[command.host_memory]
        if command.direction == "H2D":
            paged = pcie.h2d if command.host_memory == "pinned" else host.pageable_h2d
        return takes, min(
            [paged.value, *(self.gives[name] * command.bytes / takes[name] for name in takes if takes[name])]
        )

    def pair(self, takes: dict[str, float], kind: str, i: int, j: int, bytes_: float) -> None:
        """What bytes of a collective take from one GPU to another."""
        collectives = self.node.wiring.collectives
        assert collectives is not None
        cost = (collectives.all_to_all if kind == "all-to-all" else collectives.all_gather).link_cost.value
        if collectives.transport == "nvlink":
            assert self.node.wiring.nvlink is not None
            self._take(takes, f"send {i}", self.node.wiring.nvlink.send.value, bytes_)
            self._take(takes, f"receive {j}", self.node.wiring.nvlink.receive.value, bytes_)
        elif collectives.transport == "pcie" and self.switch.get(i, -1) == self.switch.get(j, -2):
            self.link(takes, "D2H", i, bytes_)
            self.link(takes, "H2D", j, bytes_, cost)
        else:
            self.way(takes, "D2H", i, self.socket[j], bytes_)
            self.memory(takes, self.socket[j], bytes_, "write", "read")
            self.way(takes, "H2D", j, self.socket[j], bytes_, cost)

    def collective(self, call: Call, latency: float) -> Flow:
        """A call as one flow."""
        command, ranks = next(iter(call.values())).command, sorted(call)
        takes: dict[str, float] = {}
        if command.kind == "all-to-all":
            for i, j in ((i, j) for i in ranks for j in ranks if i != j):
                self.pair(takes, command.kind, i, j, command.bytes / (len(ranks) - 1))
        else:
            for i, j in zip(ranks, [*ranks[1:], ranks[0]], strict=True):
                self.pair(takes, command.kind, i, j, command.bytes)
        start, end = min(done.began for done in call.values()) + latency, max(done.end for done in call.values())
        return Flow(f"{command.kind} {command.name!r}", start, end, takes)


def wrong_flows(scenario: Scenario, walks: Sequence[Walk]) -> Iterator[str]:
    """What is too fast, or too slow though alone, in an unfolded trace."""
    resources = Resources(scenario.node)
    flows = [resources.collective(call, walks[0].latency(next(iter(call.values())).command)) for call in calls(walks)]
    copies = []
    for walk in walks:
        for done in (done for stream in walk.done.values() for done in stream if isinstance(done.command, Copy)):
            takes, fastest = resources.copy(done.command, walk.rank)
            title = f"rank {walk.rank}: {done.command.direction} {done.command.name!r}"
            flow = Flow(title, done.start + walk.setup(done.command), done.end, takes)
            copies.append((flow, done.command.bytes / fastest if done.command.bytes else 0.0))
    flows += [flow for flow, _ in copies]
    for flow, least in copies:
        lasted = flow.end - flow.start
        if lasted < least and not near(flow.start + least, flow.end):
            yield f"{flow.title} takes {lasted} s, {least} s at least"
        alone = not scenario.simulation.contention or _alone(flow, flows)
        if alone and not near(flow.start + least, flow.end):
            yield f"{flow.title} takes {lasted} s, alone {least} s"
    if scenario.simulation.contention:
        yield from _too_much(resources, flows)


def _alone(flow: Flow, flows: Sequence[Flow]) -> bool:
    return not any(other is not flow and other.start < flow.end and flow.start < other.end for other in flows)


def _too_much(resources: Resources, flows: Sequence[Flow]) -> Iterator[str]:
    """Intervals in which flows take more of a resource than it gives."""
    of: dict[str, list[Flow]] = defaultdict(list)
    for flow in flows:
        for name in flow.takes:
            of[name].append(flow)
    for name, users in of.items():
        users.sort(key=lambda flow: flow.start)
        for i, first in enumerate(users):
            taken = 0.0
            for flow in sorted(users[i : i + TOGETHER], key=lambda flow: flow.end):
                taken += flow.takes[name]
                least = taken / resources.gives[name]
                if flow.end < first.start + least and not near(flow.end, first.start + least):
                    yield f"{name} gives {taken} in {flow.end - first.start} s, from {first.title} to {flow.title}"
                    return
