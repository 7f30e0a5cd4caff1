"""`offsim best`: search everything that could run one scenario, and say what is best."""

from typing import NamedTuple

from rich.console import Console

from offsim.results.predict import Prediction, predict
from offsim.scenario.load import load_scenario
from offsim.scenario.scenario import Scenario, ScenarioError

from ..progress import progress_bar
from .search import search
from .space import Candidate, candidates, entries_of, with_vram

GIB = 2.0**30
FEW = 6


class Answer(NamedTuple):
    """What a search comes to."""

    asked: Prediction
    """The scenario itself."""
    best: list[tuple[Candidate, Prediction]]
    """The best of each policy, of those that fit, the best first."""
    front: list[tuple[Candidate, float]]
    """Candidates of which none has as little memory and time [s], from the least memory on."""
    considered: int
    lacking: int
    """Those that don't fit."""
    timed: int

    @property
    def pruned(self) -> int:
        return self.considered - self.lacking - self.timed


def find_best(name: str, vram_gib: float | None, *, quiet: bool) -> Answer:
    """The answer for a scenario file or catalogue name; raises ScenarioError."""
    scenario = load_scenario(name)
    if vram_gib is not None:
        scenario = with_vram(scenario, _checked(vram_gib, scenario) * GIB)
    return best_of(scenario, quiet=quiet)


def _checked(vram_gib: float, scenario: Scenario) -> float:
    context = scenario.node.gpu.context.value / GIB
    if not context < vram_gib <= 10_000:
        raise ScenarioError(
            f"--vram {vram_gib:g}: expected GiB per GPU, above the {context:.2f} that the CUDA context takes and "
            "up to 10000"
        )
    return vram_gib


def best_of(scenario: Scenario, *, quiet: bool = True, console: Console | None = None) -> Answer:
    """Search all candidates of a scenario."""
    with progress_bar("candidates", quiet=quiet, console=console) as progress:
        listing = progress.add_task("listing", total=None)
        found = []
        for candidate in candidates(scenario):
            found.append(candidate)
            progress.advance(listing)
        fitting = [candidate for candidate in found if not candidate.lacks]
        progress.update(listing, total=len(found))
        timing = progress.add_task("timing or pruning", total=len(fitting))
        outcome = search(entries_of(fitting), lambda _: progress.advance(timing))
    winners = _worth_showing([fitting[number] for number in outcome.winners.values()])
    return Answer(
        predict(scenario),
        [(candidate, predict(candidate.scenario)) for candidate in winners[:FEW]],
        [(fitting[number], outcome.times[number]) for number in outcome.front],
        len(found),
        len(found) - len(fitting),
        len(outcome.times),
    )


def _worth_showing(winners: list[Candidate]) -> list[Candidate]:
    """Without what no system offers where the same policy, as one offers it, comes before it."""
    shown: list[Candidate] = []
    for candidate in winners:
        if candidate.recipes or not any(other.policy == candidate.policy for other in shown):
            shown.append(candidate)
    return shown
