"""The verbs that list and show the catalogue, and how every verb writes its answer."""

import sys
from typing import TYPE_CHECKING

from offsim.scenario.scenario import ScenarioError

if TYPE_CHECKING:
    from offsim.results.layout import Renderable

FINE = 0


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
        close = get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else "see models, nodes, policies, scenarios"
        raise ScenarioError(f"{name!r}: not in the catalogue; {hint}")
    return emit(*listing.entry(name))


def emit(*parts: "Renderable") -> int:
    """Tables and text on standard output; returns the exit code."""
    from offsim.results.layout import render

    return write(render(*parts))


def write(text: str) -> int:
    """Text on standard output, at once; returns the exit code."""
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
    return FINE
