"""What a step waited for adds up to what its losses say, for every way of waiting."""

import pytest

from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.results.predict import predict
from tests.golden.tiny import library_scenario, tiny_scenario

SCENARIOS = {
    "a stream waits for copies": tiny_scenario(SGLangLayerwise()),
    "and for collectives": tiny_scenario(FSDP(), gpus=2),
    "the host waits for copies": library_scenario(DiffusersGroup(level="leaf", stream=True)),
    "the compute stream copies": library_scenario(DiffusersGroup()),
    "whole experts move at the switch": tiny_scenario(FullModel()),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_waits_add_up_to_exposed_copies_and_collectives_and_host_time(name):
    prediction = predict(SCENARIOS[name])
    for step in prediction.steps:
        found = prediction.waits(step.index)
        losses = step.losses
        assert sum(found.values()) == pytest.approx(
            losses.exposed_copy + losses.exposed_collective + losses.host_bound, rel=1e-9
        )
        copies = sum(seconds for what, seconds in found.items() if what[:3] in ("H2D", "D2H"))
        assert copies == pytest.approx(losses.exposed_copy, rel=1e-9)


def test_the_weights_outside_the_blocks_are_named_as_what_a_forward_waits_for():
    """With a stream at block level, they alone go through pageable memory, in and out."""
    found = predict(library_scenario(DiffusersGroup(stream=True))).waits(2)
    assert {"H2D: transformer other in", "D2H: transformer other out"} <= set(found)
