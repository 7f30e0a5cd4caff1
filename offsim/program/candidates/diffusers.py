"""How diffusers is asked for what it offers; code for one GPU.

Left out: its context parallelism over several GPUs.
"""

from collections.abc import Iterator

from offsim.scenario.policy import Resident
from offsim.scenario.scenario import Scenario

from .recipe import Recipe, runs


def resident_code(scenario: Scenario) -> Iterator[Recipe]:
    policy = scenario.policy
    assert isinstance(policy, Resident)
    if policy == Resident():
        yield from recipe(scenario, 'pipe.to("cuda")')


def recipe(scenario: Scenario, code: str) -> Iterator[Recipe]:
    """The recipe, where the model's pipeline runs guidance as the workload has it."""
    mode = scenario.workload.cfg_mode(scenario.model)
    guided = mode == "none" or (mode == "batched") == runs("diffusers", scenario, "batched")
    if scenario.workload.gpus == 1 and mode != "split" and guided and runs("diffusers", scenario):
        yield Recipe("diffusers", code)
