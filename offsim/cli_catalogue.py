"""The verbs that list and show the catalogue, and how every verb writes its answer."""

import json
import os
import re
import sys
from typing import TYPE_CHECKING

from offsim.scenario.scenario import ScenarioError
from offsim.scenario.wording import LONGEST_VALUE, shown, visible

if TYPE_CHECKING:
    from offsim.results.layout import Renderable

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

    return emit(listing.models())


def nodes() -> int:
    """List the nodes of the catalogue: GPUs, links, and how much of each profile was measured.

    For example:
      offsim nodes
      offsim show h100-pcie
    """
    from offsim.results import listing

    return emit(listing.nodes())


def policies() -> int:
    """List the offload policies with their versions and parameters.

    For example:
      offsim policies
      offsim show sglang-layerwise
    """
    from offsim.results import listing

    return emit(listing.policies())


def scenarios() -> int:
    """List the scenarios of the catalogue.

    For example:
      offsim scenarios
      offsim run wan2.2-8xh100-nvlink-layerwise
    """
    from offsim.results import listing

    return emit(listing.scenarios())


def show(name: str, /) -> int:
    """Show a model, node, policy or scenario of the catalogue with every value and its source.

    For example:
      offsim show wan2.2-t2v-a14b
      offsim show h100-pcie
      offsim show sglang-layerwise

    Parameters
    ----------
    name
        A name that `offsim models`, `nodes`, `policies` or `scenarios` lists.
    """
    from difflib import get_close_matches

    from offsim.results import listing

    known = listing.entry_names()
    if name not in known:
        close = get_close_matches(name[:LONGEST_VALUE], known, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else "see models, nodes, policies, scenarios"
        raise ScenarioError(f"{shown(name)}: not in the catalogue; {hint}")
    return emit(*listing.entry(name))


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
