"""Grids: a partial scenario and axes of overrides, read as strictly as scenario files.

The grid is the product of its axes. Each combination is merged and parsed like a scenario file. One that no
real system would run is part of the answer (`refused`); anything else wrong is an error of the grid.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import combinations, product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from offsim.scenario.decode import normalise
from offsim.scenario.faults import Place
from offsim.scenario.load import SECTIONS, Known, parse_scenario, read_document
from offsim.scenario.scenario import RefusedScenario, Scenario
from offsim.scenario.wording import choices

from .overlay import leaves, overlay

MOST = 100_000
"""Combinations of one grid: beyond that an axis is wrong."""
NAME = "lower-case letters, digits, - . _, beginning with a letter or digit"
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]*\Z", description=NAME)]
Labels = tuple[str, ...]


class GridFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A grid as its file writes it."""

    name: Name
    axes: dict[str, Any]
    title: str = ""
    notes: str = ""
    """What a reader must know: which values were fitted on what. Printed below the answer."""
    schema: Literal[1] = 1
    scenario: dict[str, Any] = {}


class ShortAxis(Struct, frozen=True, forbid_unknown_fields=True):
    """An axis over the values of one key: `{ key = "workload.gpus", values = [1, 2] }`."""

    key: str
    values: Annotated[tuple[bool | int | float | str, ...], Meta(min_length=1)]


class Point(NamedTuple):
    """One place on an axis: what it is called and what it changes."""

    label: str
    overrides: dict[str, Any]


class Axis(NamedTuple):
    """One thing that a grid varies."""

    name: str
    points: tuple[Point, ...]

    @property
    def keys(self) -> frozenset[str]:
        """The scenario keys that its points set, as `workload.gpus`."""
        return frozenset(key for point in self.points for key in leaves(point.overrides))


class Combination(NamedTuple):
    """One scenario of a grid, by its label on every axis."""

    labels: Labels
    scenario: Scenario
    refused: str
    """Why no real system would run it; empty if one would."""

    @property
    def hash(self) -> str:
        """12 hexadecimal digits of the complete scenario, catalogue values included."""
        return _digest(self.scenario)[:12]


class Grid(NamedTuple):
    """Every combination of the axes, the last axis fastest."""

    path: Path
    name: str
    title: str
    axes: tuple[Axis, ...]
    combinations: tuple[Combination, ...]
    source: bytes = b""
    """The grid file as it was read."""
    notes: str = ""

    @property
    def hash(self) -> str:
        """8 hexadecimal digits of the resolved grid: axes, labels and complete scenarios."""
        scenarios = [(combination.labels, combination.hash) for combination in self.combinations]
        return _digest([self.name, [axis.name for axis in self.axes], scenarios])[:8]


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def load_grid(name_or_path: str) -> Grid:
    """The grid in a file or of a catalogue name, every combination parsed; raises ScenarioError."""
    raw, path = read_document(name_or_path, "grids")
    return parse_grid(raw, path)._replace(source=path.read_bytes())


def parse_grid(raw: dict[str, Any], path: Path) -> Grid:
    """The grid of an already read TOML document; `path` names it in errors and anchors `extends`."""
    top = Place(path)
    file: GridFile = _struct(raw, GridFile, top)
    _check_keys(file.scenario, {"extends", *SECTIONS}, top.child("scenario"))
    if not file.axes:
        raise top.child("axes").fault("expected at least one axis")
    axes = tuple(_axis(name, value, top.child("axes").child(name)) for name, value in file.axes.items())
    _check_axes(axes, top.child("axes"))
    found = tuple(_combine(file.scenario, axes, path))
    if all(combination.refused for combination in found):
        raise top.fault(f"no combination can run; the first: {found[0].refused}")
    return Grid(path, file.name, file.title, axes, found, notes=file.notes)


def _struct(table: dict[str, Any], kind: type[Struct], place: Place) -> Any:
    """A table as a struct of the grid file."""
    fields = normalise(table, kind, place.path, place.key)
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in fields:
            raise place.child(field.name).fault("missing")
    return kind(**fields)


def _check_keys(table: dict[str, Any], allowed: Iterable[str], place: Place) -> None:
    for key in table:
        if key not in allowed:
            raise place.child(key).fault(f"unknown key; {choices(allowed, key)}")


def _axis(name: str, value: Any, place: Place) -> Axis:
    if not name.isidentifier() or name != name.lower():
        raise place.fault("an axis is named with lower-case letters, digits and _")
    if isinstance(value, dict):
        return Axis(name, _short_points(value, place))
    if not isinstance(value, list) or not value:
        raise place.fault(f"expected [[{place.key}]] tables or {{ key = ..., values = [...] }}", value)
    return Axis(name, tuple(_point(entry, place.item(i)) for i, entry in enumerate(value)))


def _short_points(value: dict[str, Any], place: Place) -> tuple[Point, ...]:
    """The points of `{ key, values }`: each labelled with its value."""
    short: ShortAxis = _struct(value, ShortAxis, place)
    section, *rest = short.key.split(".")
    if section not in SECTIONS or "" in rest:
        hint = f"expected a key of a scenario, as workload.gpus; it begins with {', '.join(SECTIONS)}"
        raise place.child("key").fault(hint, short.key)
    return tuple(Point(_text(item), _nest([section, *rest], item)) for item in short.values)


def _text(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nest(keys: list[str], value: object) -> dict[str, Any]:
    return {keys[0]: _nest(keys[1:], value) if keys[1:] else value}


def _point(entry: Any, place: Place) -> Point:
    if not isinstance(entry, dict):
        raise place.fault("expected a table with a label and overrides", entry)
    _check_keys(entry, {"label", *SECTIONS}, place)
    if "label" not in entry:
        raise place.child("label").fault("missing")
    label = entry["label"]
    if not isinstance(label, str) or not label.strip() or not label.isprintable():
        raise place.child("label").fault("expected text on one line", label)
    return Point(label, {key: value for key, value in entry.items() if key != "label"})


def _check_axes(axes: tuple[Axis, ...], place: Place) -> None:
    """Labels are unique on an axis, and no two axes set the same key."""
    for axis in axes:
        labels = [point.label for point in axis.points]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise place.child(axis.name).fault(f"label {twice!r} is given twice")
    for one, other in combinations(axes, 2):
        for key in sorted(one.keys & other.keys):
            raise place.child(other.name).fault(f"{key} is set by axes.{one.name} too")
    count = prod(len(axis.points) for axis in axes)
    if count > MOST:
        raise place.fault(f"{count:,} combinations; at most {MOST:,}")


def _combine(base: dict[str, Any], axes: tuple[Axis, ...], path: Path) -> Iterator[Combination]:
    known: Known = {}
    for points in product(*(axis.points for axis in axes)):
        labels = tuple(point.label for point in points)
        raw = reduce(overlay, (point.overrides for point in points), base)
        try:
            yield Combination(labels, parse_scenario(raw, path, known), "")
        except RefusedScenario as refused:
            yield Combination(labels, refused.scenario, refused.reason)
