"""What is worth searching: per policy its parameter values, and how a real system is asked for them.

A policy that is not in `SEARCHED` is searched with its parameters as they are by default, and no system is known
that offers it. Adding one takes a function that yields its ladders and one that yields its recipes, entered here.
"""

from collections.abc import Iterator
from typing import get_args

import msgspec

from offsim.scenario import policy as parameters
from offsim.scenario.scenario import Scenario

from . import diffusers, sglang
from .recipe import Ladder, Recipe, Searched

SEARCHED: dict[type, Searched] = {
    parameters.Resident: Searched(sglang.resident, (sglang.resident_recipes, diffusers.resident_recipes)),
    parameters.SGLangLayerwise: Searched(sglang.layerwise, (sglang.layerwise_recipes,)),
    parameters.FullModel: Searched(sglang.full_model, (sglang.full_model_recipes,)),
    parameters.FSDP: Searched(sglang.fsdp, (sglang.fsdp_recipes,)),
}


def ladders(scenario: Scenario) -> Iterator[Ladder]:
    """Every policy worth searching for this model, workload and node; what it can't run is among them."""
    for kind in get_args(parameters.Policy):
        if kind in SEARCHED:
            yield from SEARCHED[kind].ladders(scenario)
        else:
            yield (msgspec.convert({"name": kind.__struct_config__.tag}, kind),)


def recipes(scenario: Scenario) -> tuple[Recipe, ...]:
    """How real systems are asked for a scenario's policy and workload; empty if none is known to offer it."""
    searched = SEARCHED.get(type(scenario.policy))
    return () if searched is None else tuple(recipe for of in searched.recipes for recipe in of(scenario))
