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
from math import fsum, inf
from typing import TypeVar

from offsim.program.commands import (
    COMPUTE,
    Command,
    Copy,
    Record,
    StreamProgram,
    Synchronize,
    Template,
    Wait,
    stream_of,
)
from offsim.scenario.scenario import Scenario

from .alone import Alone, Coarse
from .needed import WORK, Work

Key = TypeVar("Key", str, int)


def lower_bounds(scenario: Scenario, program: StreamProgram) -> list[float]:
    """Per section, a duration [s] that its slowest rank cannot beat."""
    return [max(of_ranks) for of_ranks in zip(*_by_rank(Alone(scenario, program)), strict=True)]


def lower_bound(scenario: Scenario, program: StreamProgram) -> float:
    """Seconds that nothing can beat from the first begin of the first step to the last end of the last one.

    The largest of three: the steps' bounds added up on one rank (steps that are all closed or all open do not
    overlap; otherwise the path through all of them), and bounds (b) and (c) over all steps, which hold the copies
    that cross from a step to an equal next one.
    """
    node = Alone(scenario, program)
    steps = [i for i, section in enumerate(program.sections) if section.step is not None]
    kinds = {_closed(node.commands(i)) for i in steps}
    if len(kinds) == 1:
        times = max(sum(bounds[i] for i in steps) for bounds in _by_rank(node))
    else:
        commands = [command for i in steps for command in node.commands(i)]
        times = max(max(_path(node, rank, commands, host=0.0, compute=-inf)) for rank in node.ranks)
    runs = _runs(node, steps)
    serial = max(
        max(_over_runs(runs, node.needed, partial(node.busy, rank)).values(), default=0.0) for rank in node.ranks
    )
    loads = _over_runs(runs, node.needed, node.loads)
    return max(times, serial, node.fullest(loads, node.rows))


def compute_bound(scenario: Scenario, program: StreamProgram) -> float:
    """The same from the compute stream alone: cheap, and close where copies hide.

    Steps that end with its synchronisation, and those that don't, hold what they issue on it one after the other.
    """
    node = Alone(scenario, program)
    runs = _runs(node, [i for i, section in enumerate(program.sections) if section.step is not None])
    return max(fsum(times * _all_on_compute(node, rank, commands) for commands, times in runs) for rank in node.ranks)


def _all_on_compute(node: Alone, rank: int, commands: list[Coarse]) -> float:
    """Seconds of what these commands put on the compute stream, one after the other."""
    return fsum(_on_compute(node, rank, command) for command in commands)


def _on_compute(node: Alone, rank: int, command: Coarse) -> float:
    if isinstance(command, Template):
        return node.summary(command, rank).alone
    return node.alone(command, rank) if stream_of(command) == COMPUTE else 0.0


Runs = list[tuple[list[Coarse], int]]


def _runs(node: Alone, steps: list[int]) -> Runs:
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


def _by_rank(node: Alone) -> Iterator[list[float]]:
    """Bounds of every section, rank by rank."""
    sections = [node.commands(i) for i in range(len(node.program.sections))]
    distinct = {id(commands): commands for commands in sections}
    for rank in node.ranks:
        bounds = {key: _section(node, rank, commands) for key, commands in distinct.items()}
        yield [bounds[id(commands)] for commands in sections]


def _section(node: Alone, rank: int, commands: Sequence[Coarse]) -> float:
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


def _path(node: Alone, rank: int, commands: Iterable[Coarse], *, host: float, compute: float) -> tuple[float, float]:
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


def _serial(node: Alone, rank: int, commands: Sequence[Coarse]) -> float:
    """(b): the busiest stream or engine, over the needed commands."""
    return max(node.busy(rank, node.needed(commands)).values(), default=0.0)
