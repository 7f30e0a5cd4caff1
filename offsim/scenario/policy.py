"""Which offload policy runs, and with which parameters.

One struct per real system's policy; the programs they issue are in `offsim.program.policies`. Sources of the
semantics are given there.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .units import Seconds

Placement = Literal["resident", "swap", "sharded"]
"""resident: always on the device. swap: moved in for its phase and out again. sharded: streamed by layer."""


Placing = Literal["block-start", "after-first-all-to-all", "after-attention", "after-all-to-alls", "spread", "gated"]


class Resident(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="resident"):
    """Every weight of every component stays on the device."""

    text_encoder: Placement = "resident"
    vae: Placement = "resident"


class SGLangLayerwise(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="sglang-layerwise"):
    """SGLang's --dit-layerwise-offload."""

    version: Literal["v0", "v1", "v2", "v3"] = "v2"
    """v0: PR 15511 (Dec 2025), v1: PR 17693 (Jan 2026), v2: Apr 2026, v3: Jul 2026."""
    prefetch: Annotated[int, Meta(ge=0, le=1000)] | Annotated[float, Meta(ge=0, le=1000)] = 0.0
    """--dit-offload-prefetch-size: below 1 a share of the blocks, from 1 on a count (1.0 is one block)."""
    resident_layers: Annotated[int, Meta(ge=0, le=1000)] | Annotated[float, Meta(ge=0, lt=1)] = 0
    """--dit-layerwise-resident-layers: count, or share below 1 (v3 only)."""
    residency: Literal["leading", "strided"] = "leading"
    pinned: bool = True
    hook_synchronize: bool = False
    """Block the host on the compute stream in every hook: not what SGLang does; for ablations."""
    hook_cost: Seconds = 0.0
    """Extra host time of every hook (graph breaks, allocator): for ablations."""
    text_encoder: Placement = "sharded"
    vae: Placement = "swap"

    def __post_init__(self) -> None:
        if self.prefetch > 1 and self.prefetch != int(self.prefetch):
            raise ValueError(f"prefetch={self.prefetch}: expected a share below 1 or a count of blocks")


class FullModel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="full-model"):
    """SGLang's --dit-cpu-offload: whole experts move at the switch."""

    version: Literal["pageable", "pinned"] = "pageable"
    """pageable: D2H into fresh pageable memory, then H2D, blocking. pinned: later, H2D only, asynchronous."""
    background_steps: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Over so many steps before the switch the next expert comes in pieces, while both are on the device: no system
    offers it (pinned only)."""
    text_encoder: Placement = "sharded"
    vae: Placement = "swap"


class ScheduledLayerwise(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="scheduled-layerwise"):
    """Layerwise streaming with what no system offers together: when, in which pieces and in which form blocks come.

    With no option set it does what SGLang's v2 does with one block ahead.
    """

    prefetch: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Blocks ahead."""
    resident_layers: Annotated[int, Meta(ge=0, le=1000)] | Annotated[float, Meta(ge=0, lt=1)] = 0
    """Blocks that stay on the device from their first use to the end of their expert's: count, or share below 1."""
    residency: Literal["leading", "strided"] = "strided"
    placement: Placing = "block-start"
    """Where in a block the next one is requested: see program.places. spread: chunks over the windows between
    collectives, by their FLOPs. gated: as spread, and a collective waits for the chunks before it."""
    chunks: Annotated[int, Meta(ge=1, le=64)] = 1
    """Copies that a block comes in."""
    copy_streams: Annotated[int, Meta(ge=1, le=8)] = 1
    """Copies take turns on so many streams."""
    copy_priority: Literal["normal", "high"] = "normal"
    """Of the copy streams: copy engines ignore it."""
    transfer_dtype: Literal["stored", "fp8", "int8", "int4"] = "stored"
    """What weights are copied as; if not as stored, a kernel unpacks them. What kernels read: workload.weight_dtype."""
    sharded: bool = False
    """Each rank copies 1/N of a block, and gathers the rest from the others."""
    across_switch: Literal["held", "prefetched", "fetched"] = "held"
    """held: the first blocks of both experts stay (SGLang v2). prefetched: the last forward before the switch requests
    the next expert's. fetched: the switch step does (SGLang v3)."""
    text_encoder: Placement = "sharded"
    vae: Placement = "swap"


class FSDP(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="fsdp"):
    """PyTorch FSDP2 with CPUOffloadPolicy(pin_memory=True): 1/N shard by H2D, then all-gather."""

    prefetch: Annotated[int, Meta(ge=1, le=8)] = 1
    """Blocks gathered when a block begins, its own included; 1 is FSDP's implicit prefetch."""
    text_encoder: Placement = "sharded"
    vae: Placement = "swap"


class DiffusersGroup(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="diffusers-group"):
    """diffusers' enable_group_offload: blocks or leaf modules come in before they run and leave after."""

    level: Literal["block", "leaf"] = "block"
    """offload_type: block_level or leaf_level. leaf needs workload.kernels = "eager"."""
    num_blocks_per_group: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Of block level without a stream; with one the library moves single blocks."""
    stream: bool = False
    """use_stream: the next group is copied while a group runs."""
    record_stream: bool = False
    """The host does not wait for kernels before a group's memory is given back: the allocator does."""
    low_cpu_mem_usage: bool = False
    """Host copies are pinned whenever they are copied, not for good."""
    hook_cost: Seconds = 0.0
    """Host time of every hook besides its calls: what the library's own Python takes."""
    text_encoder: Placement = "sharded"
    vae: Placement = "swap"

    def __post_init__(self) -> None:
        if self.record_stream and not self.stream:
            raise ValueError("record_stream=true: needs stream = true")
        if self.low_cpu_mem_usage and not self.stream:
            raise ValueError("low_cpu_mem_usage=true: only matters with stream = true; leave it out")
        if self.num_blocks_per_group > 1 and (self.stream or self.level == "leaf"):
            how = 'level = "leaf" a group is a module' if self.level == "leaf" else "stream = true a group is one block"
            raise ValueError(f"num_blocks_per_group={self.num_blocks_per_group}: with {how}; leave it out")


class AccelerateModel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="accelerate-model"):
    """diffusers' enable_model_cpu_offload: one component on the device at a time, moved by module.to()."""

    text_encoder: Literal["chain"] = "chain"
    """In the chain of components that push each other out."""
    vae: Literal["chain"] = "chain"


class AccelerateSequential(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag="accelerate-sequential"
):
    """diffusers' enable_sequential_cpu_offload: every module's tensors are copied in when it runs; pageable."""

    empty_cache: Seconds = 0.0
    """Host time per tensor of emptying the allocator's cache, with what asking the driver for memory anew costs."""
    hook_cost: Seconds = 0.0
    """Host time of every hook besides its calls: what the library's own Python takes."""
    text_encoder: Placement = "sharded"
    vae: Placement = "swap"


Policy = (
    Resident
    | SGLangLayerwise
    | FullModel
    | FSDP
    | ScheduledLayerwise
    | DiffusersGroup
    | AccelerateModel
    | AccelerateSequential
)


def gathers(policy: Policy) -> bool:
    """Whether ranks hold parts of the weights and gather them from each other."""
    return isinstance(policy, FSDP) or (isinstance(policy, ScheduledLayerwise) and policy.sharded)


def prefetch_count(prefetch: int | float, blocks: int) -> int:
    """SGLang's rule: below 1, P = 1 + round(value (n - 1)); else int(value); clamped to 1..n.

    >>> prefetch_count(0.0, 40), prefetch_count(0.2, 40), prefetch_count(1.0, 40), prefetch_count(0.99, 40)
    (1, 9, 1, 40)
    """
    count = 1 + round(prefetch * (blocks - 1)) if prefetch < 1 else int(prefetch)
    return min(max(1, count), blocks)


def resident_blocks(resident: int | float, blocks: int, residency: Literal["leading", "strided"]) -> set[int]:
    """Which blocks stay: the first R, or all but s = n - R evenly spread streamed ones, round(k n / s)."""
    count = resident_count(resident, blocks)
    streamed = blocks - count
    if residency == "leading" or 0 in (count, streamed):
        return set(range(count))
    return set(range(blocks)) - {round(k * blocks / streamed) for k in range(streamed)}


def resident_count(resident: int | float, blocks: int) -> int:
    """How many blocks stay: a count, or a share of the blocks below 1."""
    return min(round(resident * blocks) if resident < 1 else int(resident), blocks)
