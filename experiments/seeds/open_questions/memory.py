"""The best schedule for so much memory a GPU, on every reading of the seeds' cluster: 4 x H100 PCIe, all else as it is.

Tried: what SGLang offers, and spread, sharded and plain streaming with as many blocks resident as fit; weights stay bf16. What
pins more host memory than the node has is out. CFG split is a column of its own: it runs one forward a rank instead of two and
pads to 22 latent frames instead of 24, which has little to do with offloading.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from rich.table import Table

from offsim.program.build import build
from offsim.results.memory import out_of_memory, phase_peaks
from offsim.results.predict import Prediction, predict
from offsim.scenario.scenario import Scenario

from ..common import FULL_MODEL, GIB, layerwise
from ..pcie_4x_h100 import Reading, scenario

CARDS = {24: 23.6, 32: 31.8, 48: 47.4, 80: 79.1}
"""GB on the box -> GiB that CUDA reports (catalogue nodes of such cards)."""
BLOCKS = 40
SPREAD = {"placement": "spread", "chunks": 8, "prefetch": 2}
Policy = dict[str, Any]


class Candidate(NamedTuple):
    """A schedule; `residents`: it takes as many blocks as fit."""

    name: str
    policy: Policy
    residents: bool = False
    work: dict[str, Any] = {}


def scheduled(name: str, **options: Any) -> Candidate:
    """Streaming with as many residents as fit."""
    return Candidate(name, {"name": "scheduled-layerwise", **options}, residents=True)


OFFERED = (
    Candidate("resident", {"name": "resident"}),
    Candidate("full-model, pinned", {"name": "full-model", "version": "pinned"}),
    Candidate("full-model, pageable", FULL_MODEL),
    Candidate("layerwise P=1", layerwise("v1")),
    Candidate("layerwise, strided", layerwise("v3", residency="strided"), residents=True),
)
"""By SGLang."""
OTHERS = (
    Candidate("spread", {"name": "scheduled-layerwise", **SPREAD}),
    scheduled("hybrid"),
    scheduled("hybrid, spread", **SPREAD),
    scheduled("hybrid, sharded", sharded=True),
)
SPLIT = tuple(candidate._replace(work={"cfg": "split"}) for candidate in (*OFFERED, *OTHERS))


def memory_table(efficiencies: dict[Reading, float]) -> Table:
    """For each reading and card the fastest that SGLang offers, the fastest of all, and that with CFG split over ranks."""
    table = Table(title="6. The best schedule by memory: denoising total of 27 steps, 4 GPUs", title_justify="left")
    for column in ("topology", "collectives", "card", "best that SGLang has", "best of all", "best with CFG split"):
        table.add_column(column, justify="right" if column == "card" else "left")
    for reading, efficiency in efficiencies.items():
        previous: list[str] = []
        for card, gib in CARDS.items():
            lists = (OFFERED, (*OFFERED, *OTHERS), SPLIT)
            row = [best(candidates, reading, efficiency, gib) for candidates in lists]
            shown = ["as above" if text == above else text for text, above in zip_longest(row, previous)]
            table.add_row(reading.name, reading.transport, f"{card} GB", *shown)
            previous = row
    return table


def best(candidates: Sequence[Candidate], reading: Reading, efficiency: float, gib: float) -> str:
    """The fastest that fits, in words; within 0.5 % of it, the one that is named first."""
    found = [(c, p) for c in candidates if (p := fitted(c, reading, efficiency, gib)) is not None]
    if not found:
        return "nothing fits"
    fastest = min(prediction.total for _, prediction in found)
    candidate, chosen = next(pair for pair in found if pair[1].total <= 1.005 * fastest)
    resident = getattr(chosen.scenario.policy, "resident_layers", 0)
    blocks = f", R={resident}" if candidate.residents and resident else ""
    low, high = chosen.total_interval
    total = f"{low:.0f} s" if f"{low:.0f}" == f"{high:.0f}" else f"{low:.0f} to {high:.0f} s"
    return f"{candidate.name}{blocks}: {total}, {chosen.peak_allocated / GIB:.0f} GiB"


def fitted(candidate: Candidate, reading: Reading, efficiency: float, gib: float) -> Prediction | None:
    """The candidate with as many residents as fit, if it fits at all."""
    if not candidate.residents:
        asked = _scenario(candidate, reading, efficiency, gib, 0)
        return predict(asked) if _fits(asked) else None
    low, high = -1, BLOCKS
    while low < high:
        middle = (low + high + 1) // 2
        if _fits(_scenario(candidate, reading, efficiency, gib, middle)):
            low = middle
        else:
            high = middle - 1
    return predict(_scenario(candidate, reading, efficiency, gib, low)) if low >= 0 else None


def _fits(asked: Scenario) -> bool:
    return out_of_memory(asked, phase_peaks(asked, build(asked))) is None


def _scenario(candidate: Candidate, reading: Reading, efficiency: float, gib: float, residents: int) -> Scenario:
    table = reading.table()
    node: dict[str, Any] = {"extends": table} if isinstance(table, str) else dict(table)
    node["gpu"] = {"memory_GiB": {"value": gib, "provenance": "given", "source": "the question"}}
    policy = {**candidate.policy, **({"resident_layers": residents} if candidate.residents else {})}
    return scenario(reading, policy, efficiency, node=node, flow_shift=12.0, **candidate.work)


MEMORY_VERDICT = (
    "Of schedules within 0.5 % of the fastest, the one named first is shown (resident, full-model, layerwise, then what nobody"
    " offers, without residents first). A card of 24 GB loses next to nothing against one of 80: copies can be placed where no exchange runs, so the schedule"
    " decides and not the memory. Residents pay where a link is so full that copies are late or meet exchanges wherever they are."
)
