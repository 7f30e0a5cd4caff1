"""What a field of a scenario file allows, read off its type annotation: the check and its words.

Bounds are in SI; `factor` turns the file's unit into SI, so that messages speak the file's unit.
"""

import re
import types
from math import isfinite
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta

from .faults import Place
from .units import RANGES, dimension_of
from .wording import choices


def check(value: Any, annotation: Any, place: Place, factor: float = 1.0) -> None:
    """Raise ScenarioError unless `value`, as the file gives it, suits the annotation."""
    if _suits(value, annotation, factor):
        return
    names = _names(annotation)
    if names:
        raise place.fault(choices(map(str, names), value), value)
    raise place.fault(f"expected {allowed_words(annotation, factor)}{_hint(value, annotation)}", value)


def allowed_words(annotation: Any, factor: float = 1.0) -> str:
    """What a field allows, for messages."""
    kind, metas = peel(annotation)
    described = next((meta.description for meta in metas if meta.description), None)
    if described:
        return str(described)
    if _is_union(kind):
        return " or ".join(dict.fromkeys(allowed_words(member, factor) for member in members(kind)))
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if kind in (int, float):
        return ("an integer" if kind is int else "a number") + _bounds_words(limits(annotation), factor)
    if get_origin(kind) is tuple:
        most = next((meta.max_length for meta in metas if meta.max_length), None)
        return _array_words(get_args(kind), most, factor)
    if kind is str:
        return "text" if not any(meta.min_length for meta in metas) else "text that is not empty"
    return "true or false" if kind is bool else "a table"


def peel(annotation: Any) -> tuple[Any, list[Meta]]:
    """The type inside Annotated, and its annotations."""
    if get_origin(annotation) is Annotated:
        kind, *metas = get_args(annotation)
        return kind, [meta for meta in metas if isinstance(meta, Meta)]
    return annotation, []


def members(kind: Any) -> list[Any]:
    """The members of a union but None; TOML has no null."""
    return [member for member in get_args(kind) if member is not types.NoneType]


def limits(annotation: Any) -> Meta:
    """Bounds of a number, quantity or curve: its own, else those of its dimension."""
    kind, metas = peel(annotation)
    if _is_union(kind) and len(members(kind)) == 1:
        return limits(members(kind)[0])
    for meta in metas:
        if meta.extra and "within" in meta.extra:
            within: Meta = meta.extra["within"]
            return within
    own = next((meta for meta in metas if _bounds(meta) != (None, None)), None)
    return own or RANGES[dimension_of(annotation) or "none"]


def _bounds(meta: Meta) -> tuple[float | None, float | None]:
    low = meta.ge if meta.ge is not None else meta.gt
    return low, meta.le if meta.le is not None else meta.lt


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _names(annotation: Any) -> list[Any]:
    """The values of an enumeration, be it a union of several; empty for other types."""
    kind = peel(annotation)[0]
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    inner = [_names(member) for member in members(kind)] if _is_union(kind) else [[]]
    return [name for names in inner for name in names] if all(inner) else []


def _suits(value: Any, annotation: Any, factor: float) -> bool:
    kind, metas = peel(annotation)
    if _is_union(kind):
        return any(_suits(value, member, factor) for member in members(kind))
    if get_origin(kind) is Literal:
        return any(type(value) is type(name) and value == name for name in get_args(kind))
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, float):
        fits = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return fits and _within(value, limits(annotation), factor)
    if kind is str:
        return isinstance(value, str) and all(_text_suits(value, meta) for meta in metas)
    if get_origin(kind) is tuple:
        fits = isinstance(value, list) and all(_length_suits(value, meta) for meta in metas)
        return fits and _entries_suit(value, get_args(kind), factor)
    if get_origin(kind) is dict:
        entry = get_args(kind)[1]
        return isinstance(value, dict) and all(_suits(item, entry, factor) for item in value.values())
    return True


def _entries_suit(entries: list[Any], kinds: tuple[Any, ...], factor: float) -> bool:
    if kinds[-1] is Ellipsis:
        return all(_suits(entry, kinds[0], factor) for entry in entries)
    return len(entries) == len(kinds) and all(map(_suits, entries, kinds, [factor] * len(kinds)))


def _within(value: float, bounds: Meta, factor: float) -> bool:
    low, high = _bounds(bounds)
    if isinstance(value, float) and not isfinite(value):
        return False
    if low is not None and (value < low / factor or (bounds.gt is not None and value <= low / factor)):
        return False
    return high is None or value < high / factor or (bounds.lt is None and value <= high / factor)


def _text_suits(text: str, meta: Meta) -> bool:
    return _length_suits(text, meta) and (meta.pattern is None or re.search(meta.pattern, text) is not None)


def _length_suits(value: str | list[Any], meta: Meta) -> bool:
    return (meta.min_length or 0) <= len(value) <= (meta.max_length or len(value))


def _bounds_words(bounds: Meta, factor: float) -> str:
    low, high = (None if end is None else f"{end / factor:.12g}" for end in _bounds(bounds))
    if low is not None and high is not None and bounds.gt is None and bounds.lt is None:
        return f" from {low} to {high}"
    above = "" if low is None else f" {'above' if bounds.gt is not None else 'from'} {low}"
    below = "" if high is None else f" {'below' if bounds.lt is not None else 'up to'} {high}"
    return above + (" and" if above and below else "") + below


def _array_words(kinds: tuple[Any, ...], most: int | None, factor: float) -> str:
    number = (f" of at most {most}" if most else "") if kinds[-1] is Ellipsis else f" of {len(kinds)}"
    return f"an array{number}, each {allowed_words(kinds[0], factor)}"


def _hint(value: Any, annotation: Any) -> str:
    """How to write a value that is nearly right."""
    if isinstance(value, float) and value.is_integer() and _suits(int(value), annotation, 1.0):
        return f"; write {int(value)}"
    if isinstance(value, str) and _looks_numeric(value):
        return "; a number has no quotes"
    return ""


def _looks_numeric(text: str) -> bool:
    try:
        return isfinite(float(text[:40]))
    except ValueError:
        return False
