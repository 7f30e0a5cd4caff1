"""Six GPUs and 40 heads: what is legal, and what is best.

Ulysses gives each rank heads / degree, so the degree must divide 40; CFG split over six ranks needs a degree of three.
What remains: five GPUs for one request (one idle), four, or three requests on two each.
"""

from typing import Any

from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.results.layout import GIB, new_table
from offsim.scenario.scenario import RefusedScenario

from .asked import PLAIN, SIZES, SPREAD, TOPOLOGIES, Cell, Idea, answered, scenario_of
from .paper import shown

LAYOUTS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("Ulysses 6", 6, {}),
    ("CFG split, 2 x 3", 6, {"cfg": "split"}),
    ("Ulysses 5, one GPU idle", 5, {}),
    ("Ulysses 4, two GPUs idle", 4, {}),
    ("CFG split, 2 x 2, two GPUs idle", 4, {"cfg": "split"}),
    ("3 requests, Ulysses 2 each", 6, {"sequence_parallel": 2}),
)


def answer() -> str:
    """A table per topology."""
    return "\n".join(shown(_table(name)) for name in TOPOLOGIES)


def _table(name: str) -> Any:
    topology = TOPOLOGIES[name]
    columns = [f"{size} {what}" for size in SIZES for what in ("plain", "spread")]
    title = f"{topology.title}: {topology.nodes[0]}, a steady step of one request, s"
    table = new_table(title, "on six GPUs", *columns, "pinned GiB, node", "lacks")
    for layout, gpus, work in LAYOUTS:
        ideas = (Idea(layout, PLAIN.policy, work), Idea(layout, ScheduledLayerwise(prefetch=2, **SPREAD), work))
        cells = [Cell(name, topology.nodes[0], size, gpus) for size in SIZES]
        try:
            # All but USABLE is asked for here: a cell of six GPUs would use five.
            found = [answered(idea, scenario_of(cell, idea, gpus=gpus)) for cell in cells for idea in ideas]
        except RefusedScenario as refused:
            table.add_row(f"{layout}: refused ({refused.reason.partition(': ')[2].partition(' of ')[0]})")
            continue
        last = found[-1]
        table.add_row(layout, *(f"{a.steady[0]:.2f}" for a in found), f"{last.pinned / GIB:.0f}", last.lacking)
    return table
