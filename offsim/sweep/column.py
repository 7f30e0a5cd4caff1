"""The columns of a sweep's table. A folder carries those that it was written with, and is read by their names."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_type_hints

from .axis import Axis
from .row import COLUMNS, Row

KINDS: dict[str, type] = {"TEXT": str, "INTEGER": int, "REAL": float, "BOOLEAN": bool}
"""Python's type of a column's cells, by the type that its database declares."""


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
        return KINDS[self.declared]

    @property
    def stored(self) -> type:
        """The type that its cells have in SQLite, which knows no truth values."""
        return int if self.kind is bool else self.kind


def columns_of(axes: Sequence[Axis]) -> tuple[Column, ...]:
    """The columns that this version writes: the axes' labels first, then what the result table says."""
    hints = get_type_hints(Row)
    labels = (Column(f"axis_{axis.name}", "TEXT", False) for axis in axes)
    return (*labels, *(_column(name, hints[name]) for name in COLUMNS))


def _column(name: str, hint: Any) -> Column:
    """The column of a field of Row by its annotation; a list of words is text."""
    members = getattr(hint, "__args__", (hint,))
    declared = next((declared for declared, kind in KINDS.items() if kind in members), "TEXT")
    return Column(name, declared, type(None) in members)
