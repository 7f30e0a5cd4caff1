"""Where a gate pays and where it costs: by the way of the exchanges, the chunk size, and how much there is to hide."""

from typing import NamedTuple

from rich.table import Table

from offsim.results.layout import new_table

from .cases import CHUNKFLOW, JANUARY, WAN, Case, ratio

UNGATED = CHUNKFLOW | {"gate": "none"}
FRAMES = (25, 41, 57, 81, 121, 161, 241)
CHUNK_SIZES = (4, 16, 64)


class Way(NamedTuple):
    """How two GPUs exchange and copy."""

    name: str
    node: str
    transport: str


WAYS = (
    Way("one root, host memory", "h100-pcie-x2-root.toml", "host-memory"),
    Way("one root, peer to peer", "h100-pcie-x2-root.toml", "pcie"),
    Way("own root ports, host memory", "h100-pcie", "host-memory"),
    Way("NVLink", "h100-sxm-x2-nvlink", "nvlink"),
)


def gain(way: Way, frames: int, megabytes: int) -> float:
    """What the gate takes off the step of the same chunks without it [%]; negative where it costs."""
    case, chunk = Case(JANUARY, WAN, frames, way.transport, way.node), {"chunk_MB": megabytes}
    return 100 * (1 - ratio(case, CHUNKFLOW | chunk, UNGATED | chunk))


def over_layerwise(way: Way, frames: int) -> float:
    """What ChunkFlow at 16 MB takes off layerwise's step [%]."""
    return 100 * (1 - ratio(Case(JANUARY, WAN, frames, way.transport, way.node), CHUNKFLOW, JANUARY.layerwise))


def gate_table() -> Table:
    """The gate alone, by way, chunk size and frames."""
    columns = [str(frames) for frames in FRAMES]
    table = new_table(f"{WAN}: what the gate takes off a step [%], by frames", "exchanges, chunk size", *columns)
    for way in WAYS:
        for chunk in CHUNK_SIZES:
            found = [f"{gain(way, frames, chunk):+.1f}" for frames in FRAMES]
            table.add_row(f"{way.name}, {chunk} MB", *found)
    return table


def whole_table() -> Table:
    """ChunkFlow against layerwise, by way and frames."""
    columns = [str(frames) for frames in FRAMES]
    table = new_table(f"{WAN}: what ChunkFlow takes off layerwise's step [%], by frames", "exchanges", *columns)
    for way in WAYS:
        table.add_row(way.name, *(f"{over_layerwise(way, frames):+.1f}" for frames in FRAMES))
    return table
