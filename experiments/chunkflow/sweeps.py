"""What the paper swept: sizes, chunk sizes, the share of chunks that stay; each against no offload."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from rich.table import Table

from offsim.results.layout import new_table

from .cases import CHUNKFLOW, HUNYUAN, JANUARY, SIZES, WAN, Case, Reading, predicted, ratio

CHUNKS = (4, 8, 16, 32, 64, 256)
"""MB."""
PAPER_CHUNKS = (4, 16, 64, 256)
CHUNK_COSTS = (0, 50, 100)
"""Host time of a chunk besides its calls [us]: not stated."""
RESIDENT = (0.0, 0.2, 0.4, 0.6)
AHEAD = CHUNKFLOW | {"launched_ahead": True}


def largest(reading: Reading, model: str, policy: dict[str, Any], over: dict[str, Any]) -> tuple[float, int]:
    """The largest ratio of a policy's step to another's over the swept sizes, and at which."""
    return max((ratio(Case(reading, model, size), policy, over), size) for size in SIZES[model])


def sizes_table(reading: Reading, transport: str) -> Table:
    """Steps of every model and size."""
    table = new_table(
        f"{reading.name}, exchanges by {transport}: steps over those without offload",
        "model",
        "size",
        "no offload",
        "layerwise",
        "ChunkFlow",
        "launched ahead",
        "layerwise / ChunkFlow",
    )
    for model, sizes in SIZES.items():
        for size in sizes:
            case = Case(reading, model, size, transport)
            ratios = [ratio(case, policy) for policy in (reading.layerwise, CHUNKFLOW, AHEAD)]
            gain = ratio(case, reading.layerwise, CHUNKFLOW)
            alone = f"{predicted(case, {'name': 'resident'}).steady:.3f} s"
            table.add_row(model, str(size), alone, *(f"{one:.3f}" for one in ratios), f"{gain:.3f}")
    return table


def chunk_ratio(megabytes: int, cost: int, model: str = WAN, size: int = 81, **options: Any) -> float:
    """A step in chunks of one size, over that without offload."""
    policy = CHUNKFLOW | {"chunk_MB": megabytes, "chunk_cost_us": cost} | options
    return ratio(Case(JANUARY, model, size), policy)


def chunks_table() -> Table:
    """Chunk sizes, by what a chunk costs the host."""
    table = new_table("Chunk size [MB]: step over no offload", "case", *map(str, CHUNKS))
    for model, size in ((WAN, 81), (HUNYUAN, 33)):
        name = f"{model} {size}"
        for cost in CHUNK_COSTS:
            found = [f"{chunk_ratio(chunk, cost, model, size):.3f}" for chunk in CHUNKS]
            table.add_row(f"{name}, {cost} us a chunk", *found)
        ahead = [f"{chunk_ratio(chunk, 0, model, size, launched_ahead=True):.3f}" for chunk in CHUNKS]
        table.add_row(f"{name}, launched ahead", *ahead)
        ungated = [f"{chunk_ratio(chunk, 0, model, size, gate='none'):.3f}" for chunk in CHUNKS]
        table.add_row(f"{name}, without a gate", *ungated)
        table.add_row(f"{name}, layerwise", f"{ratio(Case(JANUARY, model, size), JANUARY.layerwise):.3f}")
    return table


def chunk_order(cost: int) -> list[int]:
    """The paper's chunk sizes, fastest first."""
    return sorted(PAPER_CHUNKS, key=lambda chunk: chunk_ratio(chunk, cost))


def residency_ratios(model: str) -> list[float]:
    """Steps at the smallest size over no offload, by the share of chunks that stay."""
    case = Case(JANUARY, model, SIZES[model][0])
    return [ratio(case, CHUNKFLOW | {"resident_fraction": share}) for share in RESIDENT]


def residency_table() -> Table:
    """The residency sweep of every model."""
    table = new_table("Resident share, smallest size: step over no offload", "model", *map(str, RESIDENT))
    for model in SIZES:
        table.add_row(model, *(f"{one:.3f}" for one in residency_ratios(model)))
    return table


def falls(values: Sequence[float]) -> bool:
    """Whether each is smaller than the one before."""
    return all(b < a for a, b in pairwise(values))


def told() -> Iterator[tuple[str, bool]]:
    """What the paper says of its sweeps in words, and whether it came out so."""
    for cost in CHUNK_COSTS:
        order = chunk_order(cost)
        words = " < ".join(f"{chunk} MB" for chunk in order)
        yield f"chunks, {cost} us each: 16 MB best ({words})", order[0] == 16
        larger = [chunk_ratio(chunk, cost) for chunk in (256, 64, 16)]
        yield f"chunks, {cost} us each: 64 and 256 MB drift back to layerwise", falls(larger)
    for model in SIZES:
        yield f"{model}: steps fall with the resident share", falls(residency_ratios(model))
        near = residency_ratios(model)[-1]
        yield f"{model}: at 0.6 a step is hardly above no offload, within 2 % ({near:.3f})", near < 1.02
    third = {model: ratio(Case(JANUARY, model, sizes[2]), CHUNKFLOW) for model, sizes in SIZES.items()}
    for model, found in third.items():
        yield f"{model}: the third size nearly reaches no offload, within 5 % ({found:.3f})", found < 1.05
