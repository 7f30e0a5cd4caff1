"""What commands take while nothing else is there: their time alone, and what their transfers put on each row.

The fabric is folded where it can be, so that ranks which look alike are asked once. Blocks are taken in one: what a
template holds follows each other on the compute stream, whoever issues it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from offsim.program.commands import (
    Collective,
    Command,
    Compute,
    Copy,
    StreamProgram,
    Template,
    coarse,
)
from offsim.scenario.scenario import Scenario

from .collective import FabricRoutes
from .durations import Durations
from .fabric import Fabric, FlowClass, Row
from .folding import fold
from .host_costs import HostCosts
from .needed import WORK, Work, needed_work

Coarse = Command | Template
Transfer = tuple[FlowClass, float]


class Summary(NamedTuple):
    """A template in one: (a) and (b) need no more of it."""

    alone: float
    """Seconds alone of all its commands."""
    host: float
    """Host seconds of issuing them."""
    behind_host: float
    """Seconds from the begin of issuing to the end of the last one, if nothing else holds them up."""
    busy: dict[str, float]


class Alone:
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
            self._summaries[key] = Summary(alone, host, behind, self.busy(rank, template.commands))
        return self._summaries[key]

    def busy(self, rank: int, work: Iterable[Work]) -> dict[str, float]:
        """Seconds alone by stream and engine."""
        busy: dict[str, float] = {}
        for command in work:
            if isinstance(command, Template):
                for user, seconds in self.summary(command, rank).busy.items():
                    busy[user] = busy.get(user, 0.0) + seconds
                continue
            users = [f"stream {command.stream}"]
            if not isinstance(command, Collective):
                users.append("multiprocessors" if isinstance(command, Compute) else f"{command.direction} engine")
            for user in users:
                busy[user] = busy.get(user, 0.0) + self.alone(command, rank)
        return busy

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
        for command, times in _single(commands):
            if not isinstance(command, Compute):
                key = (command[2:5] if isinstance(command, Copy) else (*command[2:4], command.group), type(command))
                moves[key] = (command, moves.get(key, (command, 0))[1] + times)
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


def _single(commands: Iterable[Work]) -> Iterator[tuple[Compute | Copy | Collective, int]]:
    """Work one by one, what templates hold with how often they occur."""
    templates: dict[int, tuple[Template, int]] = {}
    for command in commands:
        if isinstance(command, Template):
            templates[id(command)] = (command, templates.get(id(command), (command, 0))[1] + 1)
        else:
            yield command, 1
    for template, times in templates.values():
        for command in template.commands:
            yield command, times


def _loads(transfers: Iterable[Transfer]) -> dict[int, float]:
    """Coefficient x bytes of transfers, row by row."""
    load: dict[int, float] = {}
    for flow, bytes_ in transfers:
        for row, a in flow.usage:
            load[row] = load.get(row, 0.0) + a * bytes_
    return load
