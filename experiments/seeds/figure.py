"""python -m experiments.seeds.figure [PATH]: the picture of docs/seeds-question.md, drawn from simulated blocks.

Needs matplotlib (the extra `figures`). Above: one block on each machine, exchanges and copies as they were simulated.
Below: a step of each schedule on the PCIe cluster, and 27 steps on both machines, measured where they were.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.spans import Span
from offsim.scenario.scenario import Scenario, Simulation

from . import nvlink_8x_h100
from .cluster.foretold import CENTRAL, POLICIES, Foretold, fitted, foretold
from .cluster.measure import asked
from .common import expected

KEPT = Path(__file__).parents[2] / "docs" / "seeds-question.svg"
COLOURS = {"compute": "#b8c0c8", "collective": "#e07b39", "H2D": "#3a6ea5"}
WORDS = {"compute": "kernels", "collective": "all-to-all", "H2D": "copy of the next block"}
LANES = {"compute": 0.62, "collective": 0.62, "H2D": 0.18}
BLOCK = 5
NVLINK_EFFICIENCY = 0.864
"""Fitted by nvlink_8x_h100."""
STACKED = {"first step": "#8d99a6", "switch step": "#e07b39", "all others": "#b8c0c8"}


class Total(NamedTuple):
    """27 steps of one mode on one machine."""

    title: str
    parts: tuple[float, float, float]
    """First, switch, all others [s]."""
    interval: tuple[float, float] | None = None


MEASURED = (
    Total("8 x H100 NVLink\nfull-model", (36.0, 31.3, 81.6)),
    Total("layerwise", (7.7, 3.3, 82.3)),
    Total("4 x H100 PCIe\nfull-model", (42.6, 49.7, 517.9)),
)
"""SGLang PR 15511; the clean second run of the seeds' author, whose first step is what its steps leave of 610.2 s."""


class Row(NamedTuple):
    """One block as simulated."""

    title: str
    spans: list[Span]
    begin: float
    end: float


def block_row(title: str, scenario: Scenario, *, proportional_weight: bool = True) -> Row:
    """The commands of one block on rank 0, and the copies meanwhile."""
    program = build(scenario)
    spans = [s for s in simulate(scenario, program, proportional_weight=proportional_weight).spans if s.rank == 0]
    later = [s for s in spans if s.start > spans[-1].end / 2 and s.kind in COLOURS]
    first = next(s.start for s in later if s.name.startswith(f"blocks.{BLOCK} "))
    last = next(s.end for s in later if s.start > first and s.name == f"blocks.{BLOCK} ffn")
    inside = [s for s in later if s.end > first and s.start < last]
    return Row(title, inside, first, last)


def rows() -> list[Row]:
    """The four blocks that tell the story."""
    reading = fitted(CENTRAL)
    pcie = {
        "4 x H100 PCIe, full-model: nothing is copied in a step": "no offload",
        "4 x H100 PCIe, layerwise: the copy meets the exchanges of q, k and v on the one uplink": "layerwise",
        "4 x H100 PCIe, the same bytes in eight chunks between the exchanges": "spread",
    }
    found = [block_row(title, asked(POLICIES[policy], **reading)) for title, policy in pcie.items()]
    nvlink = nvlink_8x_h100.scenario("layerwise", NVLINK_EFFICIENCY, steps=3)
    whole = replace(nvlink, simulation=Simulation(steady_state=False, block_period=False))
    return [*found, block_row("8 x H100 NVLink, layerwise: exchanges have links of their own", whole)]


def draw_block(axes: Any, row: Row, bottom: float) -> None:
    """One block as two lanes of bars."""
    axes.text(0, bottom + 0.95, row.title, fontsize=8.5, va="bottom")
    for span in row.spans:
        start, end = max(span.start, row.begin), min(span.end, row.end)
        bar = 1e3 * (start - row.begin), 1e3 * (end - start)
        axes.broken_barh([bar], (bottom + LANES[span.kind], 0.3), color=COLOURS[span.kind], linewidth=0)
    length = 1e3 * (row.end - row.begin)
    axes.text(length + 3, bottom + 0.55, f"{length:.0f} ms", fontsize=8.5, va="center")


def draw_blocks(axes: Any, found: list[Row]) -> None:
    """All of them, the first at the top."""
    for number, row in enumerate(reversed(found)):
        draw_block(axes, row, number * 1.4)
    for kind, colour in COLOURS.items():
        axes.bar([0], [0], color=colour, label=WORDS[kind])
    axes.legend(loc="lower right", fontsize=8.5, frameon=False)
    axes.set_yticks([])
    axes.set_ylim(0, 1.4 * len(found) + 0.1)
    axes.set_xlim(0, 1.12e3 * max(row.end - row.begin for row in found))
    axes.set_xlabel("milliseconds of one block, simulated", fontsize=8.5)
    axes.set_title("Why: what one block waits for", fontsize=10, loc="left")


def draw_steps(axes: Any, numbers: dict[str, Foretold], measured: float) -> None:
    """A steady step of each schedule on the PCIe cluster, with its interval."""
    found = [numbers[key] for key in STEPS.values()]
    at = range(1, len(found) + 1)
    sides = [n.central - n.low for n in found], [n.high - n.central for n in found]
    bars = {"fmt": "o", "color": COLOURS["H2D"], "capsize": 3, "label": "predicted"}
    axes.errorbar([n.central for n in found], at, xerr=sides, **bars)
    axes.plot([measured], [0], "s", color="black", label="measured")
    axes.axvline(measured, color="#8d99a6", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(found) + 1), ["full-model", *STEPS], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(20, 25)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    axes.set_xlabel("seconds of a steady step", fontsize=8.5)
    axes.set_title("What would fix it: 4 x H100 PCIe", fontsize=10, loc="left")


STEPS = {
    "layerwise": "layerwise, steady step",
    "1/4 copied, gathered": "1/4 copied by each rank, all-gather on the compute stream: step",
    "asked for at the FFN": "requested at the FFN, one block ahead: step",
    "at the FFN, two ahead": "requested at the FFN, two blocks ahead: step",
    "eight chunks, spread": "eight chunks between the exchanges, two blocks ahead: step",
}


def draw_totals(axes: Any, totals: list[Total]) -> None:
    """27 steps, stacked, on both machines."""
    bottoms = [0.0] * len(totals)
    for index, (word, colour) in enumerate(STACKED.items()):
        heights = [total.parts[index] for total in totals]
        axes.bar(range(len(totals)), heights, bottom=bottoms, color=colour, width=0.6, label=word)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    for number, (total, top) in enumerate(zip(totals, bottoms, strict=True)):
        if total.interval is not None:
            low, high = total.interval
            axes.errorbar([number], [top], yerr=[[top - low], [high - top]], fmt="none", ecolor="black", capsize=3)
        axes.text(number, max(top, *(total.interval or (top,))) + 12, f"{top:.0f} s", ha="center", fontsize=8.5)
    axes.set_xticks(range(len(totals)), [total.title for total in totals], fontsize=8)
    axes.set_ylim(0, 760)
    axes.set_ylabel("seconds of 27 steps", fontsize=8.5)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.set_title("Why they disagree: a switch against every step", fontsize=10, loc="left")


def totals(numbers: dict[str, Foretold]) -> list[Total]:
    """What was measured, and layerwise on the PCIe cluster as predicted."""
    step = numbers["layerwise, steady step"].central
    run = numbers["layerwise, 27 steps, the first as a steady one"]
    return [*MEASURED, Total("layerwise\n(predicted)", (step, step, run.central - 2 * step), (run.low, run.high))]


def draw(path: Path) -> None:
    """Draw all of it and write it."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.hashsalt": "seeds", "axes.spines.top": False, "axes.spines.right": False})
    from matplotlib import pyplot

    numbers = {number.name: number for number in foretold()}
    figure, axes = pyplot.subplot_mosaic(
        [["blocks", "blocks"], ["steps", "totals"]], figsize=(9.6, 7.6), height_ratios=[1.35, 1], layout="constrained"
    )
    draw_blocks(axes["blocks"], rows())
    draw_steps(axes["steps"], numbers, expected("cluster")["full-model steady step"].value)
    draw_totals(axes["totals"], totals(numbers))
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else KEPT)
