"""Lower bounds on a program's durations, without a clock: what no schedule on this node can beat.

A duration is what a step's row shows: host clock from begin to end if the section ends with a synchronisation
of the compute stream (closed), else from the compute stream's end of the section before to its own (open).
Three bounds, the largest counts:

    (a) path     longest path through the commands, each in its time alone and everything else infinite:
                 start = max(end of the command before on its stream, instant of issue, awaited event)
    (b) serial   per stream, and for multiprocessors and each copy engine over all streams: sum of times alone
    (c) links    per row of the fabric: sum(bytes x coefficient) / bound; not where contention is switched off

Alone: kernels at full rate; copies latency + bytes / min(cap, min_row bound / coefficient); collectives
latency + the slowest of the rows that the rank's own transfers use. (b) and (c) count needed commands only,
those that the section's end depends on: prefetches for later sections may run on, and what earlier sections
issued may already be there. Open sections have only (a), from the compute stream's tail: their copies may run
before they begin. Interference, queue depth and ranks that wait for each other only add to these.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import inf
from typing import NamedTuple, TypeVar

from offsim.program.commands import (
    COMPUTE,
    Collective,
    Command,
    Compute,
    Copy,
    Record,
    StreamProgram,
    Synchronize,
    Template,
    Wait,
    coarse,
    stream_of,
)
from offsim.scenario.scenario import Scenario

from .collective import FabricRoutes
from .durations import Durations
from .fabric import Fabric, FlowClass, Row
from .folding import fold
from .host_costs import HostCosts
from .needed import WORK, Work, needed_work

Transfer = tuple[FlowClass, float]
Key = TypeVar("Key", str, int)


def lower_bounds(scenario: Scenario, program: StreamProgram) -> list[float]:
    """Per section, a duration [s] that its slowest rank cannot beat."""
    return [max(of_ranks) for of_ranks in zip(*_by_rank(_Node(scenario, program)), strict=True)]


def lower_bound(scenario: Scenario, program: StreamProgram) -> float:
    """Seconds that nothing can beat from the first begin of the first step to the last end of the last one.

    The largest of three: the steps' bounds added up on one rank (steps that are all closed or all open do not
    overlap; otherwise the path through all of them), and bounds (b) and (c) over all steps, which hold the copies
    that cross from a step to an equal next one.
    """
    node = _Node(scenario, program)
    steps = [i for i, section in enumerate(program.sections) if section.step is not None]
    kinds = {_closed(node.commands(i)) for i in steps}
    if len(kinds) == 1:
        times = max(sum(bounds[i] for i in steps) for bounds in _by_rank(node))
    else:
        commands = [command for i in steps for command in node.commands(i)]
        times = max(max(_path(node, rank, commands, host=0.0, compute=-inf)) for rank in node.ranks)
    runs = _runs(node, steps)
    serial = max(
        max(_over_runs(runs, node.needed, partial(_busy, node, rank)).values(), default=0.0) for rank in node.ranks
    )
    loads = _over_runs(runs, node.needed, node.loads)
    return max(times, serial, node.fullest(loads, node.rows))


Coarse = Command | Template
Runs = list[tuple[list[Coarse], int]]


def _runs(node: "_Node", steps: list[int]) -> Runs:
    """Consecutive equal steps as (commands, how many)."""
    runs: Runs = []
    for i in steps:
        commands = node.commands(i)
        if runs and runs[-1][0] is commands:
            runs[-1] = (commands, runs[-1][1] + 1)
        else:
            runs.append((commands, 1))
    return runs


def _over_runs(
    runs: Runs,
    needed: "Callable[[Sequence[Coarse], int], list[Work]]",
    amounts: "Callable[[list[Work]], dict[Key, float]]",
) -> dict[Key, float]:
    """Amounts of needed work over all steps.

    A step needs what its own end depends on, and, before an equal step, what that one depends on too: of k equal
    steps the last needs N1, each of the others at least N2 - N1, with N2 the need of two in a row.
    """
    total: dict[Key, float] = {}
    for commands, times in runs:
        work = needed(commands, 1)
        once = amounts(work)
        complete = times == 1 or len(work) == sum(type(command) in WORK for command in commands)
        twice = {key: 2 * one for key, one in once.items()} if complete else amounts(needed(commands, 2))
        for key, amount in twice.items():
            one = once.get(key, 0.0)
            total[key] = total.get(key, 0.0) + one + (times - 1) * (amount - one)
    return total


def _by_rank(node: "_Node") -> Iterator[list[float]]:
    """Bounds of every section, rank by rank."""
    sections = [node.commands(i) for i in range(len(node.program.sections))]
    distinct = {id(commands): commands for commands in sections}
    for rank in node.ranks:
        bounds = {key: _section(node, rank, commands) for key, commands in distinct.items()}
        yield [bounds[id(commands)] for commands in sections]


def _section(node: "_Node", rank: int, commands: Sequence[Coarse]) -> float:
    if not _closed(commands):
        return max(0.0, _path(node, rank, commands, host=-inf, compute=0.0)[1])
    # Ranks that differ need not be in the same step at the same time: each has its own transfers only.
    links = node.link_time(node.needed(commands), None if node.alike else rank)
    path, _ = _path(node, rank, commands, host=0.0, compute=-inf)
    return max(path, _serial(node, rank, commands), links)


def _closed(commands: Sequence[Coarse]) -> bool:
    """Whether the section ends with a synchronisation of the compute stream."""
    last = commands[-1] if commands else None
    return isinstance(last, Synchronize) and last in (Synchronize("device"), Synchronize("stream", COMPUTE))


def _path(node: "_Node", rank: int, commands: Iterable[Coarse], *, host: float, compute: float) -> tuple[float, float]:
    """(a): when the host and the compute stream are through, if they begin at `host` and `compute`."""
    tails, events = {COMPUTE: compute}, dict[str, float]()
    for command in commands:
        if isinstance(command, Template):
            own = node.summary(command, rank)
            tails[COMPUTE] = max(tails[COMPUTE] + own.alone, host + own.behind_host)
            host += own.host
            continue
        host += node.host_costs.of(command)
        stream = stream_of(command)
        if stream is None:
            host = max(host, _reached(command, tails, events))
            continue
        start = max(tails.get(stream, -inf), host)
        if isinstance(command, Wait):
            start = max(start, events.get(command.event, -inf))
        tails[stream] = start + node.alone(command, rank)
        if isinstance(command, Record):
            events[command.event] = start
        elif isinstance(command, Copy) and command.host_memory != "pinned":
            host = max(host, tails[stream])
    return host, tails[COMPUTE]


def _reached(command: Command, tails: dict[str, float], events: dict[str, float]) -> float:
    """When what the host waits for has happened; -inf if it waits for nothing."""
    if not isinstance(command, Synchronize):
        return -inf
    if command.scope == "device":
        return max(tails.values())
    return (events if command.scope == "event" else tails).get(command.target, -inf)


def _serial(node: "_Node", rank: int, commands: Sequence[Coarse]) -> float:
    """(b): the busiest stream or engine, over the needed commands."""
    return max(_busy(node, rank, node.needed(commands)).values(), default=0.0)


def _busy(node: "_Node", rank: int, work: list[Work]) -> dict[str, float]:
    """Seconds alone by stream and engine."""
    busy: dict[str, float] = {}
    for command in work:
        if isinstance(command, Template):
            for user, seconds in node.summary(command, rank).busy.items():
                busy[user] = busy.get(user, 0.0) + seconds
            continue
        users = [f"stream {command.stream}"]
        if not isinstance(command, Collective):
            users.append("multiprocessors" if isinstance(command, Compute) else f"{command.direction} engine")
        for user in users:
            busy[user] = busy.get(user, 0.0) + node.alone(command, rank)
    return busy


class Summary(NamedTuple):
    """A template in one: (a) and (b) need no more of it."""

    alone: float
    """Seconds alone of all its commands."""
    host: float
    """Host seconds of issuing them."""
    behind_host: float
    """Seconds from the begin of issuing to the end of the last one, if nothing else holds them up."""
    busy: dict[str, float]


class _Node:
    """The fabric that a program runs on: what its commands take alone, and which transfers they make."""

    def __init__(self, scenario: Scenario, program: StreamProgram) -> None:
        self.scenario, self.program = scenario, program
        self.fabric = Fabric(scenario.node, program.groups)
        self.folded = fold(self.fabric, program) if program.ranks > 1 else None
        self._routes = self.folded or FabricRoutes(self.fabric, aggregated=False)
        self.everyone = tuple(sorted(self.fabric.ranks))
        self.ranks = self.everyone if self.folded is None else tuple(sorted(self.folded.represented))
        self.alike = len(self.ranks) == 1
        self._durations = Durations(scenario)
        self.host_costs = HostCosts(scenario.node.overheads)
        self._alone: dict[tuple[int, int], float] = {}
        self._needed: dict[tuple[int, int], list[Work]] = {}
        self._coarse: dict[int, list[Coarse]] = {}
        self._summaries: dict[tuple[int, int], Summary] = {}

    def commands(self, section: int) -> list[Coarse]:
        """A section's commands, blocks in one; the same list for the same commands."""
        commands = self.program.sections[section].commands
        if id(commands) not in self._coarse:
            self._coarse[id(commands)] = coarse(commands)
        return self._coarse[id(commands)]

    def summary(self, template: Template, rank: int) -> Summary:
        """A template in one, on a rank."""
        key = (rank, id(template))
        if key not in self._summaries:
            host = behind = 0.0
            for command in template.commands:
                host += self.host_costs.of(command)
                behind = max(behind, host) + self.alone(command, rank)
            alone = sum(self.alone(command, rank) for command in template.commands)
            self._summaries[key] = Summary(alone, host, behind, _busy(self, rank, list(template.commands)))
        return self._summaries[key]

    def needed(self, commands: Sequence[Coarse], times: int = 1) -> list[Work]:
        """See needed_work, of a section that runs `times` times in a row; remembered."""
        key = (id(commands), times)
        if key not in self._needed:
            self._needed[key] = needed_work([*commands] * times)
        return self._needed[key]

    def alone(self, command: Command, rank: int) -> float:
        """Time of a command on its stream with the whole node to itself."""
        if type(command) not in WORK:
            return 0.0
        key = (rank, id(command))  # commands live as long as the program; hashing their kernels is slow
        if key not in self._alone:
            self._alone[key] = self._time(command, rank)  # type: ignore[arg-type]
        return self._alone[key]

    def _time(self, command: Work, rank: int) -> float:
        if isinstance(command, Compute):
            return self._durations.of_command(command)
        assert not isinstance(command, Template)
        link = self.scenario.node.pcie if isinstance(command, Copy) else self.fabric.kind(command.kind)
        load = self._own_load(command, rank)
        if not load:
            return 0.0
        slowest = self.fullest(load, self.fabric.rows)
        if isinstance(command, Copy):
            cap = self.fabric.copy_class(rank, command.direction, command.host_memory).cap
            slowest = max(slowest, command.bytes / cap)
        return link.latency.value + slowest

    def _own_load(self, command: Copy | Collective, rank: int) -> dict[int, float]:
        """Coefficient x bytes on each row of the fabric, of the transfers that a rank has a part in."""
        if isinstance(command, Copy):
            copy = self.fabric.copy_class(rank, command.direction, command.host_memory)
            return _loads([(copy, command.bytes)])
        kind, sent = command.kind, command.bytes
        groups = self.program.groups if command.group == "sequence" else (self.everyone,)
        group = next(group for group in groups if rank in group)
        if len(group) == 1:
            return {}
        if kind != "all-to-all":
            return _loads([(self.fabric.ring_class(kind, sent, group), sent)])
        load: dict[int, float] = {}
        for peers in self.fabric.ways(rank, group):
            for ends in ((rank, peers[0]), (peers[0], rank)):
                flow = self.fabric.pair_class(kind, sent, group, *ends)
                for row, a in flow.usage:
                    # A peer's own rows carry its own transfer, all others those of every peer reached this way.
                    times = 1 if self.fabric.rows[row].owner == ("rank", peers[0]) else len(peers)
                    load[row] = load.get(row, 0.0) + a * times * sent / (len(group) - 1)
        return load

    def _all_load(self, command: Copy | Collective) -> dict[int, float]:
        """Coefficient x bytes on each row of the fabric, folded where it can be, of all ranks' transfers."""
        used = self.folded or self.fabric
        if isinstance(command, Copy):
            return _loads(
                (used.copy_class(rank, command.direction, command.host_memory), command.bytes) for rank in self.ranks
            )
        groups = self.program.groups if command.group == "sequence" else (self.everyone,)
        chosen = [group for group in groups if len(group) > 1 and any(rank in group for rank in self.ranks)]
        return _loads((move[2], move[3]) for group in chosen for move in self._routes.transfers(command, group))

    def fullest(self, loads: dict[int, float], rows: Sequence[Row]) -> float:
        """Seconds that the most loaded row needs."""
        return max((amount / rows[row].bound for row, amount in loads.items()), default=0.0)

    def loads(self, commands: Iterable[Work], rank: int | None = None) -> dict[int, float]:
        """Coefficient x bytes on each row of one rank's transfers (None: all ranks'); empty without contention."""
        if not self.scenario.simulation.contention:
            return {}
        moves: dict[tuple[object, ...], tuple[Copy | Collective, int]] = {}
        for command in _single(commands):
            if not isinstance(command, Compute):
                key = (command[2:5] if isinstance(command, Copy) else (*command[2:4], command.group), type(command))
                moves[key] = (command, moves.get(key, (command, 0))[1] + 1)
        total: dict[int, float] = {}
        for command, count in moves.values():
            load = self._all_load(command) if rank is None else self._own_load(command, rank)
            for row, amount in load.items():
                total[row] = total.get(row, 0.0) + amount * count
        return total

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of the whole node's load."""
        return (self.folded or self.fabric).rows

    def link_time(self, commands: Iterable[Work], rank: int | None = None) -> float:
        """(c): over one rank's transfers (None: all ranks')."""
        return self.fullest(self.loads(commands, rank), self.rows if rank is None else self.fabric.rows)


def _single(commands: Iterable[Work]) -> Iterator[Compute | Copy | Collective]:
    """Work one by one."""
    for command in commands:
        if isinstance(command, Template):
            yield from command.commands
        else:
            yield command


def _loads(transfers: Iterable[Transfer]) -> dict[int, float]:
    """Coefficient x bytes of transfers, row by row."""
    load: dict[int, float] = {}
    for flow, bytes_ in transfers:
        for row, a in flow.usage:
            load[row] = load.get(row, 0.0) + a * bytes_
    return load
