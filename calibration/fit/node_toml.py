"""A node as the text of its profile: the one place where fitted values meet their keys, units and digits.

What offsim.scenario.node says of a field makes its key: the name, and the unit of its dimension. Plain values stand
before tables, as TOML wants it; numbers have six significant digits. What a node takes for granted anyway is left out.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from msgspec import NODEFAULT, Struct, structs

from offsim.scenario.gpu import Clock
from offsim.scenario.host import Overheads
from offsim.scenario.node import Node
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.schema_1 import SCHEMA
from offsim.scenario.units import SUFFIXES, dimension_of

OTHER_UNITS = {"workspace": "MiB", "window": "ms", "averaging": "ms"}
"""Field -> the unit of its key, where the usual one of its dimension would give long numbers."""
KEY_ORDER: dict[type, tuple[str, ...]] = {
    Clock: (
        "limit",
        "burst",
        "averaging",
        "idle",
        "collective",
        "copy",
        "window",
        "power_exponent",
        "energy",
        "knee",
    ),
    Overheads: ("launch", "copy", "event", "allocation", "synchronize", "collective"),
}
"""The order of a table's keys, where it is not that of the fields."""
EVEN_IF_USUAL = ("unpack",)
"""Fields that a profile has whatever their value: it says how fast replays unpack."""


class KeyUnit(NamedTuple):
    """How a profile has a value: what its key ends in, and the factor from there to SI."""

    suffix: str
    factor: float


def unit_of(part: type[Struct], field: str) -> KeyUnit:
    """The unit in which a profile has this field of a part of a node; no suffix and factor 1 for a plain number."""
    annotation = next(one.type for one in structs.fields(part) if one.name == field)
    dimension = dimension_of(annotation) or next(filter(None, map(dimension_of, get_args(annotation))), None)
    if dimension is None:
        return KeyUnit("", 1.0)
    factors = SUFFIXES[dimension]
    suffix = OTHER_UNITS.get(field) or next(iter(factors))
    return KeyUnit(suffix, factors[suffix])


def six_digits(value: float) -> str:
    """A number with six significant digits.

    >>> six_digits(55.4387123), six_digits(2.0), six_digits(0)
    ('55.4387', '2', '0')
    """
    return f"{value:.6g}"


def node_toml(node: Node) -> str:
    """The profile of a node, which offsim loads as any node file."""
    return "\n".join([f"schema = {SCHEMA}", *_lines(node, "")]) + "\n"


def _lines(part: Struct, path: str) -> Iterator[str]:
    """The plain values of a part, then its tables, each under its header; `path` is the part's own place."""
    written = dict(_written(part))
    for field, value in written.items():
        if not _is_table(value):
            unit = unit_of(type(part), field)
            yield f"{_joined(field, unit.suffix)} = {_text(value, unit.factor)}"
    for field, value in written.items():
        if _is_table(value):
            yield from _table(f"{path}.{field}" if path else field, value, unit_of(type(part), field))


def _table(path: str, value: Any, unit: KeyUnit) -> Iterator[str]:
    """A table under its header, or several of one name; `unit` is that of curves by name."""
    if isinstance(value, tuple):
        for part in value:
            yield from ("", f"[[{path}]]", *_lines(part, path))
    elif isinstance(value, Mapping):
        yield from ("", f"[{path}]")
        for name, curve in value.items():
            yield f"{name if name.isidentifier() else json.dumps(name)} = {_curve(curve, unit.factor, unit.suffix)}"
    else:
        yield from ("", f"[{path}]", *_lines(value, path))


def _written(part: Struct) -> Iterator[tuple[str, Any]]:
    """The fields of a part that its table has, in the order of its keys."""
    fields = {field.name: field for field in structs.fields(part)}
    for name in KEY_ORDER.get(type(part), tuple(fields)):
        value = getattr(part, name)
        usual = value == _default(fields[name]) and name not in EVEN_IF_USUAL
        if value is not None and value != {} and not usual:
            yield name, value


def _default(field: structs.FieldInfo) -> Any:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _is_table(value: Any) -> bool:
    first = value[0] if isinstance(value, tuple) else value
    return isinstance(first, Mapping | Struct) and not isinstance(first, Quantity | Curve)


def _text(value: Any, factor: float) -> str:
    """A value as TOML has it; `factor` divides SI into the key's unit."""
    if isinstance(value, Quantity):
        return _quantity(value, factor)
    if isinstance(value, Curve):
        return _curve(value, factor)
    return json.dumps(value)


def _quantity(quantity: Quantity, factor: float) -> str:
    shown = six_digits(quantity.value / factor)
    parts = [f"value = {shown}", f'provenance = "{quantity.provenance}"', f"source = {json.dumps(quantity.source)}"]
    if quantity.condition:
        parts.append(f"condition = {json.dumps(quantity.condition)}")
    if quantity.interval is not None:
        low, high = (six_digits(end / factor) for end in quantity.interval)
        # A node refuses an interval that its value lies outside of, which six digits or a fit's limit may bring about.
        if float(low) <= float(shown) <= float(high):
            parts.append(f"interval = [{low}, {high}]")
    return "{ " + ", ".join(parts) + " }"


def _curve(curve: Curve, factor: float, suffix: str = "") -> str:
    """The points of a curve; `suffix` is their unit where the key before them is a name without one."""
    pairs = ", ".join(f"[{six_digits(size)}, {six_digits(value / factor)}]" for size, value in curve.points)
    source = json.dumps(curve.source)
    return f'{{ {_joined("points", suffix)} = [{pairs}], provenance = "{curve.provenance}", source = {source} }}'


def _joined(field: str, suffix: str) -> str:
    return f"{field}_{suffix}" if suffix else field
