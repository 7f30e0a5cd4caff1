"""The engine against the one in tests/oracles that looks at everything again after each instant."""

from functools import partial

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.timeline import Timeline
from offsim.scenario.scenario import Scenario, Simulation
from tests.oracles.reference_engine import Reference
from tests.scenario_strategies import clockless, small_scenarios

WORK = ("compute", "H2D", "D2H", "collective")
SLOW = settings(max_examples=120, deadline=None, derandomize=True, phases=[Phase.generate])


def roomy(scenario: Scenario) -> Scenario:
    """The same with queues that never fill."""
    overheads = replace(scenario.node.host.overheads, queue_depth=100_000)
    return replace(scenario, node=scenario.node.with_overheads(overheads))


def ends(timeline: Timeline, rank: int) -> dict[str, list[float]]:
    """When each work of a rank ended, by stream."""
    found: dict[str, list[float]] = {}
    for span in sorted(timeline.shifted_spans(), key=lambda span: span.end):
        if span.rank == rank and span.kind in WORK and "engine" not in span.track:
            found.setdefault(span.track, []).append(span.end)
    return found


def assert_as_the_reference(scenario: Scenario, simulation: Simulation) -> None:
    scenario = roomy(scenario)
    program = build(scenario)
    reference = Reference(scenario, program).run()
    timeline = simulate(replace(scenario, simulation=simulation), program)
    for rank in timeline.represented:
        expected: dict[str, list[float]] = {}
        for stream, _, end in reference[rank].finished:
            expected.setdefault(stream, []).append(end)
        found = ends(timeline, rank)
        for stream, instants in expected.items():
            assert found.get(stream, []) == pytest.approx(sorted(instants), rel=1e-12, abs=1e-13), stream


@SLOW
@given(small_scenarios(node=clockless, most_blocks=3))
def test_a_full_run_ends_every_work_when_the_reference_does(scenario):
    assert_as_the_reference(scenario, Simulation(fold=False, steady_state=False, block_period=False))


@SLOW
@given(
    small_scenarios(
        count=st.sampled_from([2, 4]), node=partial(clockless, alike=True), unused_gpus=False, most_blocks=6
    )
)
def test_a_run_with_all_shortcuts_ends_every_work_when_the_reference_does(scenario):
    assert_as_the_reference(scenario, Simulation())
