"""The columns of a sweep's table. A folder carries those that it was written with, and is read by their names."""

from collections.abc import Sequence
from typing import NamedTuple

from offsim.results.metrics import PREDICTION_METRICS

from .axis import Axis
from .row import WRITTEN

CELL_TYPES: dict[str, type] = {"TEXT": str, "INTEGER": int, "REAL": float, "BOOLEAN": bool}
"""Python's type of a column's cells, by the type that its database declares."""
DECLARED = {kind: declared for declared, kind in CELL_TYPES.items()}


class Column(NamedTuple):
    """One column of the table."""

    name: str
    declared: str
    """A key of KINDS."""
    optional: bool
    """Whether a cell may be empty."""

    @property
    def kind(self) -> type:
        """Python's type of its cells."""
        return CELL_TYPES[self.declared]

    @property
    def stored(self) -> type:
        """The type that its cells have in SQLite, which knows no truth values."""
        return int if self.kind is bool else self.kind


def columns_of(axes: Sequence[Axis]) -> tuple[Column, ...]:
    """The columns that this version writes: the axes' labels first, then those of `WRITTEN`."""
    labels = (Column(f"axis_{axis.name}", "TEXT", False) for axis in axes)
    # What was refused has no prediction.
    said = (Column(m.name, DECLARED[m.kind], m.optional or m in PREDICTION_METRICS) for m in WRITTEN.values())
    return (*labels, *said)
