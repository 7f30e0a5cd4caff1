"""What a fit says of itself: a table of the values that it found, and of how well they explain what was measured."""

from typing import NamedTuple

from rich.table import Table

from offsim.results.layout import new_table
from offsim.scenario.units import SUFFIXES


class SummaryRow(NamedTuple):
    """A line of the table that a calibration ends with."""

    parameter: str
    value: str
    interval: str
    held_out_error: str
    n: int
    note: str


def summary_table(rows: list[SummaryRow]) -> Table:
    """The fitted values as a table, one parameter a line."""
    table = new_table("node profile", "parameter", "value", "95 % interval", "held-out error", "n", "note")
    for row in rows:
        table.add_row(_written(row), row.value, row.interval, row.held_out_error, str(row.n), row.note)
    return table


def _written(row: SummaryRow) -> str:
    """The key that the profile has for a row's value, with its unit; what is no single value keeps its name."""
    suffix = row.value.partition(" ")[2]
    return f"{row.parameter}_{suffix}" if any(suffix in units for units in SUFFIXES.values()) else row.parameter
