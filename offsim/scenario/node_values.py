"""All values of a node, with the keys of their fields, and those that a file has for them."""

from functools import cache

from msgspec import Struct

from .decode import place_in_file
from .node import Node
from .quantity import Curve, Quantity
from .units import dimension_of, usual_unit

Keyed = tuple[str, Quantity | Curve]


def node_values(node: Node) -> list[Keyed]:
    """Every value and curve of a node as (key, value), in the order in which they stand there.

    Keys are made of field names: `wiring.pcie.h2d`, `host.sockets[0].read`, `gpu.attention.default`. See `file_key`.
    """
    found: list[Keyed] = []
    for field in node.__struct_fields__:
        _collect(field, getattr(node, field), found)
    return found


def shown_as_quantity(value: Quantity | Curve) -> Quantity:
    """A value as lists show it in one number: a curve by its largest."""
    if isinstance(value, Quantity):
        return value
    return Quantity(value.highest(), value.provenance, value.source, value.condition)


def file_key(key: str, value: Quantity | Curve, kind: type[Struct] = Node) -> str:
    """The key that a file has for a value of a node (or of a part of one), with its unit.

    >>> file_key("wiring.pcie.h2d", Quantity(55e9, "guess", "example"))
    'wiring.pcie.h2d_GBps'
    >>> file_key("gpu.attention.default", Curve(((1.0, 6e14),), "guess", "its unit stands with its points"))
    'gpu.attention.default'
    """
    dimension = _dimension(key, kind)
    return key if dimension is None else f"{key}_{usual_unit(dimension, shown_as_quantity(value).value)[0]}"


@cache
def _dimension(key: str, kind: type[Struct]) -> str | None:
    return dimension_of(place_in_file(key, kind)[1])


def _collect(path: str, value: object, found: list[Keyed]) -> None:
    """Add the values below a path."""
    if isinstance(value, Quantity) or isinstance(value, Curve):  # noqa: SIM101  (much faster than a union)
        found.append((path, value))
    elif isinstance(value, Struct):
        for field in value.__struct_fields__:
            _collect(f"{path}.{field}", getattr(value, field), found)
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(f"{path}.{key}", item, found)
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            _collect(f"{path}[{i}]", item, found)
