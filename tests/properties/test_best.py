"""The search of `best` against timing every candidate: pruning by lower bounds never loses a winner."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offsim.engine.bounds import compute_bound, lower_bound
from offsim.program.build import build
from offsim.scenario.scenario import Scenario, Simulation
from offsim.sweep.best.search import Scale, SearchEntry, SearchKey, search
from offsim.sweep.best.space import Candidate, candidates, entries_of, time_of
from tests.scenario_strategies import small_scenarios


class Best(NamedTuple):
    winners: dict[Hashable, int]
    on_fronts: set[int]


def by_timing_everything(entries: Sequence[SearchEntry]) -> Best:
    """The definition, word for word: no bound is used but for the scale's origin."""
    scale = Scale(min(entry.bounds[0]() for entry in entries))
    keys = [(scale.steps(entry.time()), entry.memory, number) for number, entry in enumerate(entries)]
    winners: dict[Hashable, SearchKey] = {}
    for entry, key in zip(entries, keys, strict=True):
        winners[entry.group] = min(key, winners.get(entry.group, key))
    on_fronts = {
        ours[2]
        for ours, entry in zip(keys, entries, strict=True)
        if not any(
            other < ours and other[0] <= ours[0] and other[1] <= ours[1] and entries[other[2]].model == entry.model
            for other in keys
        )
    }
    return Best({group: key[2] for group, key in winners.items()}, on_fronts)


def found_by_search(entries: Sequence[SearchEntry]) -> Best:
    outcome = search(entries)
    assert outcome.pruned + len(outcome.times) == len(entries)
    on_fronts = {number for front in outcome.fronts.values() for number in front}
    return Best({group: key[2] for group, key in outcome.winners.items()}, on_fronts)


@st.composite
def listed(draw: st.DrawFn) -> list[SearchEntry]:
    """Candidates with few different values, so that ties of every kind occur; bounds from loose to exact."""
    found = []
    for _ in range(draw(st.integers(1, 12))):
        time = draw(st.sampled_from([1.0, 1.002, 1.0051, 1.01, 1.5, 2.0, 2.009, 9.0]))
        later = time * draw(st.sampled_from([1.0, 0.999, 0.9, 0.5]))
        first = later * draw(st.sampled_from([1.0, 0.999, 0.7]))
        group, model = draw(st.sampled_from(["ax", "bx", "by"]))
        found.append(entry(group, model, float(draw(st.integers(1, 4))), (first, later), time))
    return found


def entry(group: str, model: str, memory: float, bounds: tuple[float, float], time: float) -> SearchEntry:
    return SearchEntry(group, model, memory, tuple((lambda bound=bound: bound) for bound in bounds), lambda: time)


@settings(max_examples=1000)
@given(listed())
def test_pruning_finds_what_timing_everything_finds(entries):
    assert found_by_search(entries) == by_timing_everything(entries)


shortcuts = small_scenarios(simulation=st.just(Simulation()), most_blocks=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shortcuts)
def test_on_real_scenarios_too(scenario):
    entries = entries_of([candidate for candidate in all_candidates(scenario) if not candidate.lacks])
    if entries:
        assert found_by_search(entries) == by_timing_everything(entries)


def all_candidates(scenario: Scenario) -> list[Candidate]:
    return [candidate for part in candidates(scenario) for candidate in part()]


@settings(max_examples=100, deadline=None)
@given(shortcuts)
def test_no_program_is_faster_than_either_bound(scenario):
    program = build(scenario)
    time = time_of(scenario) * (1 + 1e-9)
    assert 0 < compute_bound(scenario, program) <= time
    assert lower_bound(scenario, program) <= time


def test_a_bad_bound_would_be_noticed():
    """The oracle has teeth: with a bound above the time, the search loses the faster one."""
    entries = [entry("a", "x", 1.0, (1.0, 1.0), 1.0), entry("a", "x", 2.0, (0.5, 3.0), 0.5)]
    assert found_by_search(entries) != by_timing_everything(entries)
