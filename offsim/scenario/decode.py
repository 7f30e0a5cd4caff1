"""Between a TOML document and typed structs: units to SI, plain numbers to quantities, readable errors."""

import re
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from .quantity import Curve, Quantity
from .scenario import ScenarioError
from .units import dimension_of, key_names, preferred_key


def normalise(
    table: dict[str, Any], kind: Any, path: Path, prefix: str = "", allowed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`table` with SI values under the field names of struct `kind`; unknown keys raise ScenarioError.

    `allowed` are further keys to name in the message. Types and ranges are not checked here.
    """
    struct = _variant(kind, table, path, prefix)
    hints = get_type_hints(struct, include_extras=True)
    known = {
        key: (field, factor)
        for field in struct.__struct_fields__
        for key, factor in key_names(field, dimension_of(hints[field])).items()
    }
    result: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{prefix}.{key}".lstrip(".")
        if key == struct.__struct_config__.tag_field:
            result[key] = value
            continue
        if key not in known:
            raise ScenarioError(f"{path}: {where}: unknown key; {_allowed_keys(struct, hints, allowed)}")
        field, factor = known[key]
        if field in result:
            raise ScenarioError(f"{path}: {where}: given twice with different units")
        result[field] = _value(value, hints[field], factor, path, where)
    return result


def _variant(kind: Any, table: dict[str, Any], path: Path, prefix: str) -> Any:
    """The struct of a tagged union that the table's tag selects (kind itself if it is no union)."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    variants = {member.__struct_config__.tag: member for member in get_args(kind)}
    tag_field = next(iter(variants.values())).__struct_config__.tag_field
    tag = table.get(tag_field)
    if not isinstance(tag, str) or tag not in variants:
        what = f"{prefix}.{tag_field}={tag!r}" if tag_field in table else f"{prefix}: missing key {tag_field!r}"
        raise ScenarioError(f"{path}: {what}: allowed are {', '.join(sorted(map(str, variants)))}")
    return variants[tag]


def _allowed_keys(struct: Any, hints: dict[str, Any], more: tuple[str, ...]) -> str:
    own = [preferred_key(field, dimension_of(hints[field])) for field in struct.__struct_fields__]
    return "allowed are " + ", ".join(sorted({*own, *more}))


def _plain(annotation: Any) -> Any:
    """The type inside Annotated and Optional."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not types.NoneType]
        if len(members) == 1:
            return _plain(members[0])
    return annotation


def _value(value: Any, annotation: Any, factor: float, path: Path, where: str) -> Any:
    """One field's value in SI."""
    kind = _plain(annotation)
    if kind is Quantity:
        return _quantity(value, factor, path, where)
    if kind is Curve:
        return _curve(value, factor, path, where)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(value, dict):
            raise ScenarioError(f"{path}: {where}={value!r}: expected a table")
        return normalise(value, kind, path, where)
    if get_origin(kind) is dict and isinstance(value, dict):
        item = get_args(kind)[1]
        return {name: _item(name, entry, item, path, where) for name, entry in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list):
        return [_value(entry, get_args(kind)[0], 1.0, path, f"{where}[{i}]") for i, entry in enumerate(value)]
    return value * factor if factor != 1.0 and _is_number(value) else value


def _item(name: str, entry: Any, annotation: Any, path: Path, where: str) -> Any:
    """An entry of a table of curves, whose unit stands inside it: ``{ points_TFLOPS = ... }``."""
    dimension = dimension_of(annotation)
    if dimension is None:
        return _value(entry, annotation, 1.0, path, f"{where}.{name}")
    keys = key_names("points", dimension)
    found = [key for key in keys if isinstance(entry, dict) and key in entry]
    if len(found) != 1:
        raise ScenarioError(f"{path}: {where}.{name}: expected a table with {preferred_key('points', dimension)}")
    body = {("points" if key == found[0] else key): value for key, value in entry.items()}
    return _curve(body, keys[found[0]], path, f"{where}.{name}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quantity(value: Any, factor: float, path: Path, where: str) -> Any:
    if _is_number(value):
        return {"value": float(value * factor), "provenance": "given", "source": path.name}
    if not isinstance(value, dict):
        raise ScenarioError(f"{path}: {where}={value!r}: expected a number or a table with value, provenance, source")
    body = normalise(value, Quantity, path, where)
    if _is_number(body.get("value")):
        body["value"] = float(body["value"] * factor)
    if isinstance(body.get("interval"), list):
        body["interval"] = [end * factor if _is_number(end) else end for end in body["interval"]]
    return body


def _curve(value: Any, factor: float, path: Path, where: str) -> Any:
    if _is_number(value):
        return {"points": [[1.0, float(value * factor)]], "provenance": "given", "source": path.name}
    if not isinstance(value, dict):
        raise ScenarioError(f"{path}: {where}={value!r}: expected a number or a table with points, provenance, source")
    if _is_number(value.get("value")) and "points" not in value:
        value = {"points": [[1.0, value["value"]]], **{k: v for k, v in value.items() if k != "value"}}
    body = normalise(value, Curve, path, where)
    points = body.get("points")
    if isinstance(points, list) and all(isinstance(p, list) and len(p) == 2 and all(map(_is_number, p)) for p in points):
        body["points"] = [[float(x), float(y * factor)] for x, y in points]
    return body


def describe(message: str, tables: dict[str, Any], kind: Any) -> str:
    """msgspec's message with the key as the file writes it and the offending value."""
    match = re.fullmatch(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", message, re.S)
    assert match is not None
    path, what = (match["path"] or "").lstrip("."), match["what"]
    key = _file_key(path, kind)
    missing = re.fullmatch(r"Object missing required field `(\w+)`", what)
    if missing:
        name = _file_key(f"{path}.{missing[1]}".lstrip("."), kind)
        return f"{name}: missing"
    value = _lookup(tables, path)
    shown = f"={value!r}" if not isinstance(value, dict | list) and path else ""
    return f"{key}{shown}: {what[:1].lower()}{what[1:]}" if key else what


def _steps(path: str) -> list[str]:
    return re.findall(r"[^.\[\]]+", path)


def _lookup(tables: Any, path: str) -> Any:
    for step in _steps(path):
        try:
            tables = tables[int(step)] if isinstance(tables, list | tuple) else tables[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return {}
    return tables


def _file_key(path: str, kind: Any) -> str:
    """A path of SI field names with the unit suffixes that a file would use."""
    shown, current = "", kind
    for step in _steps(path):
        if step == "..." or step.isdigit():
            shown += f"[{step}]"
            current = get_args(current)[0] if get_origin(current) is tuple else current
            continue
        name, current = _file_step(step, _plain(current))
        shown += f".{name}"
    return shown.lstrip(".")


def _file_step(step: str, struct: Any) -> tuple[str, Any]:
    if get_origin(struct) in (Union, types.UnionType):
        struct = next((m for m in get_args(struct) if step in getattr(m, "__struct_fields__", ())), None)
    if not hasattr(struct, "__struct_fields__") or step not in struct.__struct_fields__:
        return step, None
    hint = get_type_hints(struct, include_extras=True)[step]
    return preferred_key(step, dimension_of(hint)), _plain(hint)
