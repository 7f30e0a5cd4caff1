"""The verbs that list and show the catalogue, and how every verb writes its answer."""

import json
import os
import re
import sys
from typing import TYPE_CHECKING

from offsim.scenario.faults import ScenarioError
from offsim.scenario.wording import LONGEST_VALUE, shown, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from offsim.results.layout import Renderable
    from offsim.results.metric_list import Metrics

FINE = 0
COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
NOT_ASCII = re.compile(r"[^\n -~]")


def models() -> int:
    """List the models of the catalogue.

    For example:
      offsim models
      offsim show wan2.2-t2v-a14b
    """
    from offsim.results import listing

    return emit(listing.models_table())


def nodes() -> int:
    """List the nodes of the catalogue and the parts that nodes are made of, and how much of each was measured.

    For example:
      offsim nodes
      offsim show h100-pcie
      offsim show rtx4090
    """
    from offsim.results import listing
    from offsim.results.layout import spaced

    return emit(*spaced([listing.nodes_table(), listing.parts_table()]))


def policies() -> int:
    """List the offload policies with their versions and parameters.

    For example:
      offsim policies
      offsim show sglang-layerwise
    """
    from offsim.results import listing

    return emit(listing.policies_table())


def scenarios() -> int:
    """List the scenarios of the catalogue.

    For example:
      offsim scenarios
      offsim run wan2.2-8xh100-nvlink-layerwise
    """
    from offsim.results import listing

    return emit(listing.scenarios_table())


def metrics() -> int:
    """List what offsim predicts: names in JSON and columns of sweeps, with unit and meaning.

    For example:
      offsim metrics
      offsim show steady_exposed_copy_s
    """
    from offsim.results.layout import spaced
    from offsim.results.metric_list import metric_tables

    return emit(*spaced(metric_tables(_metric_groups())))


def _metric_groups() -> "Mapping[str, Metrics]":
    """All metrics, those that only searches and sweeps have included."""
    from offsim.results.metric_list import METRIC_GROUPS
    from offsim.sweep.best.plain import WITH_ERROR
    from offsim.sweep.row import ORIGIN, OUTCOME

    return {
        **METRIC_GROUPS,
        "One of the best: best --json": WITH_ERROR,
        "A combination of a sweep: columns of sweeps": OUTCOME + ORIGIN,
    }


def show(name: str, /) -> int:
    """Show a model, node, part of nodes, policy, scenario or grid with every value and its source; or a metric.

    For example:
      offsim show h100-pcie
      offsim show my-node.toml
      offsim show steady_step_s

    Parameters
    ----------
    name
        A name that `offsim models`, `nodes`, `policies`, `scenarios` or `metrics` lists, or a .toml file: a scenario,
        model, node or grid.
    """
    from offsim.results.layout import spaced
    from offsim.results.listing import entry_names
    from offsim.results.metric_list import metric_entry
    from offsim.scenario.document_kind import kind_of_file

    known = entry_names()
    kind = kind_of_file(name) if name.endswith(".toml") else known.get(name)
    if kind:
        return emit(*_entry(name, kind))
    found = metric_entry(name, _metric_groups())
    if not found:
        raise ScenarioError(f"{shown(name)}: not in the catalogue; {_hint(name, known)}")
    return emit(*spaced(found))


def _entry(name: str, kind: str) -> "list[Renderable]":
    """An entry of the catalogue or a file in full."""
    if kind == "grids":
        from offsim.sweep.grid import load_grid
        from offsim.sweep.shown_grid import show_grid

        return show_grid(load_grid(name))
    from offsim.results.entry import entry

    return entry(name, kind)


def _hint(name: str, known: "Iterable[str]") -> str:
    """Which names are like one that isn't there."""
    from difflib import get_close_matches

    from offsim.scenario.load import FROM_CONFIG

    if name.endswith(".json"):
        return FROM_CONFIG
    names = [*known, *(metric.name for metrics in _metric_groups().values() for metric in metrics)]
    close = list(dict.fromkeys(get_close_matches(name[:LONGEST_VALUE], names, n=3, cutoff=0.4)))
    return f"did you mean {', '.join(close)}?" if close else "see models, nodes, policies, scenarios, metrics"


def emit(*parts: "Renderable") -> int:
    """Tables and text on standard output; returns the exit code."""
    from offsim.results.layout import render

    return write(render(*parts))


def write(text: str) -> int:
    """Text on standard output, at once; returns the exit code.

    The last line of defence: only what our own tables are made of goes out raw, which is text, ends of lines and, on a
    terminal, colours.
    """
    if sys.stdout is None:  # closed before the start
        return FINE
    colours = sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))
    pieces = COLOUR.split(text) if colours else [text]
    sys.stdout.write("".join(piece if i % 2 else visible(piece) for i, piece in enumerate(pieces)))
    sys.stdout.flush()
    return FINE


def write_json(content: object) -> int:
    """One JSON object on standard output, in ASCII: no terminal takes any of it for a command."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(content), indent=2).decode()
    return write(NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n")
