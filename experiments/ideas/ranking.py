"""What each idea comes to: over all cells, and on each topology one ranked table, what the total changes everywhere else, and why.

Ranked by the denoising total of the first cell (H100, 720p, 4 GPUs); what does not fit there stands last. Range: against
plain layerwise under both extremes of what is known about NCCL's weight beyond two ranks; where it contains 0, nothing
follows (~). Sentences compare steady steps; in brackets who offers an idea. All answers stand in results/answers.csv.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offsim.results.layout import GIB, new_table

from .asked import GPUS, SIZES, TOPOLOGIES, USABLE, Answer, Cell, all_answers, cells, node_of
from .gains import gains, plain_of, why
from .overview import overview
from .paper import paragraphs, shown

CSV = Path(__file__).with_name("results") / "answers.csv"
SIZE, NUMBER = "720p", 4
Answers = dict[Cell, list[Answer]]


def answer() -> str:
    """All topologies."""
    found = {name: all_answers(cells(name)) for name in TOPOLOGIES}
    _write(found)
    everything = {cell: answers for by_cell in found.values() for cell, answers in by_cell.items()}
    return "\n".join([overview(everything), *(_topology(name, answers) for name, answers in found.items())])


def _topology(name: str, found: Answers) -> str:
    topology = TOPOLOGIES[name]
    first = Cell(name, topology.nodes[0], SIZE, NUMBER)
    ranked = sorted(found[first], key=lambda a: (bool(a.lacking), a.total[0]))
    plain = plain_of(ranked)
    order = [a.idea.name for a in ranked]
    parts = [
        f"{topology.title}\n{'=' * len(topology.title)}\n{_rests_on(plain, first)}",
        shown(_ranked(ranked, plain, first)),
        *(shown(_everywhere(name, node, order, found)) for node in topology.nodes),
        "Why, at the first table's size and number:\n"
        + paragraphs(f"{_offered(a)}: {why(a, plain)}" for a in ranked if a is not plain),
    ]
    return "\n".join(parts)


def _offered(own: Answer) -> str:
    return f"{own.idea.name} [{own.idea.offered}]" if own.idea.offered else own.idea.name


def _rests_on(plain: Answer, cell: Cell) -> str:
    counts = dict(plain.provenance)
    measured = counts.pop("measured", 0)
    others = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    node = node_of(cell.topology, cell.node)
    return f"Uncalibrated: of the values of {node.name} that plain layerwise reads, {measured} are measured there; {others}.\n"


def _ranked(ranked: list[Answer], plain: Answer, cell: Cell) -> Any:
    title = f"{cell.node}, {cell.size}, {cell.gpus} GPUs"
    columns = ("step s", "range %", "switch s", "total s", "VRAM GiB", "pinned GiB, node", "lacks")
    table = new_table(title, "idea", *columns)
    for a in ranked:
        low, high = gains(a, plain)
        change = f"{low:+.1f}" if f"{low:+.1f}" == f"{high:+.1f}" else f"{low:+.1f} to {high:+.1f}"
        table.add_row(
            a.idea.name,
            f"{a.steady[0]:.3f}",
            "" if a is plain else change + _doubt(low, high),
            f"{a.switch:.2f}",
            f"{a.total[0]:.1f}",
            f"{a.peak / GIB:.1f}",
            f"{a.pinned / GIB:.0f}",
            a.lacking,
        )
    return table


def _doubt(low: float, high: float) -> str:
    return " ~" if low < 0 < high else ""


def _everywhere(name: str, node: str, order: list[str], found: Answers) -> Any:
    keys = [(size, gpus) for size in SIZES for gpus in GPUS]
    titles = [f"{size} {gpus}{f' ({USABLE[gpus]})' if gpus in USABLE else ''}" for size, gpus in keys]
    table = new_table(f"{node}: total against plain layerwise, %; in brackets what does not fit", "GPUs", *titles)
    for idea in order:
        row = []
        for size, gpus in keys:
            answers = found[Cell(name, node, size, gpus)]
            own = next((a for a in answers if a.idea.name == idea), None)
            row.append("refused" if own is None else _change(own, plain_of(answers)))
        table.add_row(idea, *row)
    return table


def _change(own: Answer, plain: Answer) -> str:
    low, high = gains(own, plain, total=True)
    text = f"{100 * (own.total[0] / plain.total[0] - 1):+.1f}{_doubt(low, high)}"
    return f"({text})" if own.lacking else text


def _write(found: dict[str, Answers]) -> None:
    with CSV.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(next(_rows(found))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rows(found))


def _rows(found: dict[str, Answers]) -> Iterator[dict[str, object]]:
    for by_cell in found.values():
        for cell, answers in by_cell.items():
            plain = plain_of(answers)
            for a in answers:
                low, high = gains(a, plain)
                yield {
                    **cell._asdict(),
                    "gpus_used": cell.used,
                    "idea": a.idea.name,
                    "step_s": f"{a.steady[0]:.6f}",
                    "step_low_s": f"{min(a.steady):.6f}",
                    "step_high_s": f"{max(a.steady):.6f}",
                    "change_low_percent": f"{low:.3f}",
                    "change_high_percent": f"{high:.3f}",
                    "switch_s": f"{a.switch:.6f}",
                    "total_s": f"{a.total[0]:.4f}",
                    "peak_GiB": f"{a.peak / GIB:.3f}",
                    "pinned_host_GiB": f"{a.pinned / GIB:.1f}",
                    "h2d_GB_per_step": f"{a.moved / 1e9:.3f}",
                    "lacks": a.lacking,
                    "measured_values": dict(a.provenance).get("measured", 0),
                    "other_values": sum(n for kind, n in a.provenance if kind != "measured"),
                    "cause": why(a, plain),
                }
