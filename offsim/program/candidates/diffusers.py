"""What of diffusers' and accelerate's offloading is worth searching, and the code that asks for it, on one GPU.

Kernels are the scenario's: workload.kernels = "eager" is what the library runs, and what leaf level needs.

Left out: its context parallelism over several GPUs.
"""

from collections.abc import Iterator

from offsim.scenario.policy import AccelerateModel, AccelerateSequential, DiffusersGroup, Resident
from offsim.scenario.scenario import Scenario

from .recipe import Ladder, Recipe, runs


def resident_code(scenario: Scenario) -> Iterator[Recipe]:
    policy = scenario.policy
    assert isinstance(policy, Resident)
    if policy == Resident():
        yield from recipe(scenario, 'pipe.to("cuda")')


def group(scenario: Scenario) -> Iterator[Ladder]:
    """Both levels, with a stream and what it can be told, or without in groups of blocks."""
    if scenario.workload.gpus > 1:
        return
    most = max(blocks.count for blocks in scenario.model.blocks)
    yield tuple(DiffusersGroup(num_blocks_per_group=count) for count in range(1, most + 1))
    yield (DiffusersGroup(stream=True),)
    yield (DiffusersGroup(stream=True, record_stream=True),)
    yield (DiffusersGroup(stream=True, low_cpu_mem_usage=True),)
    yield (DiffusersGroup(level="leaf"),)
    yield (DiffusersGroup(level="leaf", stream=True),)
    yield (DiffusersGroup(level="leaf", stream=True, record_stream=True),)


def group_code(scenario: Scenario) -> Iterator[Recipe]:
    policy = scenario.policy
    assert isinstance(policy, DiffusersGroup)
    words = ['onload_device=torch.device("cuda")', f'offload_type="{policy.level}_level"']
    if policy.level == "block":
        words.append(f"num_blocks_per_group={policy.num_blocks_per_group}")
    words += [f"{option}=True" for option, on in _options(policy) if on]
    parts = ("transformer", "transformer_2")[: scenario.model.experts]
    yield from recipe(scenario, "; ".join(f"pipe.{part}.enable_group_offload({', '.join(words)})" for part in parts))


def _options(policy: DiffusersGroup) -> Iterator[tuple[str, bool]]:
    yield "use_stream", policy.stream
    yield "record_stream", policy.record_stream
    yield "low_cpu_mem_usage", policy.low_cpu_mem_usage


def model_offload(scenario: Scenario) -> Iterator[Ladder]:
    """One component at a time."""
    if scenario.workload.gpus == 1:
        yield (AccelerateModel(),)


def model_offload_code(scenario: Scenario) -> Iterator[Recipe]:
    yield from recipe(scenario, "pipe.enable_model_cpu_offload()")


def sequential(scenario: Scenario) -> Iterator[Ladder]:
    """One module at a time."""
    if scenario.workload.gpus == 1:
        yield (AccelerateSequential(),)


def sequential_code(scenario: Scenario) -> Iterator[Recipe]:
    yield from recipe(scenario, "pipe.enable_sequential_cpu_offload()")


def recipe(scenario: Scenario, code: str) -> Iterator[Recipe]:
    """The recipe, where the model's pipeline runs guidance as the workload has it."""
    mode = scenario.workload.cfg_mode(scenario.model)
    guided = mode == "none" or (mode == "batched") == runs("diffusers", scenario, "batched")
    if scenario.workload.gpus == 1 and mode != "split" and guided and runs("diffusers", scenario):
        yield Recipe("diffusers", code)
