"""The parameters of diffusers' group offloading."""

from typing import Annotated, Literal

from msgspec import Meta

from offsim.scenario.policy import Placement, Policy
from offsim.scenario.units import Seconds


class DiffusersGroup(Policy, frozen=True, tag="diffusers-group"):
    """diffusers' enable_group_offload: blocks or leaf modules come in before they run and leave after."""

    level: Literal["block", "leaf"] = "block"
    """offload_type: block_level or leaf_level. leaf needs workload.kernels = "eager"."""
    num_blocks_per_group: Annotated[int, Meta(ge=1, le=1000)] = 1
    """How many blocks come together at block level without a stream; with one, the library moves single blocks."""
    stream: bool = False
    """use_stream: the next group is copied while a group runs."""
    record_stream: bool = False
    """The host does not wait for kernels before a group's memory is given back: the allocator does."""
    low_cpu_mem_usage: bool = False
    """Host copies are pinned whenever they are copied, not for good."""
    hook_cost: Seconds = 0.0
    """Host time of every hook besides its calls: what the library's own Python takes."""
    text_encoder: Placement = "swap"
    """swap, since the library moves it whole: it looks for blocks at the top of a model, and there are none here."""

    def __post_init__(self) -> None:
        if self.record_stream and not self.stream:
            raise ValueError("record_stream=true: needs stream = true")
        if self.low_cpu_mem_usage and not self.stream:
            raise ValueError("low_cpu_mem_usage=true: only matters with stream = true; leave it out")
        if self.num_blocks_per_group > 1 and (self.stream or self.level == "leaf"):
            how = 'level = "leaf" a group is a module' if self.level == "leaf" else "stream = true a group is one block"
            raise ValueError(f"num_blocks_per_group={self.num_blocks_per_group}: with {how}; leave it out")
