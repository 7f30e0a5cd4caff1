"""`offsim best`: search everything that could run one scenario, and say what is best."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from os import cpu_count
from typing import NamedTuple, TypeVar

from rich.console import Console

from offsim.program.load import check_scenario, load_scenario
from offsim.program.ways import ways
from offsim.results.layout import GIB
from offsim.results.predict import Prediction, predict
from offsim.scenario.faults import ScenarioError
from offsim.scenario.scenario import RefusedScenario, Scenario

from ..panels import SAME
from ..progress import progress_bar
from ..workers import WorkerDied, Workers
from .search import search
from .space import Candidate, candidates, entries_of, with_vram

Piecewise = TypeVar("Piecewise")
FEW = 6
AHEAD = 4
"""Candidates that are timed at once for each processor: they take unequally long."""
WORTH_PROCESSES = 4
"""Parts from which on processes pay."""


class Answer(NamedTuple):
    """What a search comes to."""

    scenario: Scenario
    """The scenario as it was asked."""
    asked: Prediction | None
    """The prediction of that scenario; None if no real system would run it."""
    refused: str
    """Why no real system would run it as asked; empty if one would."""
    best: list[tuple[Candidate, Prediction]]
    """The best of each policy, of those that fit, the best first."""
    front: list[tuple[Candidate, float]]
    """Candidates, none of which rounds or has as little memory and time [s], from the least memory on."""
    considered: int
    lacking: int
    """Those that don't fit."""
    timed: int
    least: float = 0.0
    """The least device memory [bytes] that any of those needs which lack nothing else; 0 if none does."""

    @property
    def pruned(self) -> int:
        return self.considered - self.lacking - self.timed


def find_best(name: str, vram_gib: float | None, *, quiet: bool) -> Answer:
    """The answer for a scenario file or catalogue name; raises ScenarioError."""
    scenario = _loaded(name)
    if vram_gib is not None:
        scenario = with_vram(scenario, _checked(vram_gib, scenario) * GIB)
    try:
        return best_of(scenario, quiet=quiet)
    except WorkerDied:
        raise ScenarioError(
            f"{name}: a worker process died; it may have been killed for want of memory: close what else takes it"
        ) from None


def _loaded(name: str) -> Scenario:
    """The scenario, if it can be run in any way: with another policy or layout if not as asked."""
    try:
        return load_scenario(name)
    except RefusedScenario as refused:
        if not ways(refused.scenario):
            raise
        return refused.scenario


def _checked(vram_gib: float, scenario: Scenario) -> float:
    context = scenario.node.gpu.context.value / GIB
    if not context < vram_gib <= 10_000:
        raise ScenarioError(
            f"--vram={vram_gib:g}: expected GiB per GPU, above the {context:.2f} that the CUDA context takes and "
            "up to 10000"
        )
    return vram_gib


def best_of(scenario: Scenario, *, quiet: bool = True, console: Console | None = None) -> Answer:
    """Search all candidates of a scenario."""
    found: list[Candidate] = []
    with progress_bar("candidates", quiet=quiet, console=console) as progress:
        listing = progress.add_task("listing", total=None)
        parts = list(candidates(scenario))
        with _pool(len(parts)) as pool:
            for part in _all_at_once(pool, parts):
                found += part
                progress.update(listing, completed=len(found))
            progress.update(listing, total=len(found))
            fitting = [candidate for candidate in found if not candidate.lacks]
            timing = progress.add_task("timing or pruning", total=len(fitting))
            outcome = search(
                entries_of(fitting),
                lambda _: progress.advance(timing),
                lambda entries: list(_all_at_once(pool, [entry.time for entry in entries])),
                1 if pool is None else AHEAD * _workers(),
            )
    refused = _refusal(scenario)
    winners = worth_showing([(outcome.times[key[2]], fitting[key[2]]) for key in outcome.winners.values()])
    return Answer(
        scenario,
        None if refused else predict(scenario),
        refused,
        [(candidate, predict(candidate.scenario)) for candidate in winners[:FEW]],
        [(fitting[number], outcome.times[number]) for number in outcome.fronts.get("", [])],
        len(found),
        len(found) - len(fitting),
        len(outcome.times),
        min((candidate.memory for candidate in found if candidate.lacks == "device"), default=0.0),
    )


def _workers() -> int:
    return cpu_count() or 1


def _pool(parts: int) -> AbstractContextManager[Workers | None]:
    """All processors, where there are enough parts to make up for the start; else None."""
    return Workers(_workers()) if parts >= WORTH_PROCESSES and _workers() > 1 else nullcontext()


def _all_at_once(pool: Workers | None, parts: Sequence[Callable[[], Piecewise]]) -> Iterator[Piecewise]:
    """What each part comes to, in order; in the pool's processes, if there is one."""
    if pool is None:
        return (part() for part in parts)
    return pool.map(_work_out, parts)


def _work_out(part: Callable[[], Piecewise]) -> Piecewise:
    return part()


def _refusal(scenario: Scenario) -> str:
    try:
        check_scenario(scenario)
    except RefusedScenario as refused:
        return refused.reason
    return ""


def worth_showing(winners: Sequence[tuple[float, Candidate]]) -> list[Candidate]:
    """The winners of all groups, the fastest first; what needs rounding or a new system only where it is better."""
    shown: list[Candidate] = []
    for candidate in _in_order(winners):
        if not any(_makes_idle(other, candidate) for other in shown):
            shown.append(candidate)
    return shown


def _in_order(winners: Sequence[tuple[float, Candidate]]) -> Iterator[Candidate]:
    """By time; of those that nobody could tell from the fastest that is left, the same model comes first, then what a
    system offers, then the least memory."""
    left = sorted(winners, key=lambda winner: winner[0])
    while left:
        tied = [winner for winner in left if winner[0] <= left[0][0] * (1 + SAME)]
        left = left[len(tied) :]
        yield from sorted((candidate for _, candidate in tied), key=lambda one: (*_rank(one), one.memory))


def _rank(candidate: Candidate) -> tuple[bool, bool]:
    return bool(candidate.rounding), not candidate.launch_lines


def _makes_idle(earlier: Candidate, candidate: Candidate) -> bool:
    """Whether one that is as fast and takes as little memory needs less: no rounding, no system that isn't there."""
    as_good = _rank(earlier) <= _rank(candidate) and earlier.memory <= candidate.memory
    return as_good and (not candidate.launch_lines or _rank(earlier) < _rank(candidate))
