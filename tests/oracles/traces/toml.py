"""A scenario as the file that says it, to run it again."""

from typing import Any, get_args, get_type_hints

from msgspec import Struct

from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import Scenario
from offsim.scenario.units import dimension_of, key_names, preferred_key
from tests.malformed.mutations import toml


def as_toml(scenario: Scenario) -> str:
    """One line per section."""
    return toml({"schema": 2, **_table(scenario)})


def _table(value: Any) -> dict[str, Any]:
    """A struct as a table, with units in its keys; what is None is left out."""
    hints = get_type_hints(type(value), include_extras=True)
    tag = value.__struct_config__.tag_field
    found: dict[str, Any] = {tag: value.__struct_config__.tag} if tag else {}
    for field in value.__struct_fields__:
        entry, dimension = getattr(value, field), dimension_of(hints[field])
        if entry is None or entry == "" or (field == "schema"):
            continue
        key = preferred_key(field, dimension)
        found[key] = _entry(entry, key_names(field, dimension)[key], hints[field])
    return found


def _entry(value: Any, factor: float, hint: Any) -> Any:
    if isinstance(value, Quantity):
        return _in_unit(value.value, factor)
    if isinstance(value, Curve):
        points = [[size, _in_unit(rate, factor)] for size, rate in value.points]
        return {"points": points, "provenance": value.provenance, "source": value.source}
    if isinstance(value, Struct):
        return _table(value)
    if isinstance(value, dict):
        return {key: _named(entry, get_args(hint)[1]) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_entry(entry, factor, hint) for entry in value]
    return _in_unit(value, factor) if isinstance(value, float) else value


def _in_unit(value: float, factor: float) -> float:
    """A number in SI in its unit: small ones to the last digit."""
    return value / factor if factor >= 1 else value * round(1 / factor)


def _named(value: Any, hint: Any) -> Any:
    """An entry of a table: a curve has its unit inside."""
    if not isinstance(value, Curve):
        return value
    key = preferred_key("points", dimension_of(hint))
    entry = _entry(value, key_names("points", dimension_of(hint))[key], hint)
    return {key: entry.pop("points"), **entry}
