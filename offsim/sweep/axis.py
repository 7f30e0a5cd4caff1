"""Axes: the things that a grid varies, each as the few points it can stand on.

An axis is written as tables with labels (any overrides), or short, as the values or the range of one key. With
`when` an axis or a point exists only where the named keys have the named values; where no point of an axis
exists, it stands on one empty point.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from offsim.scenario.allowed import check
from offsim.scenario.faults import Place
from offsim.scenario.load import SECTIONS
from offsim.scenario.wording import choices

from .overlay import leaves
from .ranges import RANGE_KEYS, Number, range_values

EMPTY = "-"
"""Label of an axis where it does not apply."""
NOT_SET = -1
"""The position on an axis that does not apply."""
NAMED_BY = {"policy": "policy.name", "node": "node.extends", "model": "model.extends"}
"""What a section's plain name stands for."""
LONGEST_LABEL = 100
MOST_AXES = 32
MOST_CONDITIONS = 300
"""Different ones of a whole grid: each is held against those of the other axes."""
Scalar = bool | int | float | str
Values = Annotated[tuple[Scalar, ...], Meta(min_length=1)]
When = tuple[tuple[str, tuple[Scalar, ...]], ...]
"""(key, allowed values) pairs that must all hold."""


class Point(NamedTuple):
    """One place on an axis: what it is called, what it changes, and where it exists."""

    label: str
    overrides: dict[str, Any]
    when: When = ()


@dataclass(frozen=True)
class Axis:
    """One thing that a grid varies: written-out points, or the values of one key."""

    name: str
    tables: tuple[Point, ...] = ()
    key: tuple[str, ...] = ()
    values: Sequence[Scalar] = ()
    when: When = ()
    drawn: str = ""
    """The scale (linear, log) of a range whose values a sample draws; they may repeat."""

    def __len__(self) -> int:
        return len(self.tables) or len(self.values)

    def point(self, position: int) -> Point:
        """The point at a position; the empty one at `ABSENT`."""
        if position == NOT_SET:
            return Point(EMPTY, {})
        if self.tables:
            return self.tables[position]
        value = self.values[position]
        return Point(text(value), _nest(self.key, value), self.when)

    def label(self, position: int) -> str:
        """The point's label alone, which costs less than the point."""
        if position == NOT_SET:
            return EMPTY
        return self.tables[position].label if self.tables else text(self.values[position])

    @property
    def keys(self) -> frozenset[str]:
        """The scenario keys that its points set, as `workload.gpus`."""
        if not self.tables:
            return frozenset({".".join(self.key)})
        return frozenset(key for point in self.tables for key in leaves(point.overrides))

    @property
    def sections(self) -> frozenset[str]:
        """The tables of a scenario that its points change."""
        return frozenset(key.split(".")[0] for key in self.keys)

    @property
    def conditions(self) -> tuple[When, ...]:
        """Every distinct condition on its points; () stands for none."""
        return tuple(dict.fromkeys(point.when for point in self.tables)) if self.tables else (self.when,)


def text(value: Scalar) -> str:
    """A value as a label."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nest(keys: Sequence[str], value: object) -> dict[str, Any]:
    return {keys[0]: _nest(keys[1:], value) if keys[1:] else value}


def read_axis(name: str, value: Any, place: Place, *, sampled: bool) -> Axis:
    """An axis as its file writes it; one to be drawn has its two ends as values, until it is drawn."""
    if not name.isidentifier() or name != name.lower():
        raise place.fault("an axis is named with lower-case letters, digits and _")
    if isinstance(value, dict):
        return _short_axis(name, value, place, sampled)
    if not isinstance(value, list) or not value:
        short = "{ key = ..., values = [...] } or { key = ..., from = ..., to = ..., step = ... }"
        raise place.fault(f"expected [[{place.key}]] tables, {short}", value)
    return Axis(name, tables=tuple(_point(entry, place.item(i)) for i, entry in enumerate(value)))


def _short_axis(name: str, value: dict[str, Any], place: Place, sampled: bool) -> Axis:
    """`{ key, values }` or `{ key, from, to, ... }`: each point is labelled with its value."""
    ranged = any(key in value for key in RANGE_KEYS)
    check_keys(value, ("key", "when", *(RANGE_KEYS if ranged else ("values",))), place)
    for key in ("key", *(("from", "to") if ranged else ("values",))):
        if key not in value:
            raise place.child(key).fault("missing")
    key = tuple(_scenario_key(value["key"], place.child("key")).split("."))
    when = _when(value.get("when"), place.child("when"))
    if not ranged:
        check(value["values"], Values, place.child("values"))
        for i, entry in enumerate(value["values"]):
            _check_label(text(entry), place.child("values").item(i))
        return Axis(name, key=key, values=tuple(value["values"]), when=when)
    if sampled and "step" not in value and "count" not in value:
        return Axis(name, key=key, values=_ends(value, place), when=when, drawn=value.get("scale", "linear"))
    return Axis(name, key=key, values=range_values(value, place), when=when)


def _ends(value: dict[str, Any], place: Place) -> tuple[Number, Number]:
    """The ends of a range to draw from, checked as if both were to be used."""
    low, *_, high = range_values({**value, "count": 2}, place)
    return low, high


def _scenario_key(key: Any, place: Place) -> str:
    check(key, str, place)
    section, *rest = key.split(".")
    if section not in SECTIONS or "" in rest:
        hint = f"expected a key of a scenario, as workload.gpus; it begins with {', '.join(SECTIONS)}"
        raise place.fault(hint, key)
    return str(key)


def _point(entry: Any, place: Place) -> Point:
    if not isinstance(entry, dict):
        raise place.fault("expected a table with a label and overrides", entry)
    check_keys(entry, {"label", "when", *SECTIONS}, place)
    if "label" not in entry:
        raise place.child("label").fault("missing")
    label = _check_label(entry["label"], place.child("label"))
    overrides = {key: value for key, value in entry.items() if key in SECTIONS}
    return Point(label, overrides, _when(entry.get("when"), place.child("when")))


def _check_label(label: Any, place: Place) -> str:
    """The label itself: it becomes a cell of tables."""
    fits = isinstance(label, str) and label.strip() and label.isprintable() and len(label) <= LONGEST_LABEL
    if not fits:
        raise place.fault(f"expected text on one line, at most {LONGEST_LABEL} characters", label)
    return str(label)


def _when(value: Any, place: Place) -> When:
    """A condition: a value or a list of allowed values by key, written `"policy.name"` or nested."""
    if value is None:
        return ()
    if not isinstance(value, dict) or not value:
        raise place.fault('expected a table of keys and values, as { "policy.name" = "fsdp" }', value)
    found = []
    for key, allowed in _flat(value):
        wanted = allowed if isinstance(allowed, list) else [allowed]
        check(wanted, Values, place.child(key))
        section = _scenario_key(key, place.child(key))
        found.append((NAMED_BY.get(section, section), tuple(wanted)))
    return tuple(sorted(found))


def _flat(table: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def competing(axes: Sequence[Axis]) -> list[int]:
    """Which axes set the policy: what they combine to is what a sweep compares."""
    return [i for i, axis in enumerate(axes) if "policy" in axis.sections]


def joined(labels: Sequence[str], chosen: Sequence[int]) -> str:
    """The labels on the chosen axes, without those of axes that do not apply."""
    return " ".join(labels[i] for i in chosen if labels[i] != EMPTY)


def check_keys(table: dict[str, Any], allowed: Iterable[str], place: Place) -> None:
    """Raise ScenarioError for a key that is not allowed."""
    names = list(allowed)
    for key in table:
        if key not in names:
            raise place.child(key).fault(f"unknown key; {choices(names, key)}")


def check_axes(axes: Sequence[Axis], place: Place) -> None:
    """Labels are unique on an axis, and no two axes set the same key at the same time."""
    conditions = sum(len(axis.conditions) for axis in axes)
    for count, most, what in ((len(axes), MOST_AXES, "axes"), (conditions, MOST_CONDITIONS, "different conditions")):
        if count > most:
            raise place.fault(f"{count:,} {what}; at most {most:,}")
    for axis in axes:
        twice = None if axis.drawn else _twice([axis.label(i) for i in range(len(axis))])
        if twice is not None:
            raise place.child(axis.name).fault(f"label {twice!r} is given twice")
        if EMPTY in (point.label for point in axis.tables):
            raise place.child(axis.name).fault(f"label {EMPTY!r} is what an axis has where it does not apply")
    for one, other in combinations(axes, 2):
        for key in sorted(one.keys & other.keys if _meet(one, other) else ()):
            raise place.child(other.name).fault(f"{key} is set by axes.{one.name} too")


def _twice(labels: list[str]) -> str | None:
    return next((label for label, times in Counter(labels).items() if times > 1), None)


def _meet(one: Axis, other: Axis) -> bool:
    """Whether some points of both can hold at once: no key that one wants is wanted differently by the other."""
    return any(_agree(dict(a), dict(b)) for a in one.conditions for b in other.conditions)


def _agree(one: dict[str, tuple[Scalar, ...]], other: dict[str, tuple[Scalar, ...]]) -> bool:
    return all(set(one[key]) & set(other[key]) for key in one.keys() & other.keys())
