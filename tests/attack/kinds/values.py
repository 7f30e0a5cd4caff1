"""Legal values of a struct's fields, near their bounds: what each field allows is read off its type."""

from math import log10
from random import Random
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Meta

from offsim.scenario.allowed import limits, peel
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.units import dimension_of, key_names
from tests.attack.case import chance
from tests.malformed.mutations import Table

OURS = ("gpus", "sequence_parallel", "width", "height", "frames", "tokens", "name", "blocks", "embeddings", "compile")
"""Fields that depend on others: set by hand or not at all."""


def vary(random: Random, table: Table, struct: type, share: float) -> None:
    """Set a share of a struct's fields, in place of what the table has of them."""
    hints = get_type_hints(struct, include_extras=True)
    for key, value in settings(random, struct, share).items():
        for field, hint in hints.items():
            names = key_names(field, dimension_of(hint))
            if key in names:
                for name in names:
                    table.pop(name, None)
        table[key] = value


def settings(random: Random, struct: type, share: float, only: tuple[str, ...] = ()) -> Table:
    """A share of a struct's fields with legal values, under their keys."""
    found = {}
    for field, hint in get_type_hints(struct, include_extras=True).items():
        if field in OURS or (only and field not in only) or not chance(random, share):
            continue
        key, factor = random.choice(list(key_names(field, dimension_of(hint)).items()))
        value = legal_value(random, hint, factor)
        if value is not None:
            found[key] = value
    return found


def legal_value(random: Random, hint: Any, factor: float) -> Any:
    """A value that the annotation allows, in the unit of that factor; None where only a table will do."""
    kind = peel(hint)[0]
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        member = random.choice(members)
        return legal_value(random, hint if len(members) == 1 and _bounded(hint) else member, factor)
    if get_origin(kind) is Literal:
        return random.choice(get_args(kind))
    if kind is bool:
        return chance(random, 0.5)
    if kind in (int, float, Quantity, Curve):
        return _number(random, limits(hint), kind is int, factor)
    if get_origin(kind) is tuple and get_args(kind)[-1] is not Ellipsis:
        return [legal_value(random, member, 1.0) for member in get_args(kind)]
    return None


def _bounded(hint: Any) -> bool:
    return bool(peel(hint)[1])


def _number(random: Random, bounds: Meta, whole: bool, factor: float) -> float:
    """At a bound, next to it, or anywhere between on a logarithmic scale."""
    low = bounds.ge if bounds.ge is not None else bounds.gt or 0
    high = bounds.le if bounds.le is not None else bounds.lt or 1e30
    step = 1 if whole else (high - low) * 1e-9
    start = low if bounds.gt is None else low + step
    end = high if bounds.lt is None else high - step
    between = 10 ** random.uniform(log10(max(start, end * 1e-12, 1e-300)), log10(end))
    value = random.choice((start, end, start + step, between, between, between))
    value = min(max(value, start), end)
    return round(value) if whole else value / factor
