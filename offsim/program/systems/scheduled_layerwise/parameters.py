"""The parameters of scheduled layerwise streaming."""

from typing import Annotated, Literal

from msgspec import Meta

from offsim.scenario.policy import Policy

from ...offloading.layers import Residency

Placing = Literal[
    "block-start",
    "after-first-all-to-all",
    "after-attention",
    "after-all-to-alls",
    "last-kernels",
    "spread",
    "gated",
]


class ScheduledLayerwise(Policy, frozen=True, tag="scheduled-layerwise"):
    """Layerwise streaming with what no system offers together: when, in which pieces and in which form blocks come.

    With no option set it does what SGLang's v2 does with one block ahead.
    """

    prefetch: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Blocks ahead."""
    resident_layers: Annotated[int, Meta(ge=0, le=1000)] | Annotated[float, Meta(ge=0, lt=1)] = 0
    """Blocks that stay on the device from their first use to the end of their expert's: count, or share below 1."""
    residency: Residency = "strided"
    placement: Placing = "block-start"
    """Where in a block the next one is requested. last-kernels: before its last command, the feed-forward of a
    transformer. spread: chunks over the windows between collectives, by their FLOPs. gated: as spread, and a collective
    waits for the chunks before it."""
    chunks: Annotated[int, Meta(ge=1, le=64)] = 1
    """Copies that a block comes in."""
    copy_streams: Annotated[int, Meta(ge=1, le=8)] = 1
    """Copies take turns on so many streams."""
    copy_priority: Literal["normal", "high"] = "normal"
    """Priority of the copy streams: copy engines ignore it."""
    transfer_dtype: Literal["stored", "fp8", "int8", "int4"] = "stored"
    """What weights are copied as; if not as stored, a kernel unpacks them. What kernels read: workload.weight_dtype."""
    sharded: bool = False
    """Each rank copies 1/N of a block, and gathers the rest from the others."""
    gather: Literal["own-stream", "compute-stream"] = "own-stream"
    """Where that gathering runs. compute-stream: at the block's start, with nothing computed beside it."""
    across_switch: Literal["held", "prefetched", "fetched"] = "held"
    """held: the first blocks of both experts stay (SGLang v2). prefetched: the last forward before the switch requests
    the next expert's. fetched: the switch step does (SGLang v3)."""
