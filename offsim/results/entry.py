"""One entry of the catalogue, or one file, in full: every value with its unit and source."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from msgspec import Struct
from rich.table import Table
from rich.text import Text

from offsim.program.load import load_scenario
from offsim.program.pages import pages
from offsim.scenario.load import CATALOGUE_KIND, load_model, load_node, load_part
from offsim.scenario.model import BlockList, Model
from offsim.scenario.node import Node
from offsim.scenario.node_values import file_key, shown_as_quantity
from offsim.scenario.operations import Attention, Elementwise, Linear, Operation
from offsim.scenario.parts import PARTS
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import Scenario
from offsim.scenario.units import dimension_of, usual_unit
from offsim.scenario.wording import visible

from .layout import Renderable, new_table, pairs, spaced
from .parameters import allowed, field_docs, first_line
from .tables import as_written, policy_fields

SUFFIX_WORDS = {"GBps": "GB/s", "TFLOPS": "TFLOP/s"}
"""Suffixes of keys that are no words themselves."""
NUMBERS = ("parameters", "blocks", "GiB in bf16", "GPUs", "H2D GB/s", "measured")
"""Columns of lists that stand right."""
COMFORTABLE = 20
"""Columns of a terminal in which a sentence reads well."""
UNKNOWN_AS_ZERO = ("workspace_per_pixel", "whole_per_pixel", "whole_per_frame")
"""Fields that are left out where they are zero."""
SHOWN_APART = ("blocks", "name", "switches", "interference")


def list_table(title: str, *columns: str, optional: tuple[str, ...] = ()) -> Table:
    """A table whose names stay on one line and whose text stands left."""
    table = new_table(title, *columns, optional=optional)
    table.columns[0].no_wrap = True
    for column in table.columns:
        column.justify = "right" if column.header in NUMBERS else "left"
    return table


def entry(name: str, kind: str) -> list[Renderable]:
    """One entry of the catalogue, or one file, in full; `kind` is the folder of the catalogue, or policies."""
    if kind == "models":
        return spaced(show_model(load_model(name)))
    if kind == "nodes":
        return spaced(show_node(load_node(name)))
    for part in PARTS:
        if kind == CATALOGUE_KIND[part]:
            return spaced(show_part(name, part))
    if kind == "scenarios":
        return spaced(show_scenario(load_scenario(name)))
    return spaced(show_policy(name))


def show_model(model: Model) -> Iterator[Renderable]:
    """Shapes, weights, FLOPs and sources of a model."""
    yield pairs([("model", model.name), *plain_fields(model)])
    for component in (model.text_encoder, model.vae):
        if component is not None:
            size = ("weights", f"{component.weight_bytes / 2**30:.2f} GiB in {component.dtype}")
            yield pairs([(component.name, ""), *plain_fields(component), size])
    for blocks in model.blocks:
        yield pairs([("block list", blocks.name), *plain_fields(blocks), *block_costs(blocks)])
        yield operation_table(blocks)


def plain_fields(struct: Struct) -> list[tuple[str, str]]:
    """Fields that are not structs themselves, with the keys that files have for them, as text."""
    values = {name: getattr(struct, name) for name in struct.__struct_fields__ if name not in SHOWN_APART}
    hints = get_type_hints(type(struct), include_extras=True)
    return [
        as_written(type(struct), name, value) if dimension_of(hints[name]) else (name, plain(value))
        for name, value in values.items()
        if not _empty(name, value)
    ]


def _empty(name: str, value: object) -> bool:
    of_structs = isinstance(value, tuple) and bool(value) and isinstance(value[0], Struct)
    return value in (None, "", {}) or isinstance(value, Struct) or of_structs or (name in UNKNOWN_AS_ZERO and not value)


def plain(value: object) -> str:
    """A value as tables show it.

    >>> plain((1, 2, 2)), plain(351394304), plain(0.875), plain(False)
    ('1, 2, 2', '351,394,304', '0.875', 'no')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} = {plain(item)}" for key, item in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def block_costs(blocks: BlockList) -> list[tuple[str, str]]:
    """Bytes of a block, and FLOPs that its products take per row."""
    rows: dict[str, float] = {}
    for operation in blocks.operations():
        if isinstance(operation, Linear):
            rows[operation.rows] = rows.get(operation.rows, 0.0) + flops(operation)
    costs = ", ".join(f"{value / 1e6:,.1f} MFLOP per {kind} row" for kind, value in rows.items())
    size = 2 * blocks.parameters
    weights = f"{size:,} bytes in bf16 ({size / 2**20:.1f} MiB), twice that in fp32"
    return [("weights of a block", weights), ("products of a block", costs)]


def flops(operation: Operation) -> float:
    """FLOPs per row of a product, per query and key of an attention."""
    if isinstance(operation, Linear):
        return 2.0 * operation.inputs * operation.outputs
    return 4.0 * operation.width if isinstance(operation, Attention) else 0.0


def operation_table(blocks: BlockList) -> Table:
    """The operations of one block, in order."""
    table = new_table("Operations of a block", "operation", "rows", "shape", "parameters", "cost of a row")
    table.columns[1].justify = table.columns[2].justify = "left"
    for operation in blocks.operations():
        table.add_row(operation.name, *operation_cells(operation))
    return table


def operation_cells(operation: Operation) -> tuple[str, str, str, str]:
    if isinstance(operation, Linear):
        shape, cost = f"{operation.inputs} x {operation.outputs}", f"{flops(operation) / 1e6:.1f} MFLOP"
        return operation.rows, shape, f"{operation.parameters:,}", cost
    if isinstance(operation, Elementwise):
        return operation.rows, "-", f"{operation.parameters:,}", f"{operation.elements:,.0f} elements"
    shape = f"{operation.heads} x {operation.head_dim}"
    return f"{operation.queries} to {operation.keys}", shape, "0", f"{flops(operation):,.0f} FLOP a key"


def show_node(node: Node) -> Iterator[Renderable]:
    """Every value of a node with unit, provenance and source."""
    yield pairs([("node", node.name), *plain_fields(node)])
    yield values_table(node)


def show_part(name: str, part: str) -> Iterator[Renderable]:
    """Every value of a part of nodes with unit, provenance and source."""
    values = load_part(name, part)
    yield pairs([(part, name), *plain_fields(values)])
    yield values_table(values)


def values_table(struct: Struct) -> Table:
    """The values of a node or of a part of one, with where they come from; its plain fields stand elsewhere."""
    table = list_table("Values", "key", "value, its origin and source")
    plain_names = {field for field, _ in plain_fields(struct)} | {"name"}
    for key, value, dimension in entries(struct):
        if isinstance(value, Quantity | Curve):
            table.add_row(file_key(key, value, type(struct)), value_words(value, dimension))
        elif key not in plain_names:
            table.add_row(key, value_words(value, dimension))
    return table


def value_words(value: Any, dimension: str | None) -> Text:
    """A value, where it comes from, and on the next line its source."""
    if not isinstance(value, Quantity | Curve):
        return Text(visible(plain(value)))
    source = f"{value.source}; {value.condition}" if value.condition else value.source
    return Text.assemble((measure(value, dimension), "bold"), f"  {value.provenance}\n{visible(source)}")


def entries(struct: Struct, path: str = "") -> Iterator[tuple[str, Any, str | None]]:
    """Everything in a struct as (key, value, dimension), innermost structs opened."""
    hints = get_type_hints(type(struct), include_extras=True)
    for field in struct.__struct_fields__:
        inner = [dimension_of(argument) for argument in get_args(hints[field])]
        dimension = dimension_of(hints[field]) or next(filter(None, inner), None)
        yield from _entries(f"{path}.{field}".lstrip("."), getattr(struct, field), dimension)


def _entries(path: str, value: Any, dimension: str | None) -> Iterator[tuple[str, Any, str | None]]:
    if isinstance(value, Struct) and not isinstance(value, Quantity | Curve):
        yield from entries(value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _entries(f"{path}.{key}", item, dimension)
    elif isinstance(value, tuple) and value and isinstance(value[0], Struct):
        for i, item in enumerate(value):
            yield from _entries(f"{path}[{i}]", item, dimension)
    elif value not in (None, ()):
        yield path, value, dimension


def measure(value: Quantity | Curve, dimension: str | None) -> str:
    """A value in the unit that people use for it; of a curve, every point.

    >>> measure(Quantity(55.2e9, "measured", "probe", interval=(55e9, 55.4e9)), "rate")
    '55.2 GB/s [55-55.4]'
    """
    suffix, factor = usual_unit(dimension, shown_as_quantity(value).value) if dimension else ("", 1.0)
    unit = SUFFIX_WORDS.get(suffix, suffix)
    if isinstance(value, Curve):
        if len(value.points) == 1:
            return f"{value.points[0][1] / factor:.6g} {unit}"
        points = ", ".join(f"{height / factor:.6g} at {size:,.0f}" for size, height in value.points)
        return f"{unit}: {points}"
    shown = f"{value.value / factor:.6g} {unit}".strip()
    if value.interval is None:
        return shown
    low, high = value.interval
    return f"{shown} [{low / factor:.6g}-{high / factor:.6g}]"


def show_policy(name: str) -> Iterator[Renderable]:
    """A policy's parameters: what they may be and what they mean."""
    kind = pages()[name].parameters
    yield pairs([("policy", name), ("what it is", first_line(kind))])
    table = list_table("Parameters", "name", "allowed", "default", "meaning")
    hints, docs = get_type_hints(kind, include_extras=True), field_docs(kind)
    for field, _, default in policy_fields(kind()):
        key, shown = as_written(kind, field, default)
        table.add_row(key, Text(allowed(hints[field])), shown, Text(docs.get(field, "")))
    yield table


def show_scenario(scenario: Scenario) -> Iterator[Renderable]:
    """What a scenario asks, completed."""
    policy = scenario.policy.tag
    head = [("scenario", scenario.name), ("title", scenario.title), ("model", scenario.model.name)]
    yield pairs([row for row in (*head, ("node", scenario.node.name)) if row[1]])
    yield pairs([("workload", ""), *plain_fields(scenario.workload)])
    yield pairs([("policy", policy), *plain_fields(scenario.policy)])
