"""Forwards of the real diffusers library, predicted beside measured: one table, and the same as plain data."""

from typing import Any

from rich.table import Table

from offsim.results.layout import gib, new_table, seconds

from .library_prediction import LibraryError

TITLE = "forwards of the diffusers library: relative to no offloading, in seconds, peak allocated GiB"


def forwards_table(errors: list[LibraryError]) -> Table:
    """One row per mode and length."""
    columns = ("node", "measured", "predicted", "error", "measured s", "predicted s", "error", "resident s", "error")
    table = new_table(TITLE, "mode, tokens", *columns, "peak", "error")
    for error in errors:
        table.add_row(*_cells(error))
    return table


def _cells(error: LibraryError) -> list[str]:
    record, predicted = error.record, error.prediction.steps[-1].duration
    peak = record.peak_allocated
    return [
        record.name,
        record.node,
        f"{record.ratio:.3f}",
        f"{error.predicted:.3f}",
        _signed(error.error),
        seconds(record.seconds),
        seconds(predicted),
        _signed(error.mode_error),
        seconds(record.resident),
        _signed(error.resident_error),
        "-" if peak is None else gib(peak),
        "-" if error.memory_error is None else _signed(error.memory_error),
    ]


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} %"


def forward_json(error: LibraryError) -> dict[str, Any]:
    """One record and its prediction: seconds, bytes, errors as predicted / measured - 1."""
    record = error.record
    return {
        "node": record.node,
        "mode": record.mode,
        "tokens": record.tokens,
        "kind": record.kind,
        "measured_s": record.seconds,
        "predicted_s": error.prediction.steps[-1].duration,
        "resident_measured_s": record.resident,
        "resident_predicted_s": error.reference.steps[-1].duration,
        "measured": record.ratio,
        "predicted": error.predicted,
        "error": error.error,
        "peak_measured_bytes": record.peak_allocated,
        "peak_predicted_bytes": error.prediction.peak_allocated,
        "memory_error": error.memory_error,
    }
