"""Run a stream program on a node: the simulation itself."""

from offsim.program.build import build
from offsim.program.commands import StreamProgram
from offsim.program.timeline import Timeline
from offsim.scenario.scenario import Scenario

from .agenda import Agenda
from .collective import CollectivesInFlight, FabricRoutes
from .environment import PromptEnvironment
from .garbage import no_garbage_collection
from .host import HostThread
from .left_out import CaughtUpLateError
from .network import Network
from .prepared import Prepared
from .rank import Rank
from .steady_state import SteadyState
from .watch import Watch


class DeadlockError(Exception):
    """Nothing can go on: says for each stream and host thread what it waits for."""


def simulate(
    scenario: Scenario,
    program: StreamProgram | None = None,
    *,
    proportional_weight: bool = False,
    prepared: Prepared | None = None,
    watch: Watch | None = None,
) -> Timeline:
    """The timeline of a scenario's program; raises DeadlockError if it cannot finish, ScenarioError if it is too long.

    `proportional_weight` takes a collective's weight against copies as growing with its peers: the other end of what
    is known beyond two ranks. `prepared` is shared by runs of one program of one scenario. `watch` may be asked
    meanwhile, by another thread, how far the run has come.
    """
    program = prepared.program if prepared is not None else program or build(scenario)
    prepared = prepared or Prepared(scenario, program)
    watch = watch or Watch()
    # The collector would walk the growing record again and again: 30 % of a long run.
    with no_garbage_collection():
        if scenario.simulation.block_period:
            try:
                return _run(scenario, prepared, watch, proportional_weight=proportional_weight, skip_blocks=True)
            except CaughtUpLateError:
                pass  # Skipping blocks was not exact here: the host is too slow for it.
        return _run(scenario, prepared, watch, proportional_weight=proportional_weight, skip_blocks=False)


def _run(
    scenario: Scenario, prepared: Prepared, watch: Watch, *, proportional_weight: bool, skip_blocks: bool
) -> Timeline:
    """One run on a node that it sets up."""
    program, plans = prepared.program, prepared.plans
    agenda = Agenda()
    env = PromptEnvironment(agenda)
    fabric = prepared.fabric(proportional_weight=proportional_weight)
    aggregated = scenario.simulation.collective_form == "aggregated"
    folds = scenario.simulation.fold and not aggregated
    folded = prepared.folded(proportional_weight=proportional_weight) if folds else None
    used = folded or fabric
    network = Network(agenda, used.rows, contention=scenario.simulation.contention, values=prepared.values)
    routes = folded or FabricRoutes(fabric, aggregated=aggregated)
    collectives = CollectivesInFlight(agenda, network, routes)
    represented = dict.fromkeys(range(program.ranks), 1) if folded is None else folded.represented
    simulated = sorted(represented)
    timeline = Timeline(program.ranks, {rank: represented[rank] for rank in simulated})
    hosts = []
    for index in simulated:
        rank = Rank(env, index, prepared, used, network, collectives, timeline)
        _join_groups(rank, program, simulated)
        hosts.append(HostThread(env, rank, program, plans, scenario.node.host.overheads.queue_depth))
    steps = scenario.simulation.steady_state
    watch.begin(hosts, len(hosts) * plans.commands(program))
    if steps or skip_blocks:
        steady = SteadyState(program, network, timeline, hosts, steps=steps, blocks=skip_blocks)
        hosts[0].rank.at_mark = steady.at_mark
        if len(hosts) == 1:
            hosts[0].at_begin = steady.at_begin
    env.run()
    _check_finished(hosts)
    for host in hosts:
        host.finish()
    watch.end()
    timeline.capacities = {row.name: row.bound for row in used.rows}
    return timeline


def _join_groups(rank: Rank, program: StreamProgram, simulated: list[int]) -> None:
    rank.groups = {name: program.groups.of(name, rank.index) for name in program.groups.names}
    rank.members = {name: tuple(r for r in group if r in simulated) for name, group in rank.groups.items()}


def _check_finished(hosts: list[HostThread]) -> None:
    """Every host thread has issued everything and every stream is empty, or a DeadlockError says why not."""
    stuck = []
    for host in hosts:
        if host.process.is_alive:
            waits = host.awaiting if isinstance(host.awaiting, str) else repr(host.awaiting)
            stuck.append(f"rank {host.rank.index} host: waits for {waits}")
        stuck += [
            f"rank {host.rank.index} stream {stream.name!r}: head {stream.head!r} waits for {_words(stream.awaiting)}"
            for stream in host.rank.streams.values()
            if not stream.idle
        ]
    if stuck:
        raise DeadlockError("the program cannot finish:\n  " + "\n  ".join(stuck))


def _words(awaiting: tuple[object, ...]) -> str:
    """What a stream waits for."""
    return str(awaiting[0]).format(*awaiting[1:]) if awaiting else "its turn"
