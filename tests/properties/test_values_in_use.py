"""What a prediction does not rest on does not change it, and what it rests on does not depend on shortcuts."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from offsim.program.load import check_scenario
from offsim.program.systems.accelerate_model import AccelerateModel
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.results.predict import Prediction, predict
from offsim.scenario.load import load_node
from offsim.scenario.node import Node
from offsim.scenario.node_values import node_values
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario
from tests.changed_nodes import changed_node, times, with_own_values
from tests.golden.tiny import tiny_scenario
from tests.scenario_strategies import FULL, simulations, small_scenarios
from tests.strategies import nodes

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
EXACT = 1e-9
ALIKE: dict[str, Any] = {"count": st.sampled_from([4, 2]), "node": partial(nodes, alike=True), "unused_gpus": False}
"""Ranks that topology makes the same: one of them is simulated."""
NODES = ("h100-sxm-x8", "h100-pcie-switch", "h200-x2-host-memory", "h200-x2-nvlink")
POLICIES: tuple[Policy, ...] = (
    Resident(),
    SGLangLayerwise(),
    SGLangLayerwise(pinned=False),
    FullModel(),
    FullModel(version="pinned", background_steps=1),
    ScheduledLayerwise(sharded=True, transfer_dtype="int8"),
    FSDP(),
    DiffusersGroup(),
    DiffusersGroup(stream=True),
    AccelerateModel(),
)


def answer(found: Prediction) -> list[Any]:
    """All times and bytes of a prediction, and what does not fit."""
    numbers = [found.lower_bound, *found.total_interval]
    for step, interval in zip(found.steps, found.intervals, strict=True):
        numbers += [step.duration, *step.losses, *interval]
    for phase in found.phases:
        numbers += [phase.allocated, phase.reserved, phase.pinned, phase.pageable]
    lack = found.out_of_memory
    return [pytest.approx(number, rel=EXACT, abs=1e-15) for number in numbers] + [None if lack is None else lack.where]


def plain(found: Prediction) -> list[Any]:
    """The same numbers, to be compared with those of another prediction."""
    return [getattr(number, "expected", number) for number in answer(found)]


def keys_in_use(found: Prediction) -> set[str]:
    return {key for key, _ in found.in_use}


def with_others(scenario: Scenario, keys: set[str]) -> Scenario:
    """Twice as large: all values that these keys name."""
    node = changed_node(scenario.node, lambda key, value: times(value, 2) if key in keys else value)
    return replace(scenario, node=node)


def all_keys(node: Node) -> set[str]:
    return {key for key, _ in node_values(node)}


def apart(scenario: Scenario) -> Scenario:
    """The same, on a node none of whose values is in two places."""
    return replace(scenario, node=with_own_values(scenario.node))


@QUICK
@given(small_scenarios(simulation=simulations).map(apart))
def test_what_a_prediction_does_not_rest_on_does_not_change_it(scenario):
    found = predict(scenario)
    others = all_keys(scenario.node) - keys_in_use(found)
    assert plain(predict(with_others(scenario, others))) == answer(found)


@QUICK
@given(st.one_of(small_scenarios(), small_scenarios(**ALIKE)).map(apart))
def test_a_prediction_rests_on_the_same_whatever_is_folded_or_left_out(scenario):
    short = replace(scenario, simulation=replace(FULL, fold=True, steady_state=True, block_period=True))
    assert keys_in_use(predict(short)) == keys_in_use(predict(scenario))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("name", NODES)
def test_no_single_value_that_a_prediction_does_not_rest_on_changes_it(name, policy):
    node = with_own_values(load_node(name))
    scenario = replace(tiny_scenario(policy, gpus=2, tokens=4096), node=node)
    check_scenario(scenario)
    found = predict(scenario)
    others = sorted(all_keys(node) - keys_in_use(found))
    assert len(others) > 2
    assert [key for key in others if plain(predict(with_others(scenario, {key}))) != answer(found)] == []
