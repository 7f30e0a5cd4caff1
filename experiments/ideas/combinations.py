"""Which ideas add up: every pair on every topology, beside what each does alone.

Added up means that what remains of a step is the product of what remains under each alone. Pairs are looked at where
plain layerwise loses most to its copies: 480p on four H100. Differences below 0.2 points count as none; pairs whose
verdict depends on what is not known about NCCL's weight are marked ~.
"""

from itertools import combinations
from typing import Any, NamedTuple

from offsim.results.layout import new_table

from .asked import PLAIN, SPREAD, TOPOLOGIES, Answer, Cell, Idea, answered, scenario_of, scheduled
from .gains import gains
from .paper import shown

SIZE, NUMBER = "480p", 4
NONE = 0.2
"""Points of a step."""


class Part(NamedTuple):
    """One idea as options of the policy and of the workload."""

    name: str
    options: dict[str, Any]
    work: dict[str, Any] = {}


PARTS = (
    Part("spread, P=2", {"prefetch": 2, **SPREAD}),
    Part("sharded", {"sharded": True}),
    Part("int8, unpacked", {"transfer_dtype": "int8"}),
    Part("int8, native", {}, {"weight_dtype": "int8"}),
    Part("hybrid, 20 strided", {"resident_layers": 20}),
    Part("CFG split", {}, {"cfg": "split"}),
)
EXCLUDED = {("int8, unpacked", "int8, native")}
"""Two ways to move int8."""


def together(*parts: Part) -> Idea:
    """Several ideas at once."""
    options = {key: value for part in parts for key, value in part.options.items()}
    work = {key: value for part in parts for key, value in part.work.items()}
    return scheduled(" + ".join(part.name for part in parts), work, **options)


def answer() -> str:
    """A table per topology."""
    return "\n".join(shown(_table(name)) for name in TOPOLOGIES)


def _table(name: str) -> Any:
    topology = TOPOLOGIES[name]
    cell = Cell(name, topology.nodes[0], SIZE, NUMBER)

    def found(idea: Idea) -> Answer:
        return answered(idea, scenario_of(cell, idea))

    plain = found(PLAIN)
    alone = {part.name: gains(found(together(part)), plain) for part in PARTS}
    title = f"{topology.title}: {cell.node}, {SIZE}, {NUMBER} GPUs, step against plain layerwise, %"
    table = new_table(title, "first + second", "first", "second", "added up", "both", "verdict")
    for one, other in combinations(PARTS, 2):
        if (one.name, other.name) not in EXCLUDED:
            both = gains(found(together(one, other)), plain)
            table.add_row(f"{one.name} + {other.name}", *_cells(alone[one.name], alone[other.name], both))
    return table


Range = tuple[float, float]


def _cells(first: Range, second: Range, both: Range) -> list[str]:
    added = tuple(100 * ((1 + a / 100) * (1 + b / 100) - 1) for a, b in zip(first, second, strict=True))
    verdicts = {verdict(*values) for values in zip(first, second, both, strict=True)}
    doubt = " ~" if len(verdicts) > 1 else ""
    shown_first = [f"{values[0]:+.1f}" for values in (first, second, added, both)]
    return [*shown_first, verdict(first[0], second[0], both[0]) + doubt]


def verdict(first: float, second: float, both: float) -> str:
    """What two changes in percent come to together."""
    added, better = 100 * ((1 + first / 100) * (1 + second / 100) - 1), min(first, second)
    if both > better + NONE:
        return "less than the better one"
    if both >= better - NONE:
        return "no more than the better one"
    return "more than added up" if both < added - NONE else "add up" if both <= added + NONE else "partly"
