"""The parameters of SGLang's layerwise offload."""

from typing import Annotated, Literal

from msgspec import Meta

from offsim.scenario.policy import Policy
from offsim.scenario.units import Seconds

from ...offloading.layers import Residency


class SGLangLayerwise(Policy, frozen=True, tag="sglang-layerwise"):
    """SGLang's --dit-layerwise-offload."""

    version: Literal["v0", "v1", "v2", "v3"] = "v2"
    """v0: PR 15511 (Dec 2025), v1: PR 17693 (Jan 2026), v2: Apr 2026, v3: Jul 2026."""
    prefetch: Annotated[int, Meta(ge=0, le=1000)] | Annotated[float, Meta(ge=0, le=1000)] = 0.0
    """--dit-offload-prefetch-size: below 1 a share of the blocks, from 1 on a count (1.0 is one block)."""
    resident_layers: Annotated[int, Meta(ge=0, le=1000)] | Annotated[float, Meta(ge=0, lt=1)] = 0
    """--dit-layerwise-resident-layers: count, or share below 1 (v3 only)."""
    residency: Residency = "leading"
    pinned: bool = True
    hook_synchronize: bool = False
    """Block the host on the compute stream in every hook: not what SGLang does; for ablations."""
    hook_cost: Seconds = 0.0
    """Extra host time of every hook (graph breaks, allocator): for ablations."""

    def __post_init__(self) -> None:
        if self.prefetch > 1 and self.prefetch != int(self.prefetch):
            raise ValueError(f"prefetch={self.prefetch}: expected a share below 1 or a count of blocks")
