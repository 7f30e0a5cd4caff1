"""What is worth searching: per policy its parameter values, and how a real system is asked for them.

A policy that is not in `SEARCHED` is searched with its parameters as they are by default, and no system is known
that offers it. Adding one takes a function that yields its ladders and one that yields its recipes, entered here.
Every candidate costs some 5 ms for every way to run the request: some tens of a policy, not hundreds.
"""

from collections.abc import Iterator
from typing import get_args

import msgspec

from offsim.scenario import policy as parameters
from offsim.scenario.scenario import Scenario

from .diffusers import (
    group,
    group_code,
    model_offload,
    model_offload_code,
    resident_code,
    sequential,
    sequential_code,
)
from .recipe import Ladder, Recipe, Searched
from .scheduled import rounding, scheduled, scheduled_flags
from .sglang import (
    fsdp,
    fsdp_flags,
    full_model,
    full_model_flags,
    layerwise,
    layerwise_flags,
    resident,
    resident_flags,
)

SEARCHED: dict[type, Searched] = {
    parameters.Resident: Searched(resident, (resident_flags, resident_code)),
    parameters.SGLangLayerwise: Searched(layerwise, (layerwise_flags,)),
    parameters.FullModel: Searched(full_model, (full_model_flags,)),
    parameters.FSDP: Searched(fsdp, (fsdp_flags,)),
    parameters.DiffusersGroup: Searched(group, (group_code,)),
    parameters.AccelerateModel: Searched(model_offload, (model_offload_code,)),
    parameters.AccelerateSequential: Searched(sequential, (sequential_code,)),
    parameters.ScheduledLayerwise: Searched(scheduled, (scheduled_flags,), rounding),
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


def rounding_of(policy: parameters.Policy) -> str:
    """How a policy changes what the model computes; empty if it doesn't."""
    searched = SEARCHED.get(type(policy))
    return "" if searched is None else searched.rounding(policy)
