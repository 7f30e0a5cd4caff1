"""Forwards of the real diffusers library, predicted beside measured: one table, and the same as plain data."""

from typing import Any

from rich.table import Table
from rich.text import Text

from offsim.results.layout import Renderable, gib, new_table, seconds

from .diffusers_prediction import ForwardError

FORWARD_HEADS = (
    "measured, predicted: a forward with offloading, in forwards without; below, in seconds. resident: a forward "
    "without. peak: the most GPU memory that was allocated, measured. Errors are predicted / measured - 1."
)


def forwards_tables(errors: list[ForwardError]) -> list[Renderable]:
    """Two tables per node, a row per mode and length: relative to no offloading, with peaks; and in seconds.

    What their heads mean stands below the last.
    """
    nodes = dict.fromkeys(error.record.node for error in errors)
    by_node = [(node, [error for error in errors if error.record.node == node]) for node in nodes]
    tables = [table for node, own in by_node for table in (_relative(node, own), _absolute(node, own))]
    return [*tables, *([Text(FORWARD_HEADS)] if tables else [])]


def _relative(node: str, errors: list[ForwardError]) -> Table:
    title = f"forwards of the diffusers library on {node}: relative to no offloading, peak allocated GiB"
    table = new_table(title, "mode, tokens", "measured", "predicted", "error", "peak", "peak's error")
    for error in errors:
        record, peak = error.record, error.record.peak_allocated
        memory = "-" if error.memory_error is None else _signed(error.memory_error)
        ratio, predicted = f"{record.ratio:.3f}", f"{error.predicted:.3f}"
        peaks = "-" if peak is None else gib(peak)
        table.add_row(record.name, ratio, predicted, _signed(error.error), peaks, memory)
    return table


def _absolute(node: str, errors: list[ForwardError]) -> Table:
    """A table of seconds of the mode's forwards, and of those without offloading."""
    columns = ("measured", "predicted", "error", "resident", "resident's error")
    table = new_table(f"the same on {node} in time", "mode, tokens", *columns)
    for error in errors:
        record, predicted = error.record, error.seconds
        times = (seconds(record.seconds), seconds(predicted), _signed(error.mode_error))
        table.add_row(record.name, *times, seconds(record.resident), _signed(error.resident_error))
    return table


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} %"


def forward_json(error: ForwardError) -> dict[str, Any]:
    """One forward and its prediction as plain data: seconds, bytes, errors as predicted / measured - 1."""
    record = error.record
    return {
        "node": record.node,
        "mode": record.mode,
        "tokens": record.tokens,
        "kind": record.kind,
        "measured_s": record.seconds,
        "predicted_s": error.seconds,
        "resident_measured_s": record.resident,
        "resident_predicted_s": error.resident,
        "measured": record.ratio,
        "predicted": error.predicted,
        "error": error.error,
        "peak_measured_bytes": record.peak_allocated,
        "peak_predicted_bytes": error.prediction.peak_allocated,
        "memory_error": error.memory_error,
    }
