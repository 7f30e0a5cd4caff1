"""Every idea over all cells at once: how much it changes, where it surely gains or loses, and how often it is the best.

Surely: by more than 0.2 % of a step under both extremes of what is known about NCCL's weight. Best: the shortest denoising
total of what fits; ideas that change weights, combinations, and the resident and full-model references do not take part.
"""

from collections import Counter
from collections.abc import Iterable
from statistics import median
from typing import Any

from offsim.results.layout import new_table

from .asked import COMBINED, IDEAS, LOW_BIT, PLAIN, REFERENCES, Answer, Cell
from .gains import gains, plain_of
from .paper import shown

SURE = 0.2
"""Percent of a step."""
Answers = dict[Cell, list[Answer]]


def overview(found: Answers) -> str:
    """A table and a sentence."""
    names = dict.fromkeys(a.idea.name for answers in found.values() for a in answers)
    table = new_table(
        f"All {len(found)} cells: total against plain layerwise, %",
        "idea",
        "least",
        "median",
        "most",
        "surely gains",
        "surely loses",
        "fits",
        "legal",
    )
    for name in names:
        table.add_row(name, *_row(name, found))
    return f"{shown(table)}{_best(found)}"


def _row(name: str, found: Answers) -> list[str]:
    pairs = [(a, plain_of(answers)) for answers in found.values() for a in answers if a.idea.name == name]
    totals = sorted(100 * (own.total[0] / plain.total[0] - 1) for own, plain in pairs)
    ranges = [gains(own, plain) for own, plain in pairs]
    numbers = [f"{x:+.1f}" for x in (totals[0], median(totals), totals[-1])]
    surely = [sum(high < -SURE for _, high in ranges), sum(low > SURE for low, _ in ranges)]
    return [*numbers, *map(str, surely), str(sum(not own.lacking for own, _ in pairs)), str(len(pairs))]


def _best(found: Answers) -> str:
    apart = {idea.name for idea in (*COMBINED, *LOW_BIT, *REFERENCES)} - {PLAIN.name}
    exact = _counted(answers_without(found, apart))
    split = {idea.name for idea in IDEAS if {"cfg", "ulysses"} & idea.work.keys()}
    return (
        f"Best of single ideas that leave weights as they are: {_listed(exact)}.\n"
        f"The same with one layout of ranks only: {_listed(_counted(answers_without(found, apart | split)))}.\n"
    )


def answers_without(found: Answers, names: Iterable[str]) -> Answers:
    """All answers but those of these ideas."""
    return {cell: [a for a in answers if a.idea.name not in names] for cell, answers in found.items()}


def _counted(found: Answers) -> Counter[str]:
    fitting = ([a for a in answers if not a.lacking] for answers in found.values())
    return Counter(min(answers, key=lambda a: a.total[0]).idea.name for answers in fitting)


def _listed(counter: Counter[Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())
