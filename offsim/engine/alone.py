"""What commands take while nothing else is there: their time alone, and what their transfers put on each row.

The fabric is folded where it can be, so that ranks which look alike are asked once. Blocks are taken in one: what a
template holds follows each other on the compute stream, whoever issues it.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from offsim.program.commands import Collective, Command, Compute, Copy
from offsim.program.passages import Template

from .acts import WORK, Act, Acts, BoundWork, PartInPassage, SectionActs, Timed
from .collective import FabricRoutes
from .fabric import FabricConstraint, FlowClass
from .issue import PassagePlan
from .needed import NeededWork
from .part_plan import PartPlan
from .prepared import Prepared

FlowBytes = tuple[FlowClass, float]


class Summary(NamedTuple):
    """What a template takes as a whole: all that (a) and (b) need of it."""

    alone: float
    """Seconds alone of all its commands."""
    host: float
    """Host seconds of issuing them."""
    behind_host: float
    """Seconds from the begin of issuing to the end of the last one, if nothing else holds them up."""
    busy: dict[str, float]


class Alone:
    """The fabric that a program runs on: what its commands take alone, and which transfers they make."""

    def __init__(self, prepared: Prepared) -> None:
        self.scenario, self.program = prepared.scenario, prepared.program
        self._plans = prepared.plans
        self.fabric, self.folded = prepared.fabric(), prepared.folded()
        self._routes = self.folded or FabricRoutes(self.fabric, aggregated=False)
        self.ranks = tuple(self.fabric.ranks if self.folded is None else sorted(self.folded.represented))
        self.alike = len(self.ranks) == 1
        self._durations = prepared.durations
        self.host_costs = prepared.costs
        self._alone: dict[tuple[int, int], float] = {}
        self._acts: dict[int, Acts] = {}
        self._stretches: dict[int, list[PartInPassage]] = {}
        self._sections: dict[int, SectionActs] = {}
        self._needed: dict[tuple[int, bool], NeededWork] = {}
        self._busy: dict[tuple[int, int], dict[str, float]] = {}
        self._loads: dict[tuple[int, int | None], dict[int, float]] = {}
        self._single: dict[Hashable, dict[int, float]] = {}
        self._summaries: dict[tuple[int, int], Summary] = {}

    def summary(self, template: Template, rank: int) -> Summary:
        """What a template takes as a whole on a rank."""
        key = (rank, id(template))
        if key not in self._summaries:
            host = behind = 0.0
            for command in template.commands:
                host += self.host_costs.of(command)
                behind = max(behind, host) + self.alone(command, rank)
            busy: dict[str, float] = {}
            for command in template.commands:
                for user, seconds in self._users(command, rank).items():
                    busy[user] = busy.get(user, 0.0) + seconds
            alone = sum(self.alone(command, rank) for command in template.commands)
            self._summaries[key] = Summary(alone, host, behind, busy)
        return self._summaries[key]

    def busy(self, rank: int, need: NeededWork) -> dict[str, float]:
        """Seconds alone by stream and engine; remembered."""
        key = (id(need), rank)
        if key not in self._busy:
            self._busy[key] = self._add_busy(rank, need.work)
        return self._busy[key]

    def _add_busy(self, rank: int, work: Mapping[Act, int]) -> dict[str, float]:
        busy: dict[str, float] = {}
        for act, times in work.items():
            command = act.command
            own = self.summary(command, rank).busy if isinstance(command, Template) else self._users(command, rank)
            for user, seconds in own.items():
                busy[user] = busy.get(user, 0.0) + times * seconds
        return busy

    def _users(self, command: Command, rank: int) -> dict[str, float]:
        """What a command keeps busy, and for how long."""
        assert isinstance(command, Compute | Copy | Collective)
        seconds = self.alone(command, rank)
        users = {f"stream {command.stream}": seconds}
        if not isinstance(command, Collective):
            users["multiprocessors" if isinstance(command, Compute) else f"{command.direction} engine"] = seconds
        return users

    def section(self, commands: Sequence[Command]) -> SectionActs:
        """A section's commands as acts of the host; remembered."""
        key = id(commands)
        if key not in self._sections:
            self._sections[key] = SectionActs(self._plans.of_section(commands), self._stretches_of)
        return self._sections[key]

    def _stretches_of(self, plan: PassagePlan) -> list[PartInPassage]:
        if id(plan) not in self._stretches:
            parts = zip(plan.parts, plan.begins, strict=True)
            self._stretches[id(plan)] = [(self._acts_of(part), begins) for part, begins in parts]
        return self._stretches[id(plan)]

    def _acts_of(self, plan: PartPlan) -> Acts:
        if id(plan) not in self._acts:
            self._acts[id(plan)] = Acts(plan, self.host_costs)
        return self._acts[id(plan)]

    def needed(self, commands: Sequence[Command], *, repeated: bool = False) -> NeededWork:
        """What the end of a section needs of it; `repeated`: or the end of an equal one that follows. Remembered."""
        key = (id(commands), repeated)
        if key not in self._needed:
            later = self.needed(commands) if repeated else None
            alike = later is not None and later.complete
            self._needed[key] = later if later is not None and alike else NeededWork(self.section(commands), later)
        return self._needed[key]

    def timed(self, acts: Acts, rank: int) -> list[Timed]:
        """Acts with what each takes alone, on a rank."""
        found = acts.timed.get(rank)
        if found is None:
            found = acts.timed[rank] = [self._time_of(act, rank) for act in acts.acts]
        return found

    def _time_of(self, act: Act, rank: int) -> Timed:
        if isinstance(act.command, Template):
            own = self.summary(act.command, rank)
            return act, act.stream, act.host, own.alone, own.behind_host, own.host
        return act, act.stream, act.host, self.alone(act.command, rank), -inf, 0.0

    def alone(self, command: Command, rank: int) -> float:
        """Time of a command on its stream with the whole node to itself."""
        if type(command) not in WORK:
            return 0.0
        key = (rank, id(command))  # commands live as long as the program; hashing their kernels is slow
        if key not in self._alone:
            self._alone[key] = self._time(command, rank)  # type: ignore[arg-type]
        return self._alone[key]

    def _time(self, command: BoundWork, rank: int) -> float:
        if isinstance(command, Compute):
            return self._durations.of_command(command)
        assert not isinstance(command, Template)
        load = self._own_load(command, rank)
        if not load:
            return 0.0
        slowest = self.fullest(load, self.fabric.rows)
        if isinstance(command, Copy):
            cap = self.fabric.copy_class(rank, command.direction, command.host_memory).cap
            slowest = max(slowest, command.bytes / cap)
            return self.fabric.values.number(self.scenario.node.wiring.pcie.latency) + slowest
        return self.fabric.latency(command.kind) + slowest

    def _own_load(self, command: Copy | Collective, rank: int) -> dict[int, float]:
        """Coefficient x bytes on each row of the fabric, of the transfers that a rank has a part in."""
        if isinstance(command, Copy):
            copy = self.fabric.copy_class(rank, command.direction, command.host_memory)
            return _loads([(copy, command.bytes)])
        kind, sent = command.kind, command.bytes
        group = self.program.groups.of(command.group, rank)
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
        groups = self.program.groups[command.group]
        chosen = [group for group in groups if len(group) > 1 and any(rank in group for rank in self.ranks)]
        return _loads((move[2], move[3]) for group in chosen for move in self._routes.transfers(command, group))

    def fullest(self, loads: dict[int, float], rows: Sequence[FabricConstraint]) -> float:
        """Seconds that the most loaded row needs."""
        return max((amount / rows[row].bound for row, amount in loads.items()), default=0.0)

    def loads(self, need: NeededWork, rank: int | None = None) -> dict[int, float]:
        """Coefficient x bytes on each row of one rank's transfers (None: all ranks'); empty without contention."""
        if not self.scenario.simulation.contention:
            return {}
        key = (id(need), rank)
        if key not in self._loads:
            self._loads[key] = self._add_loads(need.work, rank)
        return self._loads[key]

    def _add_loads(self, work: Mapping[Act, int], rank: int | None) -> dict[int, float]:
        total: dict[int, float] = {}
        for command, times in _moves(work):
            load = self._load(command, rank)
            for row, amount in load.items():
                total[row] = total.get(row, 0.0) + amount * times
        return total

    def _load(self, command: Copy | Collective, rank: int | None) -> dict[int, float]:
        """The load of one command; remembered by what matters of it."""
        if isinstance(command, Copy):
            key: Hashable = (rank, command.direction, command.bytes, command.host_memory)
        else:
            key = (rank, command.kind, command.bytes, command.group)
        if key not in self._single:
            self._single[key] = self._all_load(command) if rank is None else self._own_load(command, rank)
        return self._single[key]

    @property
    def rows(self) -> Sequence[FabricConstraint]:
        """The rows that carry the whole node's load."""
        return (self.folded or self.fabric).rows

    def link_time(self, need: NeededWork, rank: int | None = None) -> float:
        """Seconds of (c), over one rank's transfers (None: all ranks')."""
        return self.fullest(self.loads(need, rank), self.rows if rank is None else self.fabric.rows)


def _moves(work: Mapping[Act, int]) -> Iterator[tuple[Copy | Collective, int]]:
    """Copies and collectives with how often they occur, those of templates too."""
    for act, times in work.items():
        command = act.command
        for one in command.commands if isinstance(command, Template) else (command,):
            if isinstance(one, Collective) or isinstance(one, Copy):  # noqa: SIM101  (much faster than a union)
                yield one, times


def _loads(transfers: Iterable[FlowBytes]) -> dict[int, float]:
    """Coefficient x bytes of transfers, row by row."""
    load: dict[int, float] = {}
    for flow, bytes_ in transfers:
        for row, a in flow.usage:
            load[row] = load.get(row, 0.0) + a * bytes_
    return load
