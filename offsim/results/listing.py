"""The catalogue as tables: what there is."""

from typing import get_args, get_type_hints

from msgspec import Struct
from rich.table import Table

from offsim.program.load import load_scenario
from offsim.program.pages import pages
from offsim.scenario import catalogue
from offsim.scenario.gpu import GPU
from offsim.scenario.load import CATALOGUE_KIND, load_model, load_node, load_part
from offsim.scenario.parts import PARTS
from offsim.scenario.quantity import Curve, Quantity

from .entry import COMFORTABLE, entries, list_table
from .parameters import first_line
from .tables import as_written, policy_fields


def models_table() -> Table:
    """A table of all models."""
    table = list_table("Models", "name", "title", "parameters", "blocks", "GiB in bf16")
    for name in catalogue.names("models"):
        model = load_model(name)
        experts = f"{model.experts} x " if model.experts > 1 else ""
        count = f"{experts}{model.parameters / 1e9:.2f} B"
        weight = f"{2 * model.experts * model.parameters / 2**30:.1f}"
        table.add_row(name, model.title, count, str(model.block_count), weight)
    return table


def nodes_table() -> Table:
    """A table of all nodes."""
    table = list_table("Nodes", "name", "title", "GPUs", "transport", "H2D GB/s", "measured", optional=("transport",))
    table.columns[1].min_width = COMFORTABLE
    for name in catalogue.names("nodes"):
        node = load_node(name)
        transport = node.wiring.collectives.transport if node.wiring.collectives else "-"
        rate = f"{node.wiring.pcie.h2d.value / 1e9:.1f}"
        table.add_row(name, node.title, str(node.gpus), transport, rate, measured(node))
    return table


def parts_table() -> Table:
    """All parts that nodes can be put together from."""
    table = list_table("Parts of nodes", "name", "part", "what it is", "measured")
    table.columns[2].min_width = COMFORTABLE
    for part in PARTS:
        for name in catalogue.names(CATALOGUE_KIND[part]):
            values = load_part(name, part)
            title = values.name if isinstance(values, GPU) else values.title
            table.add_row(name, part, title, measured(values))
    return table


def measured(values: Struct) -> str:
    """How many of a node's or a part's values were measured on it, of how many."""
    origins = [value.provenance for _, value, _ in entries(values) if isinstance(value, Quantity | Curve)]
    return f"{origins.count('measured')} of {len(origins)}"


def policies_table() -> Table:
    """A table of all policies with their parameters."""
    table = list_table("Policies", "name", "what it is", "versions", "other parameters")
    for name, page in pages().items():
        kind = page.parameters
        fields = get_type_hints(kind, include_extras=True)
        others = ", ".join(as_written(kind, f, default)[0] for f, _, default in policy_fields(kind()) if f != "version")
        table.add_row(name, first_line(kind), ", ".join(get_args(fields.get("version"))) or "-", others)
    return table


def scenarios_table() -> Table:
    """A table of all named scenarios."""
    table = list_table("Scenarios", "name", "title")
    for name in catalogue.names("scenarios"):
        table.add_row(name, load_scenario(name).title)
    return table


def entry_names() -> dict[str, str]:
    """Every catalogue name with its kind."""
    found = dict.fromkeys(pages(), "policies")
    for kind in (*(CATALOGUE_KIND[part] for part in PARTS), "models", "nodes", "scenarios", "grids"):
        found |= dict.fromkeys(catalogue.names(kind), kind)
    return found
