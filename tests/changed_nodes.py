"""Nodes with some of their values changed, by the keys that results name them by."""

from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from offsim.scenario.interference import Interference
from offsim.scenario.node import Node
from offsim.scenario.quantity import Curve, Quantity

Slowdown = tuple[str, str, Quantity]
"""Victim (a class of kernels or a kind of collective), aggressor, how much longer the one takes beside the other."""
ASIDE = {"H2D": "h2d", "D2H": "d2h"}
Change = Callable[[str, Quantity | Curve], Quantity | Curve]


def changed_node(node: Node, change: Change) -> Node:
    """A node with what `change` makes of each (key, value)."""
    return _changed("", node, change)


def interfering(node: Node, entries: Iterable[Slowdown]) -> Node:
    """A node of which exactly these things slow each other."""
    by: dict[str, dict[str, Quantity]] = {}
    for victim, aggressor, slowdown in entries:
        by.setdefault(victim, {})[ASIDE.get(aggressor, "collective")] = slowdown
    tables = {victim.replace("-", "_"): Interference(**fields) for victim, fields in by.items()}
    kernels = {v: tables.get(v, Interference()) for v in node.gpu.interference.__struct_fields__}
    node = replace(node, gpu=replace(node.gpu, interference=replace(node.gpu.interference, **kernels)))
    kinds = node.wiring.collectives
    if kinds is None:
        return node
    changed = {
        kind: replace(getattr(kinds, kind), interference=tables.get(kind, Interference()))
        for kind in ("all_to_all", "all_gather")
    }
    return node.rewired(collectives=replace(kinds, **changed))


def slowdowns(node: Node) -> dict[tuple[str, str], float]:
    """(victim, aggressor) -> how much longer the one takes beside the other."""
    victims = {(v, "collective"): getattr(node.gpu.interference, v) for v in node.gpu.interference.__struct_fields__}
    kinds = node.wiring.collectives
    if kinds is not None:
        victims["all-to-all", "all-gather"] = kinds.all_to_all.interference
        victims["all-gather", "all-to-all"] = kinds.all_gather.interference
    return {
        (victim, aggressor): slowdown.value
        for (victim, other), table in victims.items()
        for aggressor, slowdown in (("H2D", table.h2d), ("D2H", table.d2h), (other, table.collective))
        if slowdown is not None
    }


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
