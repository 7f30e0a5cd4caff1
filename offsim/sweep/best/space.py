"""What is searched for one scenario: every way to run its request, with every policy and parameter worth it.

Of a ladder (policies in order of growing device memory) `RUNGS` evenly spaced ones that fit are candidates, and the
last one that fits.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from offsim.engine.bounds import compute_bound, lower_bound
from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.load import check_scenario
from offsim.program.offloading.page import Ladder, LaunchLine
from offsim.program.pages import ladders, launch_lines, rounding_of
from offsim.program.timeline import Timeline
from offsim.program.ways import ways
from offsim.results.memory import out_of_memory, phase_peaks
from offsim.scenario.policy import Policy
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import RefusedScenario, Scenario

from .search import SearchEntry

RUNGS = 8


class Candidate(NamedTuple):
    """A scenario that may be the answer."""

    scenario: Scenario
    change: str
    """What of the workload differs from what was asked."""
    memory: float
    """Peak of allocated device memory [bytes]."""
    lacks: str
    """Which memory it lacks: device, host, or empty."""
    bound: float
    """The cheapest lower bound of its denoising time [s]."""
    launch_lines: tuple[LaunchLine, ...]
    rounding: str
    """How it changes what the model computes; empty if it doesn't."""

    @property
    def policy(self) -> str:
        """The policy's name."""
        return self.scenario.policy.tag

    @property
    def changes(self) -> str:
        """What differs from what was asked, besides the policy."""
        return "; ".join(part for part in (self.change, self.rounding) if part)


def with_vram(scenario: Scenario, vram: float) -> Scenario:
    """The scenario on GPUs with so much memory [bytes]."""
    gpu = scenario.node.gpu
    memory = Quantity(vram, "given", "--vram")
    return replace(scenario, node=replace(scenario.node, gpu=replace(gpu, memory=memory)))


def candidates(scenario: Scenario) -> Iterator[Callable[[], list[Candidate]]]:
    """Everything that could run, whether it fits or not, in parts that can be worked out apart.

    The scenario as it was asked comes last.
    """
    for way, change in ways(scenario):
        yield partial(of_way, way, change)
    yield partial(of_policy, scenario, "", scenario.policy)


def of_way(scenario: Scenario, change: str) -> list[Candidate]:
    """Every policy worth it for one layout of the request."""
    return [found for ladder in ladders(scenario) for found in _rungs(scenario, change, ladder)]


def _rungs(scenario: Scenario, change: str, ladder: Ladder) -> Iterator[Candidate]:
    """Evenly spaced rungs up to the first that doesn't fit, and the last one that does."""
    places = _spaced(len(ladder))
    fitting = -1
    for place in places:
        found = of_policy(scenario, change, ladder[place])
        yield from found
        if found and found[0].lacks:
            yield from _last_fitting(scenario, change, ladder[fitting + 1 : place])
            return
        fitting = place


def _spaced(count: int) -> list[int]:
    steps = min(count - 1, RUNGS - 1)
    return [round(i * (count - 1) / steps) for i in range(steps + 1)] if steps else [0]


def _last_fitting(scenario: Scenario, change: str, between: Ladder) -> Iterator[Candidate]:
    """The last rung that fits of those between one that does and one that doesn't."""
    last: list[Candidate] = []
    low, high = 0, len(between)
    while low < high:
        middle = (low + high) // 2
        found = of_policy(scenario, change, between[middle])
        if not found or found[0].lacks:
            high = middle
        else:
            low, last = middle + 1, found
    yield from last


def of_policy(scenario: Scenario, change: str, policy: Policy) -> list[Candidate]:
    """A policy's candidate with its memory; none if no real system would run it."""
    found = replace(scenario, policy=policy)
    try:
        check_scenario(found)
    except RefusedScenario:
        return []
    program = build(found)
    peaks = phase_peaks(found, program)
    lack = out_of_memory(found, peaks)
    bound = 0.0 if lack else compute_bound(found, program)
    memory = max(peak.allocated for peak in peaks)
    where = lack.where if lack else ""
    return [Candidate(found, change, memory, where, bound, launch_lines(found), rounding_of(policy))]


def entry_of(candidate: Candidate) -> SearchEntry:
    """A candidate as the search sees it: wanted is the best of each policy, with and without a system and rounding."""
    scenario = candidate.scenario
    return SearchEntry(
        group=(candidate.policy, bool(candidate.launch_lines), candidate.rounding),
        model=candidate.rounding,
        memory=candidate.memory,
        bounds=(lambda: candidate.bound, lambda: lower_bound(scenario, build(scenario))),
        time=partial(time_of, scenario),
    )


def entries_of(found: Sequence[Candidate]) -> list[SearchEntry]:
    return [entry_of(candidate) for candidate in found]


def time_of(scenario: Scenario) -> float:
    """Denoising time of a timeline [s]: the sum of the steps, each as its slowest rank saw it."""
    program = build(scenario)
    timeline = simulate(scenario, program)
    return sum(_slowest(timeline, timeline.recorded_section(number)) for number in program.numbers_of())


def _slowest(timeline: Timeline, section: int) -> float:
    return max(timeline.step_seconds(rank, section) for rank in timeline.represented)
