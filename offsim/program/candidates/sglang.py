"""What of SGLang's offload modes is worth searching, and the flags that ask for it.

Flags as of September 2026 (sgl-project/sglang, python/sglang/multimodal_gen/runtime/server_args.py); older versions
of a mode need SGLang of that time. SGLang runs guidance's forwards one after the other or split over ranks, never
as a batch.
"""

from collections.abc import Iterator
from typing import Literal

from offsim.scenario.policy import FSDP, FullModel, Resident, SGLangLayerwise
from offsim.scenario.scenario import Scenario

from .recipe import Ladder, Recipe, runs

Version = Literal["v0", "v1", "v2"]
PREFETCH = (1, 2, 3, 4, 8)
WITH_RESIDENTS: tuple[tuple[Literal["leading", "strided"], int], ...] = (("leading", 1), ("strided", 1), ("strided", 2))
"""Residency and prefetch size: fetching further ahead takes the memory that residents make better use of."""
BACKGROUND_STEPS = (1, 2, 4)
SINCE = {"v0": "PR 15511, December 2025", "v1": "since January 2026", "v2": "since April 2026", "v3": "since July 2026"}
NO_OFFLOAD = "--dit-cpu-offload false --dit-layerwise-offload false"


def layerwise(scenario: Scenario) -> Iterator[Ladder]:
    """Of the latest version every prefetch size and residents of either kind; earlier ones as they were by default."""
    most = max(blocks.count for blocks in scenario.model.blocks)
    ahead = [size for size in PREFETCH if 2 * size <= most] or [1]
    yield from ((SGLangLayerwise(version="v3", prefetch=size),) for size in ahead)
    for residency, size in WITH_RESIDENTS:
        yield tuple(
            SGLangLayerwise(version="v3", prefetch=min(size, ahead[-1]), resident_layers=count, residency=residency)
            for count in range(1, most)
        )
    earlier: tuple[Version, ...] = ("v0", "v1", "v2")
    for version in earlier:
        yield (SGLangLayerwise(version=version, prefetch=1),)


def layerwise_flags(scenario: Scenario) -> Iterator[Recipe]:
    policy = scenario.policy
    assert isinstance(policy, SGLangLayerwise)
    if not policy.pinned or policy.hook_synchronize or policy.hook_cost:
        return
    flags = ["--dit-layerwise-offload true"]
    if policy.version != "v0":
        flags.append(f"--dit-offload-prefetch-size {policy.prefetch:g}")
    if policy.resident_layers:
        flags.append(f"--dit-layerwise-resident-layers {policy.resident_layers:g}")
        flags.append(f"--dit-layerwise-residency-policy {policy.residency}")
    yield from _recipe(scenario, SINCE[policy.version], *flags)


def full_model(scenario: Scenario) -> Iterator[Ladder]:
    """The swap of its first versions, the later one, which keeps pinned copies, and one in the background."""
    yield (FullModel(version="pageable"),)
    yield (FullModel(version="pinned"),)
    if scenario.model.experts > 1:
        yield from ((FullModel(version="pinned", background_steps=steps),) for steps in BACKGROUND_STEPS)


def full_model_flags(scenario: Scenario) -> Iterator[Recipe]:
    policy = scenario.policy
    assert isinstance(policy, FullModel)
    if policy.background_steps:
        return
    since = "until mid 2026" if policy.version == "pageable" else "since mid 2026"
    yield from _recipe(scenario, since, "--dit-cpu-offload true --dit-layerwise-offload false")


def fsdp(scenario: Scenario) -> Iterator[Ladder]:
    """FSDP's own prefetch, and one block more."""
    if scenario.workload.gpus > 1:
        yield (FSDP(prefetch=1),)
        yield (FSDP(prefetch=2),)


def fsdp_flags(scenario: Scenario) -> Iterator[Recipe]:
    policy = scenario.policy
    assert isinstance(policy, FSDP)
    if policy.prefetch == 1:
        yield from _recipe(scenario, "until mid 2026", "--use-fsdp-inference true --dit-cpu-offload true")


def resident(_: Scenario) -> Iterator[Ladder]:
    """Everything on the device, or the text encoder and the VAE only while they work."""
    yield (Resident(),)
    yield (Resident(text_encoder="sharded", vae="swap"),)


def resident_flags(scenario: Scenario) -> Iterator[Recipe]:
    yield from _recipe(scenario, "any", NO_OFFLOAD)


def _recipe(scenario: Scenario, since: str, *flags: str) -> Iterator[Recipe]:
    if scenario.workload.cfg_mode(scenario.model) != "batched" and runs("sglang", scenario):
        yield Recipe(f"SGLang ({since})", " ".join((*_layout(scenario), *flags, *_components(scenario))))


def _layout(scenario: Scenario) -> Iterator[str]:
    """How the GPUs of one request are used."""
    degree, split = scenario.ulysses, scenario.workload.cfg_mode(scenario.model) == "split"
    gpus = 2 * degree if split else degree
    if gpus > 1:
        yield f"--num-gpus {gpus} --ulysses-degree {degree}"
    if split:
        yield "--enable-cfg-parallel"


def _components(scenario: Scenario) -> Iterator[str]:
    """Where text encoder and VAE are while they don't work."""
    policy = scenario.policy
    for flag, placement in (("text-encoder", policy.text_encoder), ("vae", policy.vae)):
        yield f"--{flag}-cpu-offload {'false' if placement == 'resident' else 'true'}"
