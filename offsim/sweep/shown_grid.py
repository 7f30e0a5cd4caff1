"""A grid as `offsim show` prints it: what all of its scenarios have in common, and what it varies."""

import tomllib
from collections.abc import Iterator
from typing import Any

from offsim.results.layout import Renderable, new_table, pairs, spaced
from offsim.scenario.wording import shown

from .axis import Axis
from .grid import Grid

MOST_LABELS = 12


def show_grid(grid: Grid) -> list[Renderable]:
    """A grid's name, the scenario that it starts from, and its axes."""
    document = tomllib.loads(grid.source.decode())
    count = f"{len(grid.combinations):,}"
    compared = [("compared", " with ".join(grid.compare))] if grid.compare else []
    head = [("grid", grid.name), ("title", grid.title), ("combinations", count), *compared, ("notes", grid.notes)]
    table = new_table("Axes", "axis", "keys", "points")
    for column in table.columns:
        column.justify = "left"
    for axis in grid.axes:
        table.add_row(axis.name, ", ".join(sorted(axis.keys)), _labels(axis))
    same = [("in all of them", ""), *_written(document.get("scenario", {}))]
    return spaced([pairs([row for row in head if row[1]]), *([pairs(same)] if len(same) > 1 else []), table])


def _written(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values of a document."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _written(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", shown(value)


def _labels(axis: Axis) -> str:
    """What the points of an axis are called, of a long one the first."""
    labels = [axis.label(position) for position in range(min(len(axis), MOST_LABELS))]
    more = f" and {len(axis) - MOST_LABELS:,} more" if len(axis) > MOST_LABELS else ""
    return ", ".join(labels) + more
