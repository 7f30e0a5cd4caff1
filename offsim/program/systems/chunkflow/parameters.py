"""The parameters of ChunkFlow."""

from typing import Annotated, Literal

from msgspec import Meta

from offsim.scenario.policy import Policy
from offsim.scenario.units import Seconds, dimension

ChunkBytes = Annotated[float, Meta(ge=1e3, le=1e12), dimension("bytes")]


class ChunkFlow(Policy, frozen=True, tag="chunkflow"):
    """Layerwise streaming in chunks that let collectives go first (ChunkFlow, arXiv 2605.11335)."""

    chunk: ChunkBytes = 16e6
    """Bytes of a chunk: 16 MB in all of the paper's runs."""
    gate: Literal["collective", "none"] = "collective"
    """collective: no chunk starts while a collective runs. none: chunks follow each other whatever runs."""
    launched_ahead: bool = False
    """Chunks are issued as fast as the host can, each behind the collective issued last; else each is issued when the
    one before it has arrived. The paper doesn't say which."""
    resident_fraction: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of every block's chunks that stay on the device."""
    chunk_cost: Seconds = 0.0
    """Host time of every chunk besides its calls: reading the flag, the worker's own Python."""
