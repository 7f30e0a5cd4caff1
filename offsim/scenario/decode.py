"""Between a TOML document and typed structs: units to SI, plain numbers to quantities, checked values."""

import re
import types
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from .allowed import allowed_words, check, limits, members, peel
from .faults import Place
from .quantity import MOST_POINTS, Curve, Quantity
from .units import dimension_of, key_names, preferred_key, to_si
from .wording import choices, one_line, shown

STEP = re.compile(r"[^.\[\]]+")
CURVE_SIZE = Annotated[float, Meta(gt=0, le=1e18)]
QUANTITY_WORDS = "a number, or a table with value, provenance, source"
CURVE_WORDS = "a number, or a table with points, provenance, source"


def normalise(
    table: dict[str, Any], kind: Any, path: Path | None, prefix: str = "", allowed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`table` with checked SI values under the field names of struct `kind`; ScenarioError if one is wrong.

    `allowed` are further keys to name in the message. Required keys are not asked for, since a table may
    extend another, except in quantities and curves: they become structs, which replace and don't merge.
    """
    return _fields(table, kind, Place(path, prefix), allowed)


def _fields(table: dict[str, Any], kind: Any, place: Place, also: tuple[str, ...] = ()) -> dict[str, Any]:
    struct = _variant(kind, table, place)
    hints = _hints(struct)
    known = known_keys(struct)
    result: dict[str, Any] = {}
    for key, value in table.items():
        if key == struct.__struct_config__.tag_field:
            result[key] = value
            continue
        if key not in known:
            raise place.child(key).fault(_unknown_key(key, struct, also))
        field, factor = known[key]
        if field in result:
            raise place.child(key).fault(f"{field} is given twice, with different units; keep one")
        result[field] = _value(value, hints[field], place.child(key), factor)
    return result


@cache
def _hints(struct: Any) -> dict[str, Any]:
    return get_type_hints(struct, include_extras=True)


@cache
def known_keys(struct: Any) -> dict[str, tuple[str, float]]:
    """Every key that a file may use, with the field it means and the factor to SI."""
    hints = _hints(struct)
    return {
        key: (field, factor)
        for field in struct.__struct_fields__
        for key, factor in key_names(field, dimension_of(hints[field])).items()
    }


def _variant(kind: Any, table: dict[str, Any], place: Place) -> Any:
    """The struct of a tagged union that the table's tag selects (kind itself if it is no union)."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    variants = {str(member.__struct_config__.tag): member for member in get_args(kind)}
    tag_field = str(next(iter(variants.values())).__struct_config__.tag_field)
    if tag_field not in table:
        raise place.child(tag_field).fault(f"missing; {choices(variants)}")
    tag = table[tag_field]
    if not isinstance(tag, str) or tag not in variants:
        raise place.child(tag_field).fault(choices(variants, tag), tag)
    return variants[tag]


def _unknown_key(key: str, struct: Any, also: tuple[str, ...]) -> str:
    """Why a key is wrong: its unit, or its name."""
    hints = _hints(struct)
    base = key if key in hints else key.rpartition("_")[0]
    dimension = dimension_of(hints[base]) if base in hints else None
    if dimension:
        return f"needs its unit in the key: {', '.join(key_names(base, dimension))}"
    names = {preferred_key(field, dimension_of(hints[field])) for field in struct.__struct_fields__}
    tag = struct.__struct_config__.tag_field
    return f"unknown key; {choices({*names, *also, *([tag] if tag else [])}, key)}"


def _plain(annotation: Any) -> Any:
    """The type inside Annotated and Optional."""
    kind = peel(annotation)[0]
    if get_origin(kind) in (Union, types.UnionType):
        inner = members(kind)
        return _plain(inner[0]) if len(inner) == 1 else kind
    return _plain(kind) if kind is not annotation else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _value(value: Any, annotation: Any, place: Place, factor: float = 1.0) -> Any:
    """One field's value in SI."""
    kind = _plain(annotation)
    if kind is Quantity:
        return _quantity(value, annotation, place, factor)
    if kind is Curve:
        return _curve(value, annotation, place, factor)
    if _is_struct(kind):
        return _fields(_table(value, place), kind, place)
    if get_origin(kind) is tuple and _is_struct(_plain(get_args(kind)[0])):
        return _tables(value, annotation, get_args(kind)[0], place)
    if get_origin(kind) is dict and dimension_of(get_args(kind)[1]):
        entry = get_args(kind)[1]
        return {k: _named_curve(v, entry, place.child(k)) for k, v in _table(value, place).items()}
    check(value, annotation, place, factor)
    return to_si(value, factor) if factor != 1.0 else value


def _table(value: Any, place: Place, what: str = "a table") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.fault(f"expected {what}", value)
    return value


def _tables(value: Any, annotation: Any, entry: Any, place: Place) -> list[Any]:
    """An array of tables."""
    if not isinstance(value, list):
        raise place.fault("expected an array of tables", value)
    if not value and any(meta.min_length for meta in peel(annotation)[1]):
        raise place.fault("expected at least one table", value)
    return [_value(item, entry, place.item(i)) for i, item in enumerate(value)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(body: dict[str, Any], struct: Any, place: Place) -> None:
    """Every required field of a struct that cannot be completed by merging."""
    for field in msgspec.structs.fields(struct):
        if field.required and field.name not in body:
            raise place.child(field.name).fault(f"missing; expected {_expected(field.type)}")


def _expected(annotation: Any) -> str:
    names = allowed_words(annotation)
    return f"one of {', '.join(names.split(' or '))}" if names.count(" or ") > 1 else names


def _quantity(value: Any, annotation: Any, place: Place, factor: float) -> Quantity:
    """A plain number (its source is the file) or a table that says where the number comes from."""
    number = Annotated[float, limits(annotation)]
    source = one_line(place.path.name) if place.path else "command line"
    if _is_number(value):
        check(value, number, place, factor)
        return Quantity(float(to_si(value, factor)), "given", source)
    table = _table(value, place, QUANTITY_WORDS)
    if "value" in table:
        check(table["value"], number, place.child("value"), factor)
    body = _fields(table, Quantity, place)
    _require(body, Quantity, place)
    if "interval" in body:
        _check_interval(body["interval"], body["value"], place.child("interval"))
        body["interval"] = tuple(float(to_si(end, factor)) for end in body["interval"])
    return Quantity(**{**body, "value": float(to_si(body["value"], factor))})


def _check_interval(interval: list[float], value: float, place: Place) -> None:
    low, high = interval
    if low > high:
        raise place.fault("expected [low, high] with low <= high", interval)
    if not low <= value <= high:
        raise place.fault(f"expected an interval that contains value = {shown(value)}", interval)


def _curve(value: Any, annotation: Any, place: Place, factor: float) -> Curve:
    """Points of (size, value), or one number for every size."""
    number = Annotated[float, limits(annotation)]
    if _is_number(value) or (isinstance(value, dict) and "value" in value and "points" not in value):
        same = _quantity(value, annotation, place, factor)
        return Curve(((1.0, same.value),), same.provenance, same.source, same.condition)
    table = _table(value, place, CURVE_WORDS)
    if "points" in table:
        _check_points(table["points"], number, place.child("points"), factor)
    body = _fields({key: entry for key, entry in table.items() if key != "points"}, Curve, place)
    body |= {"points": table["points"]} if "points" in table else {}
    _require(body, Curve, place)
    return Curve(**{**body, "points": tuple((float(x), float(to_si(y, factor))) for x, y in body["points"])})


def _check_points(points: Any, number: Any, place: Place, factor: float) -> None:
    if not isinstance(points, list) or not points:
        raise place.fault("expected an array of [size, value] pairs, at least one", points)
    if len(points) > MOST_POINTS:
        raise place.fault(f"{len(points):,} points; expected at most {MOST_POINTS:,}")
    for i, point in enumerate(points):
        if not isinstance(point, list) or len(point) != 2:
            raise place.item(i).fault("expected a pair [size, value]", point)
        check(point[0], CURVE_SIZE, place.item(i).item(0))
        check(point[1], number, place.item(i).item(1), factor)
    for i, (before, after) in enumerate(pairwise(points)):
        if after[0] <= before[0]:
            raise place.item(i + 1).fault(f"expected increasing sizes, after {shown(before[0])}", after)


def _named_curve(entry: Any, annotation: Any, place: Place) -> Curve:
    """An entry of a table of curves, whose unit stands inside it: ``{ points_TFLOPS = ... }``."""
    dimension = dimension_of(annotation)
    assert dimension is not None
    keys = key_names("points", dimension)
    wanted = preferred_key("points", dimension)
    table = _table(entry, place, f"a table with {wanted}, provenance, source")
    found = [key for key in keys if key in table]
    if len(found) != 1:
        missing = f"missing; needs one of {', '.join(keys)}"
        twice = "points are given twice, with different units; keep one"
        raise place.child(found[1] if found else wanted).fault(twice if found else missing)
    _check_points(table[found[0]], Annotated[float, limits(annotation)], place.child(found[0]), keys[found[0]])
    unknown = [key for key in table if key != found[0] and key not in Curve.__struct_fields__]
    if unknown or "points" in table:
        key = (*unknown, "points")[0]
        others = [field for field in Curve.__struct_fields__ if field != "points"]
        raise place.child(key).fault(f"unknown key; {choices([wanted, *others], key)}")
    body = {"points" if key == found[0] else key: value for key, value in table.items()}
    return _curve(body, annotation, place, keys[found[0]])


def describe(message: str, tables: Any, kind: Any) -> str:
    """msgspec's message about merged tables, in the file's words: what is missing or in conflict."""
    match = re.fullmatch(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", message, re.S)
    assert match is not None
    place, annotation = place_in_file((match["path"] or "").lstrip("."), kind)
    missing = re.fullmatch(r"Object missing required field `(\w+)`", match["what"])
    if missing:
        name, hint = _file_step(missing[1], _plain(annotation))
        return f"{place.child(name).key}: missing; expected {_expected_of(hint)}"
    if match["what"].startswith("Expected "):
        value = shown(_lookup(tables, match["path"] or ""))
        return f"{place.key}={value}: e{match['what'][1:]}"
    return f"{place.key}.{match['what']}".lstrip(".")


def _lookup(tables: Any, path: str) -> Any:
    """The value at a path of msgspec's; it leaves out which entry of a table it means, so then the table."""
    for step in STEP.findall(path):
        if step.isdigit() or step not in tables:
            return tables[int(step)] if step.isdigit() else tables
        tables = tables[step]
    return tables


def _expected_of(annotation: Any) -> str:
    kind = _plain(annotation)
    if kind in (Quantity, Curve):
        return QUANTITY_WORDS if kind is Quantity else CURVE_WORDS
    if get_origin(kind) is tuple and _is_struct(_plain(get_args(kind)[0])):
        return "an array of tables"
    return _expected(annotation)


def place_in_file(path: str, kind: Any) -> tuple[Place, Any]:
    """A path of SI field names as a place in a file, and the type that stands there."""
    place = Place(None)
    for step in STEP.findall(path):
        if step.isdigit():
            place = place.item(int(step))
            kind = get_args(_plain(kind))[0] if get_origin(_plain(kind)) is tuple else kind
            continue
        name, kind = _file_step(step, _plain(kind))
        place = place.child(name)
    return place, kind


def _file_step(step: str, struct: Any) -> tuple[str, Any]:
    """A field's key in files, with its unit, and its type."""
    if get_origin(struct) in (Union, types.UnionType):
        struct = next((m for m in get_args(struct) if step in getattr(m, "__struct_fields__", ())), None)
    if not _is_struct(struct) or step not in struct.__struct_fields__:
        return step, None
    hint = _hints(struct)[step]
    return preferred_key(step, dimension_of(hint)), hint
