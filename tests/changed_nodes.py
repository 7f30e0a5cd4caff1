"""Nodes with some of their values changed, by the keys that results name them by."""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from offsim.scenario.node import Node
from offsim.scenario.quantity import Curve, Quantity

Change = Callable[[str, Quantity | Curve], Quantity | Curve]


def changed_node(node: Node, change: Change) -> Node:
    """A node with what `change` makes of each (key, value)."""
    return _changed("", node, change)


def with_own_values(node: Node) -> Node:
    """The same node, none of whose values is in two places."""
    return changed_node(node, lambda _, value: replace(value))


def times(value: Quantity | Curve, factor: float) -> Quantity | Curve:
    """A value so many times as large; a curve everywhere."""
    if isinstance(value, Quantity):
        return replace(value, value=factor * value.value)
    return replace(value, points=tuple((size, factor * at) for size, at in value.points))


def _changed(path: str, value: object, change: Change):
    if isinstance(value, Quantity | Curve):
        return change(path, value)
    if isinstance(value, Struct):
        fields = {field: getattr(value, field) for field in value.__struct_fields__}
        return type(value)(
            **{field: _changed(f"{path}.{field}".lstrip("."), entry, change) for field, entry in fields.items()}
        )
    if isinstance(value, dict):
        return {key: _changed(f"{path}.{key}", entry, change) for key, entry in value.items()}
    if isinstance(value, tuple) and any(isinstance(entry, Struct) for entry in value):
        return tuple(_changed(f"{path}[{i}]", entry, change) for i, entry in enumerate(value))
    return value
