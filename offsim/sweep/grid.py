"""Grids: a partial scenario and axes of overrides, read as strictly as scenario files.

A grid's combinations are the product of its axes, made when asked for: a grid of many holds positions on its
axes, not scenarios. Every distinct section is parsed when the grid is read, so a wrong value is an error of
the grid. A combination that no real system would run is part of the answer (`refused`).
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from offsim.scenario.decode import normalise
from offsim.scenario.documents import MOST_BYTES, plain_document, toml_text
from offsim.scenario.faults import Place
from offsim.scenario.files import read_within
from offsim.scenario.load import MAPPING, SECTIONS, current, read_document
from offsim.scenario.scenario import Scenario
from offsim.scenario.wording import choices

from .axis import Axis, check_axes, check_keys, competing, joined, read_axis
from .product import Products
from .ranges import Number, Sample, draw, read_sample
from .sections import Assembly

NAME = "lower-case letters, digits, - . _, beginning with a letter or digit"
AxisName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]*\Z", description=NAME)]
Labels = tuple[str, ...]
Compared = tuple[str, str]
"""What a grid calls two policies: the answer says how the first does against the second."""
GridSource = str | Path | Mapping[str, Any]
"""What says which grid is meant: a catalogue name, a file, or a mapping that says what a file would."""
HASH_DIGITS = 16


class GridFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A grid as its file writes it."""

    name: AxisName
    axes: dict[str, Any]
    title: str = ""
    notes: str = ""
    """What a reader must know: which values were fitted on what. Printed below the answer."""
    compare: Compared | None = None
    """Labels of two policies: the answer says how the first does against the second."""
    scenario: dict[str, Any] = {}
    sample: dict[str, Any] | None = None
    """How to draw the values of ranges that have no steps."""


class Combination(NamedTuple):
    """One scenario of a grid, by its label on every axis."""

    labels: Labels
    scenario: Scenario
    refused: str
    """Why no real system would run it; empty if one would."""
    hash: str
    """The hash of the complete scenario, catalogue values included."""
    node_fingerprint: str
    """The hash of the complete node."""


class Combinations(Sequence[Combination]):
    """A grid's combinations, each made when it is asked for."""

    def __init__(self, axes: tuple[Axis, ...], positions: "array[int]", assembly: Assembly) -> None:
        self._axes, self._positions, self._assembly = axes, positions, assembly

    def __len__(self) -> int:
        return len(self._positions) // len(self._axes)

    def positions(self, index: int) -> tuple[int, ...]:
        """Where a combination stands on every axis."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        width = len(self._axes)
        return tuple(self._positions[index * width : (index + 1) * width])

    def labels(self, index: int) -> Labels:
        """What a combination is called on every axis."""
        return tuple(axis.label(at) for axis, at in zip(self._axes, self.positions(index), strict=True))

    def hash(self, index: int) -> str:
        """The hash of a combination's scenario, without making it where its sections are known."""
        return self._assembly.digest(self.positions(index)).hex()[:HASH_DIGITS]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        made = self._assembly.make(self.positions(index + len(self) if index < 0 else index))
        digest, node = made.digest.hex()[:HASH_DIGITS], made.node_digest.hex()[:HASH_DIGITS]
        return Combination(self.labels(index % len(self)), made.scenario, made.refused, digest, node)

    def forget(self) -> None:
        """Drop what only reading the grid needed."""
        self._assembly.forget()


@dataclass(frozen=True)
class Grid:
    """Every combination of the axes, the last axis fastest."""

    path: Path
    name: str
    title: str
    axes: tuple[Axis, ...]
    combinations: Combinations
    firsts: "array[int]"
    """The first combination with the same scenario, for each one: mostly itself."""
    hash: str
    """8 hexadecimal digits of the resolved grid: axes, labels and complete scenarios."""
    source: bytes = b""
    """The grid file as it was read."""
    notes: str = ""
    compare: Compared | None = None
    """Two policies of which the answer says how the first does against the second."""


def load_grid(source: GridSource) -> Grid:
    """The grid in a file, of a catalogue name or in a mapping, every distinct section parsed; raises ScenarioError."""
    if isinstance(source, Mapping):
        document = plain_document(source, Place(MAPPING))
        return replace(parse_grid(document, MAPPING), source=toml_text(document).encode(errors="backslashreplace"))
    raw, path = read_document(str(source), "grids")
    return replace(parse_grid(raw, path), source=read_within(path, MOST_BYTES))


def parse_grid(raw: dict[str, Any], path: Path) -> Grid:
    """The grid of an already read TOML document; `path` names it in errors and anchors `extends`."""
    top = Place(path)
    file = _grid_file(raw, top)
    check_keys(file.scenario, {"extends", *SECTIONS}, top.child("scenario"))
    axes = _axes(file, top)
    positions = Products(file.scenario, axes, top.child("axes")).positions(top.child("axes"))
    combinations = Combinations(axes, positions, Assembly(file.scenario, axes, path))
    hashes = [combinations.hash(i) for i in range(len(combinations))]
    _check_any_runs(combinations, top)
    combinations.forget()
    name = _grid_hash(file.name, axes, combinations, hashes)
    compare = _compared(file.compare, axes, combinations, top.child("compare"))
    firsts = _firsts(hashes)
    return Grid(path, file.name, file.title, axes, combinations, firsts, name, notes=file.notes, compare=compare)


def _grid_file(table: dict[str, Any], place: Place) -> GridFile:
    fields = normalise(current(table, "grid", place), GridFile, place.path, place.key)
    for field in msgspec.structs.fields(GridFile):
        if field.required and field.name not in fields:
            raise place.child(field.name).fault("missing")
    return GridFile(**fields)


def _axes(file: GridFile, top: Place) -> tuple[Axis, ...]:
    place = top.child("axes")
    if not file.axes:
        raise place.fault("expected at least one axis")
    sample = None if file.sample is None else read_sample(file.sample, top.child("sample"))
    read = [read_axis(name, v, place.child(name), sampled=sample is not None) for name, v in file.axes.items()]
    drawn = [axis for axis in read if axis.drawn]
    if sample is not None and not drawn:
        raise top.child("sample").fault("nothing to draw: every axis is a list or a range with step or count")
    values = iter(_drawn(sample, drawn) if sample else ())
    axes = tuple(replace(axis, values=next(values)) if axis.drawn else axis for axis in read)
    check_axes(axes, place)
    return axes


def _drawn(sample: Sample, axes: list[Axis]) -> list[list[Number]]:
    ends: list[Any] = [(*axis.values, axis.drawn) for axis in axes]
    return draw(sample, ends)


def _check_any_runs(combinations: Combinations, top: Place) -> None:
    first = combinations[0].refused
    if first and all(combination.refused for combination in combinations):
        raise top.fault(f"no combination can run; the first: {first}")


def _compared(
    asked: Sequence[str] | None, axes: Sequence[Axis], combinations: Combinations, place: Place
) -> Compared | None:
    """Two different policies of the grid, by what they are called there."""
    if asked is None:
        return None
    policies = competing(axes)
    known = {joined(combinations.labels(i), policies) for i in range(len(combinations))} - {""}
    for i, label in enumerate(asked):
        if label not in known:
            hint = choices(known, label) if known else "no axis sets the policy"
            raise place.item(i).fault(hint, label)
    ours, other = asked
    if ours == other:
        raise place.fault("expected two different policies")
    return ours, other


def _firsts(hashes: list[str]) -> "array[int]":
    first: dict[str, int] = {}
    return array("i", (first.setdefault(found, i) for i, found in enumerate(hashes)))


def _grid_hash(name: str, axes: Sequence[Axis], combinations: Combinations, hashes: list[str]) -> str:
    digest = sha256(msgspec.json.encode([name, [axis.name for axis in axes]]))
    for part in _asked(combinations, hashes):
        digest.update(part)
    return digest.hexdigest()[:8]


def _asked(combinations: Combinations, hashes: list[str]) -> Iterator[bytes]:
    for i, found in enumerate(hashes):
        yield msgspec.json.encode([combinations.labels(i), found])
