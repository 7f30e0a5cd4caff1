"""Lower bounds on a program's durations, without a clock: what no schedule on this node can beat.

A duration is what a step's row shows: host clock from begin to end if the section ends with a synchronisation of the
compute stream (*closed*), else from the compute stream's end of the section before to its own (*open*). Three bounds,
the largest counts:

    (a) path     longest path through the commands; each takes its time alone, everything else is infinite:
                 start = max(end of the command before on its stream, instant of issue, awaited event)
    (b) serial   per stream, and for multiprocessors and each copy engine over all streams: sum of times alone
    (c) links    per row of the fabric: sum(bytes x coefficient) / bound, without contention switched off

Alone: kernels at full rate; copies latency + bytes / min(cap, min_row bound / coefficient); collectives latency + the
slowest of the rows that the rank's own transfers use. (b) and (c) count *needed* commands only, those that the section's
end depends on: prefetches for later sections may run on, and what earlier sections issued may already be there. Open
sections have only (a), from the compute stream's tail: their copies may run before they begin. Interference, queue
depth and the ranks' waiting for each other only add to these.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple

from offsim.program.commands import (
    COMPUTE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    HostWork,
    Record,
    StreamProgram,
    Synchronize,
    Wait,
    stream_of,
)
from offsim.scenario.scenario import Scenario

from .durations import Durations
from .fabric import Fabric, FlowClass
from .folding import fold, pairs

Work = Compute | Copy | Collective
Place = tuple[str, int]
"""A stream and how many of its commands have been issued."""


def lower_bounds(scenario: Scenario, program: StreamProgram) -> list[float]:
    """Per section, a duration [s] that its slowest rank cannot beat."""
    return [max(of_ranks) for of_ranks in zip(*_by_rank(_Node(scenario, program)), strict=True)]


def lower_bound(scenario: Scenario, program: StreamProgram) -> float:
    """Seconds from the first begin of the first step to the last end of the last step that nothing can beat.

    The larger of two: the steps' bounds added up on one rank (steps of one kind, closed or open, do not overlap),
    and the bound of all steps as one section, whose copies may cross from step to step.
    """
    node = _Node(scenario, program)
    steps = [i for i, section in enumerate(program.sections) if section.step is not None]
    commands = [command for i in steps for command in program.sections[i].commands]
    kinds = {_closed(program.sections[i].commands) for i in steps}
    added = max(sum(bounds[i] for i in steps) for bounds in _by_rank(node)) if len(kinds) == 1 else 0.0
    whole = max(_whole(node.costs[rank], commands) for rank in node.ranks)
    return max(added, whole, node.link_time(_needed(commands), everyone=True))


def _by_rank(node: "_Node") -> Iterator[list[float]]:
    """Bounds of every section, rank by rank."""
    for rank in node.ranks:
        seen: dict[int, float] = {}
        for section in node.program.sections:
            if id(section.commands) not in seen:
                seen[id(section.commands)] = _section(node, rank, section.commands)
        yield [seen[id(section.commands)] for section in node.program.sections]


def _section(node: "_Node", rank: int, commands: Sequence[Command]) -> float:
    costs = node.costs[rank]
    if not _closed(commands):
        return max(0.0, _path(costs, commands, host=-inf, compute=0.0)[1])
    links = node.link_time(_needed(commands), everyone=node.alike, rank=rank)
    return max(_path(costs, commands, host=0.0, compute=-inf)[0], _serial(costs, commands), links)


def _whole(costs: "_Costs", commands: Sequence[Command]) -> float:
    """Several sections as one that begins with the host's first command."""
    return max(*_path(costs, commands, host=0.0, compute=-inf), _serial(costs, commands))


def _closed(commands: Sequence[Command]) -> bool:
    """Whether the section ends with a synchronisation of the compute stream."""
    if not commands or not isinstance(commands[-1], Synchronize):
        return False
    last = commands[-1]
    return last.scope == "device" or (last.scope == "stream" and last.target == COMPUTE)


class _Path:
    """Earliest instants at which the host and each stream get through a list of commands."""

    def __init__(self, costs: "_Costs", host: float, compute: float) -> None:
        self.costs = costs
        self.host = host
        self.tails = {COMPUTE: compute}
        self.events: dict[str, float] = {}

    def issue(self, command: Command) -> None:
        """One more command in host order."""
        self.host += self.costs.of_host(command)
        stream = stream_of(command)
        if stream is not None:
            self._put(stream, command)
        elif isinstance(command, Synchronize):
            self.host = max(self.host, self._reached(command))

    def _put(self, stream: str, command: Command) -> None:
        start = max(self.tails.get(stream, -inf), self.host)
        if isinstance(command, Wait):
            start = max(start, self.events.get(command.event, -inf))
        end = self.tails[stream] = start + self.costs.alone(command)
        if isinstance(command, Record):
            self.events[command.event] = end
        elif isinstance(command, Copy) and command.host_memory != "pinned":
            self.host = max(self.host, end)

    def _reached(self, command: Synchronize) -> float:
        if command.scope == "device":
            return max(self.tails.values())
        known = self.events if command.scope == "event" else self.tails
        return known.get(command.target, -inf)


def _path(costs: "_Costs", commands: Iterable[Command], *, host: float, compute: float) -> tuple[float, float]:
    """(a): when the host and the compute stream are through, if they begin at `host` and `compute`."""
    path = _Path(costs, host, compute)
    for command in commands:
        path.issue(command)
    return path.host, path.tails[COMPUTE]


def _serial(costs: "_Costs", commands: Sequence[Command]) -> float:
    """(b): the busiest stream or engine, over the needed commands."""
    busy: dict[str, float] = {}
    for command in _needed(commands):
        alone = costs.alone(command)
        engine = {Compute: "multiprocessors", Collective: ""}.get(type(command)) or getattr(command, "direction", "")
        for user in {f"stream {command.stream}", engine} - {""}:
            busy[user] = busy.get(user, 0.0) + alone
    return max(busy.values(), default=0.0)


def _needed(commands: Sequence[Command]) -> list[Work]:
    """Work that has ended when the host and the compute stream are through: backwards along waits."""
    places, required = _places(commands)
    needed: list[Work] = []
    for command, (own, awaited) in zip(reversed(commands), reversed(places), strict=True):
        if own is None or own[1] > required.get(own[0], 0):
            continue
        for stream, count in awaited:
            required[stream] = max(required.get(stream, 0), count)
        if isinstance(command, Work):
            needed.append(command)
    return needed


def _places(commands: Sequence[Command]) -> tuple[list[tuple[Place | None, list[Place]]], dict[str, int]]:
    """Each command's place and those that it waits for; and how far each stream must get for the end."""
    issued: dict[str, int] = {}
    recorded: dict[str, Place] = {}
    required: dict[str, int] = {}
    places: list[tuple[Place | None, list[Place]]] = []
    for command in commands:
        own, awaited, stream = None, [], stream_of(command)
        if stream is not None:
            own = (stream, issued.get(stream, 0) + 1)
            issued[stream] = own[1]
            if isinstance(command, Record):
                recorded[command.event] = own
            elif isinstance(command, Wait):
                awaited = [recorded[command.event]] if command.event in recorded else []
        for blocking, count in _blocking(command, own, issued, recorded):
            required[blocking] = max(required.get(blocking, 0), count)
        places.append((own, awaited))
    required[COMPUTE] = issued.get(COMPUTE, 0)
    return places, required


def _blocking(
    command: Command, own: Place | None, issued: dict[str, int], recorded: dict[str, Place]
) -> list[Place]:
    """What the host waits for in a command."""
    if isinstance(command, Copy) and command.host_memory != "pinned" and own is not None:
        return [own]
    if not isinstance(command, Synchronize):
        return []
    if command.scope == "device":
        return list(issued.items())
    if command.scope == "stream":
        return [(command.target, issued.get(command.target, 0))]
    return [recorded[command.target]] if command.target in recorded else []


Transfer = tuple[FlowClass, float]


class _Costs:
    """What each command of one rank takes alone, on its stream and on the host thread."""

    def __init__(self, node: "_Node", rank: int) -> None:
        self.node, self.rank = node, rank
        costs = node.scenario.node.overheads
        self.host = {Collective: costs.collective.value, Record: costs.event.value, Wait: costs.event.value}
        self.host |= {Allocate: costs.allocation.value, Synchronize: costs.synchronize.value}
        self.launch, self.copy = costs.launch.value, costs.copy.value
        self._known: dict[Command, float] = {}

    def of_host(self, command: Command) -> float:
        """Host time of issuing a command."""
        if isinstance(command, Compute):
            return self.launch * len(command.kernels)
        if isinstance(command, Copy):
            return self.copy * command.calls
        return command.duration if isinstance(command, HostWork) else self.host.get(type(command), 0.0)

    def alone(self, command: Command) -> float:
        """Time on its stream with the whole node to itself."""
        if command not in self._known:
            self._known[command] = self._alone(command)
        return self._known[command]

    def _alone(self, command: Command) -> float:
        if isinstance(command, Compute):
            return self.node.durations.of_command(command)
        if not isinstance(command, Copy | Collective):
            return 0.0
        own = self.node.transfers(command, self.rank)
        slowest = max((bytes_ / flow.cap for flow, bytes_ in own), default=0.0)
        return (self.node.latency(command) if own else 0.0) + max(slowest, self.node.fullest(own))


class _Node:
    """The fabric that a program runs on, and which transfers its commands make."""

    def __init__(self, scenario: Scenario, program: StreamProgram) -> None:
        self.scenario, self.program = scenario, program
        self.fabric = Fabric(scenario.node, program.groups)
        self.alike = program.ranks == 1 or fold(self.fabric, program) is not None
        self.everyone = tuple(sorted(self.fabric.ranks))
        self.ranks = self.everyone[:1] if self.alike else self.everyone
        self.durations = Durations(scenario)
        self.costs = {rank: _Costs(self, rank) for rank in self.ranks}

    def transfers(self, command: Copy | Collective, rank: int) -> list[Transfer]:
        """The transfers that `rank` has a part in."""
        if isinstance(command, Copy):
            return [(self.fabric.copy_class(rank, command.direction, command.host_memory), command.bytes)]
        return self._collective(command, next(g for g in self._groups(command) if rank in g), rank)

    def _groups(self, command: Collective) -> tuple[tuple[int, ...], ...]:
        return self.program.groups if command.group == "sequence" else (self.everyone,)

    def _collective(self, command: Collective, group: tuple[int, ...], rank: int | None) -> list[Transfer]:
        if len(group) == 1:
            return []
        kind, sent = command.kind, command.bytes
        if kind != "all-to-all":
            return [(self.fabric.ring_class(kind, sent, group), sent)]
        ends = [ends for ends in pairs(group) if rank is None or rank in ends]
        return [(self.fabric.pair_class(kind, sent, group, i, j), sent / (len(group) - 1)) for i, j in ends]

    def latency(self, command: Copy | Collective) -> float:
        """Fixed part of one command."""
        if isinstance(command, Copy):
            return self.scenario.node.pcie.latency.value
        return self.fabric.kind(command.kind).latency.value

    def fullest(self, transfers: Iterable[Transfer]) -> float:
        """Seconds that the most loaded row needs for these transfers."""
        load: dict[int, float] = {}
        for flow, bytes_ in transfers:
            for row, a in flow.usage:
                load[row] = load.get(row, 0.0) + a * bytes_
        return max((amount / self.fabric.rows[row].bound for row, amount in load.items()), default=0.0)

    def link_time(self, commands: Iterable[Work], *, everyone: bool, rank: int = 0) -> float:
        """(c): of all ranks' transfers or of one rank's; nothing where flows don't contend."""
        if not self.scenario.simulation.contention:
            return 0.0
        moves = [command for command in commands if not isinstance(command, Compute)]
        if not everyone:
            return self.fullest(t for command in moves for t in self.transfers(command, rank))
        return self.fullest(t for command in moves for t in self._of_all(command))

    def _of_all(self, command: Copy | Collective) -> list[Transfer]:
        if isinstance(command, Copy):
            return [t for rank in self.everyone for t in self.transfers(command, rank)]
        return [t for group in self._groups(command) for t in self._collective(command, group, None)]
