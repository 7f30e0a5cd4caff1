"""Answers against plain layerwise in the same cell."""

from collections.abc import Sequence

from .asked import PLAIN, STEPS, Answer
from .causes import cause


def plain_of(answers: Sequence[Answer]) -> Answer:
    """Plain layerwise in the same cell."""
    return next(a for a in answers if a.idea.name == PLAIN.name)


def gains(own: Answer, plain: Answer, *, total: bool = False) -> tuple[float, float]:
    """Percent that a step (or the total) changes against plain layerwise: least and most over both extremes."""
    pairs = zip(*_spread(own.total if total else own.steady, plain.total if total else plain.steady), strict=True)
    changes = [100 * (a / b - 1) for a, b in pairs]
    return min(changes), max(changes)


def _spread(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both with as many extremes: one that doesn't depend on the weight has the same value at both."""
    most = max(len(one), len(other))
    return one * (most // len(one)), other * (most // len(other))


def why(own: Answer, plain: Answer) -> str:
    """The cause of the difference from plain layerwise."""
    outside = own.total[0] - plain.total[0] - STEPS * (own.steady[0] - plain.steady[0])
    return cause(own.losses, plain.losses, outside)
