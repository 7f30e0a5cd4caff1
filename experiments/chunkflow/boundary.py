"""From which size on a copy hides: by the paper's first-order model, by ours, and in the simulation."""

from rich.table import Table

from offsim.program.first_order import copy_rate, forward_seconds, hiding_size
from offsim.results.layout import new_table
from offsim.scenario.scenario import Scenario

from .cases import (
    CHUNKFLOW,
    JANUARY,
    NO_OFFLOAD,
    READINGS,
    SIZES,
    VIDEO,
    WAN,
    Case,
    Reading,
    batched,
    fitted_efficiency,
    ratio,
)
from .paper import PAPER_MODELS, critical_size

HIDDEN = 1.02
"""Of a step over no offload: copies count as hidden."""
MOST_FRAMES = 400


def own_size(reading: Reading, model: str) -> float:
    """The size from which on copies hide at the node's rates and the model's own shapes and bytes."""
    scenario = Case(reading, model, SIZES[model][1]).scenario(CHUNKFLOW, fitted_efficiency(reading.name))
    moved = scenario.model.block_parameters * scenario.weight_bytes_per_parameter
    if model in VIDEO:
        first = hiding_size(scenario, moved).first
        assert first is not None
        return first
    return _batch_that_hides(scenario, moved)


def _batch_that_hides(scenario: Scenario, moved: float) -> float:
    """Kernels take as long in all as there are images, but for their efficiency: a line through two batches."""
    needed = moved / copy_rate(scenario)
    few, many = (forward_seconds(batched(scenario, samples)) for samples in (8, 12))
    return 8 + 4 * (needed - few) / (many - few)


def boundary_table() -> Table:
    """Critical sizes side by side."""
    table = new_table("A block's copy hides from this size on", "source", *(f"{model}" for model in SIZES))
    said, true = ([getattr(one, key) for one in PAPER_MODELS.values()] for key in ("critical", "true_bytes"))
    table.add_row("the paper says", *(f"{one:g}" for one in said))
    own = [critical_size(one, one.volume) for one in PAPER_MODELS.values()]
    table.add_row("its formula, its volumes (B_pref)", *(f"{one:.1f}" for one in own))
    by_bytes = [critical_size(one, bytes_) for one, bytes_ in zip(PAPER_MODELS.values(), true, strict=True)]
    table.add_row("its formula, true bytes", *(f"{one:.1f}" for one in by_bytes))
    for reading in READINGS:
        found = [f"{own_size(reading, model):.3g}" for model in SIZES]
        table.add_row(f"our rates, true bytes, {reading.name}", *found)
    return table


def crossing(transport: str, policy: dict[str, object], over: dict[str, object] = NO_OFFLOAD) -> int | None:
    """The fewest frames of Wan from which on a step stays within HIDDEN of another policy's."""
    first = None
    for frames in range(25, MOST_FRAMES, 16):
        close = ratio(Case(JANUARY, WAN, frames, transport), policy, over) <= HIDDEN
        first = (first or frames) if close else None
    return first


def crossings_table() -> Table:
    """Where the simulation has copies hidden, with everything in it that F* leaves out."""
    table = new_table(
        f"{WAN}: within {HIDDEN - 1:.0%} of no offload from this many frames on (steps of 16)",
        "exchanges by",
        "layerwise",
        "ChunkFlow",
    )
    for transport in ("host-memory", "pcie"):
        found = [crossing(transport, policy) for policy in (JANUARY.layerwise, CHUNKFLOW)]
        table.add_row(transport, *("never" if one is None else str(one) for one in found))
    return table
