"""Lower bounds on a program's durations, without a clock: what no schedule on this node can beat.

A duration is what a section's row shows: host clock from begin to end if the section ends with a synchronisation
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

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from math import fsum, inf
from typing import Protocol, TypeVar

from offsim.program.commands import COMPUTE, Command, Section, StreamProgram, Synchronize
from offsim.program.passages import Template, coarse, passages_of, stream_of
from offsim.program.uses import DENOISING, UseKind
from offsim.scenario.scenario import Scenario

from .acts import Act, Acts, PassageInSection
from .alone import Alone
from .needed import NeededWork
from .part_plan import PlaceInPart
from .prepared import Prepared

StreamOrLink = TypeVar("StreamOrLink", str, int)


def lower_bounds(scenario: Scenario, program: StreamProgram) -> list[float]:
    """A duration [s] for each section that its slowest rank cannot beat."""
    return [
        max(of_ranks) for of_ranks in zip(*_by_rank(Alone(Prepared(scenario, program)), program.sections), strict=True)
    ]


def lower_bound(
    scenario: Scenario,
    program: StreamProgram,
    prepared: Prepared | None = None,
    kinds: Collection[UseKind] = DENOISING,
) -> float:
    """Seconds that nothing can beat from the first begin to the last end of the uses of these kinds.

    They are the denoising steps, unless told otherwise, and follow one another. The largest of three: the bounds of
    their sections added up on one rank (sections that are all closed or all open do not overlap; otherwise the path
    through all of them), and bounds (b) and (c) over all of them, which hold the copies that cross from a section to
    an equal next one. `prepared`: what runs of this program have left, if there were any.
    """
    node = Alone(prepared or Prepared(scenario, program))
    sections = [program.sections[number] for number in program.numbers_of(kinds)]
    of_sections = [section.commands for section in sections]
    if len({_closed(commands) for commands in of_sections}) == 1:
        times = max(map(sum, _by_rank(node, sections)))
    else:
        times = max(max(_Path(node, rank, host=0.0, compute=-inf).through(of_sections)) for rank in node.ranks)
    runs = _runs(of_sections)
    serial = max(
        max(_over_runs(runs, node.needed, partial(node.busy, rank)).values(), default=0.0) for rank in node.ranks
    )
    loads = _over_runs(runs, node.needed, node.loads)
    return max(times, serial, node.fullest(loads, node.rows))


def compute_bound(scenario: Scenario, program: StreamProgram, kinds: Collection[UseKind] = DENOISING) -> float:
    """A lower bound from the compute stream alone, as `lower_bound` but cheap, and close where copies hide.

    Sections that end with its synchronisation, and those that don't, hold what they issue on it one after the other.
    """
    node = Alone(Prepared(scenario, program))
    runs = _runs(program.sections[number].commands for number in program.numbers_of(kinds))
    return max(fsum(times * _all_on_compute(node, rank, commands) for commands, times in runs) for rank in node.ranks)


def _all_on_compute(node: Alone, rank: int, commands: Sequence[Command]) -> float:
    """Seconds of what these commands put on the compute stream, one after the other."""
    return fsum(_on_compute(node, rank, command) for command in coarse(commands))


def _on_compute(node: Alone, rank: int, command: Command | Template) -> float:
    if isinstance(command, Template):
        return node.summary(command, rank).alone
    return node.alone(command, rank) if stream_of(command) == COMPUTE else 0.0


Runs = list[tuple[Sequence[Command], int]]


def _runs(sections: Iterable[Sequence[Command]]) -> Runs:
    """Consecutive equal sections as (commands, how many)."""
    runs: Runs = []
    for commands in sections:
        if runs and runs[-1][0] is commands:
            runs[-1] = (commands, runs[-1][1] + 1)
        else:
            runs.append((commands, 1))
    return runs


class Needed(Protocol):
    """What the end of a section needs of it: see `Alone.needed`."""

    def __call__(self, commands: Sequence[Command], *, repeated: bool = False) -> NeededWork: ...


def _over_runs(
    runs: Runs, needed: Needed, amounts: "Callable[[NeededWork], dict[StreamOrLink, float]]"
) -> dict[StreamOrLink, float]:
    """Amounts of needed work over all sections.

    A section needs what its own end depends on, and, before an equal one, what that one depends on too.
    """
    total: dict[StreamOrLink, float] = {}
    for commands, times in runs:
        needs = [(needed(commands), 1)]
        if times > 1:
            needs.append((needed(commands, repeated=True), times - 1))
        for need, number in needs:
            for key, amount in amounts(need).items():
                total[key] = total.get(key, 0.0) + number * amount
    return total


def _by_rank(node: Alone, sections: Sequence[Section]) -> Iterator[list[float]]:
    """Bounds of these sections, rank by rank."""
    distinct = {id(section.commands): section.commands for section in sections}
    for rank in node.ranks:
        bounds = {key: _section(node, rank, commands) for key, commands in distinct.items()}
        yield [bounds[id(section.commands)] for section in sections]


def _section(node: Alone, rank: int, commands: Sequence[Command]) -> float:
    if not _closed(commands):
        return max(0.0, _Path(node, rank, host=-inf, compute=0.0).through([commands])[1])
    need = node.needed(commands)
    # Ranks that differ need not be in the same step at the same time: each has its own transfers only.
    links = node.link_time(need, None if node.alike else rank)
    path, _ = _Path(node, rank, host=0.0, compute=-inf).through([commands])
    return max(path, max(node.busy(rank, need).values(), default=0.0), links)


def _closed(commands: Sequence[Command]) -> bool:
    """Whether the section ends with a synchronisation of the compute stream."""
    passages = passages_of(commands)
    last = [command for part in passages[-1][-1:] for command in part.commands()][-1:] if passages else []
    return last in ([Synchronize("device")], [Synchronize("stream", COMPUTE)])


class _Path:
    """(a): when the host and the streams are through, if the host and the compute stream begin at given instants."""

    def __init__(self, node: Alone, rank: int, *, host: float, compute: float) -> None:
        self._node, self._rank = node, rank
        self._host = host
        self._tails = {COMPUTE: compute}
        self._events: dict[str, float] = {}
        """When events of earlier sections were recorded."""

    def through(self, sections: Iterable[Sequence[Command]]) -> tuple[float, float]:
        """When the host and the compute stream have done these sections one after the other."""
        for commands in sections:
            section = self._node.section(commands)
            reached: dict[PlaceInPart, float] = {}
            for passage in section.passages:
                for acts, begins in passage.stretches:
                    self._part(passage, acts, begins, reached)
            self._events.update({event: reached[place] for event, place in section.recorded.items()})
        return self._host, self._tails[COMPUTE]

    def _part(
        self, passage: PassageInSection, acts: Acts, begins: dict[str, int], reached: dict[PlaceInPart, float]
    ) -> None:
        tails, host = self._tails, self._host
        for act, stream, issue, seconds, behind, rest in self._node.timed(acts, self._rank):
            host += issue
            if not stream:
                host = max(host, self._synchronized(passage, begins, act, reached))
                continue
            tail = tails.get(stream, -inf)
            start = tail if tail > host else host
            if act.is_wait and act.awaited is not None:
                start = max(start, self._fired(passage.awaited(begins, act.awaited), reached))
            elif act.is_record:
                reached[stream, passage.before(begins, stream) + act.place] = start
            tails[stream] = max(start + seconds, host + behind)
            host += rest
            if act.blocks:
                host = max(host, tails[stream])
        self._host = host + acts.rest

    def _fired(self, place: PlaceInPart | str, reached: dict[PlaceInPart, float]) -> float:
        """When an event was reached; -inf if it was recorded before everything."""
        return self._events.get(place, -inf) if isinstance(place, str) else reached[place]

    def _synchronized(
        self, passage: PassageInSection, begins: dict[str, int], act: Act, reached: dict[PlaceInPart, float]
    ) -> float:
        """When what the host waits for has happened; -inf if it waits for nothing."""
        command = act.command
        if act.awaited is not None:
            return self._fired(passage.awaited(begins, act.awaited), reached)
        if isinstance(command, Synchronize) and command.scope == "device":
            return max(self._tails.values())
        return self._tails.get(command.target, -inf) if isinstance(command, Synchronize) else -inf
