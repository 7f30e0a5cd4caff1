"""The paper's open numbers beside predictions, and predictions of everything else that it measured."""

from collections.abc import Iterator
from csv import DictWriter
from io import StringIO
from typing import Any

import msgspec
from rich.table import Table

from experiments.seeds.common import Expected, comparison
from offsim.results.layout import new_table

from .cases import (
    CHUNKFLOW,
    FLUX,
    HERE,
    HUNYUAN,
    JANUARY,
    NO_OFFLOAD,
    READINGS,
    SIZES,
    WAN,
    Case,
    Reading,
    fitted_efficiency,
    peak_ratio,
    predicted,
    ratio,
    shares,
)
from .paper import PAPER_MODELS, critical_size
from .sweeps import AHEAD, PAPER_CHUNKS, RESIDENT, largest

WEIGHTS = (0.28, 0.5, 1.0)
"""As measured where each GPU has a root port of its own; between; as a copy engine."""
SIXTY = CHUNKFLOW | {"resident_fraction": 0.6}


def expected_rows() -> dict[str, Expected]:
    """The paper's open numbers, by key."""
    rows = msgspec.toml.decode((HERE / "expected.toml").read_bytes(), type=dict[str, list[Expected]])["expected"]
    return {row.key: row for row in rows}


def found(reading: Reading) -> dict[str, float]:
    """What a reading predicts of them."""
    exchange, held = (100 * part for part in shares(Case(reading, WAN, 81), reading.layerwise))
    sizes = {name: critical_size(model, model.volume) for name, model in PAPER_MODELS.items()}
    return {
        "wan 81 no offload, step": predicted(Case(reading, WAN, 81), NO_OFFLOAD).steady,
        "wan 81 layerwise, share of all-to-all": exchange,
        "wan 81 layerwise, share of contention": held,
        "wan worst layerwise / no offload": largest(reading, WAN, reading.layerwise, NO_OFFLOAD)[0],
        "flux worst layerwise / no offload": largest(reading, FLUX, reading.layerwise, NO_OFFLOAD)[0],
        "hunyuan best layerwise / chunkflow": largest(reading, HUNYUAN, reading.layerwise, CHUNKFLOW)[0],
        "hunyuan 33 chunkflow, peak / no offload": peak_ratio(Case(reading, HUNYUAN, 33), CHUNKFLOW),
        "hunyuan 9, 60 % resident, peak / no offload": peak_ratio(Case(reading, HUNYUAN, 9), SIXTY),
        "wan 41, 60 % resident, peak / no offload": peak_ratio(Case(reading, WAN, 41), SIXTY),
        "wan 119.2 frames, F* with the paper's volume": sizes[WAN],
        "hunyuan 34.5 frames, F* with the paper's volume": sizes[HUNYUAN],
        "flux batch 11.5, F* with the paper's volume": sizes[FLUX],
    }


def open_table(reading: Reading) -> Table:
    """Open numbers beside a reading's predictions."""
    title = f"ChunkFlow's open numbers, {reading.name} (compute rates x {fitted_efficiency(reading.name):.3f})"
    return comparison(title, expected_rows(), found(reading))


def policies(reading: Reading, model: str, size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the paper ran of a model at a size, and what it may have run."""
    yield "no offload", NO_OFFLOAD
    yield "layerwise", reading.layerwise
    yield "chunkflow 16 MB", CHUNKFLOW
    yield "chunkflow 16 MB launched ahead", AHEAD
    if (model, size) == (WAN, 81):
        for chunk in PAPER_CHUNKS:
            for cost in (0, 50):
                yield f"chunkflow {chunk} MB, {cost} us a chunk", CHUNKFLOW | {"chunk_MB": chunk, "chunk_cost_us": cost}
    if size == SIZES[model][0]:
        for share in RESIDENT[1:]:
            yield f"chunkflow 16 MB, {share:g} resident", CHUNKFLOW | {"resident_fraction": share}


def prediction_rows() -> Iterator[dict[str, Any]]:
    """Every run of the paper in every reading, with what it predicts."""
    for reading in READINGS:
        for model, sizes in SIZES.items():
            for size in sizes:
                yield from _rows(Case(reading, model, size))


def _rows(case: Case) -> Iterator[dict[str, Any]]:
    for name, policy in policies(case.reading, case.model, case.size):
        made = predicted(case, policy)
        exchange, held = shares(case, policy)
        yield {
            "reading": case.reading.name,
            "model": case.model,
            "size": case.size,
            "policy": name,
            "tokens": made.scenario.tokens,
            "step_s": f"{made.steady:.4f}",
            "over_no_offload": f"{ratio(case, policy):.4f}",
            "layerwise_over_this": f"{ratio(case, case.reading.layerwise, policy):.4f}",
            "all_to_all_share": f"{exchange:.4f}",
            "contention_share": f"{held:.4f}",
            "peak_reserved_and_context_GB": f"{(made.peak_reserved + made.scenario.node.gpu.context.value) / 1e9:.2f}",
            "peak_over_no_offload": f"{peak_ratio(case, policy):.4f}",
        }


def predictions_csv() -> str:
    """The rows as CSV."""
    text, rows = StringIO(), list(prediction_rows())
    writer = DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def weights_table() -> Table:
    """What the open numbers would be if exchanges got another share of the root beside copies."""
    table = new_table(
        "If an all-to-all's weight against a copy engine were", "number", *(f"{one:g}" for one in WEIGHTS)
    )
    wan = [Case(JANUARY, WAN, 81, weight=weight) for weight in WEIGHTS]
    table.add_row("wan 81, contention [%]", *(f"{100 * shares(case, JANUARY.layerwise)[1]:.1f}" for case in wan))
    table.add_row("wan 81 layerwise / no offload", *(f"{ratio(case, JANUARY.layerwise):.3f}" for case in wan))
    for model, size, over in ((WAN, 41, NO_OFFLOAD), (FLUX, 4, NO_OFFLOAD), (HUNYUAN, 33, CHUNKFLOW)):
        cases = [Case(JANUARY, model, size, weight=weight) for weight in WEIGHTS]
        found = [f"{ratio(case, JANUARY.layerwise, over):.3f}" for case in cases]
        table.add_row(f"{model} {size} layerwise / {'no offload' if over is NO_OFFLOAD else 'chunkflow'}", *found)
    return table


def inputs_table() -> Table:
    """Every value of the node that the layerwise run of Wan rests on, with its source."""
    table = Table(title="Inputs in use: Wan, 81 frames, ChunkFlow")
    for column in ("value", "number", "provenance", "source"):
        table.add_column(column, overflow="fold")
    for key, value in predicted(Case(JANUARY, WAN, 81), CHUNKFLOW).in_use:
        table.add_row(key, f"{value.value:g}", value.provenance, value.source)
    return table
