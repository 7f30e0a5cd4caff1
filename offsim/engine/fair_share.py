"""Rates of flows that share links: weighted max-min with caps.

Lexicographically maximise min(x_f / w_f) subject to x_f <= cap_f and, for every row c, sum(a_cf x_f) <= b_c. Solved by
raising one common level of x_f / w_f and freezing flows at their cap and in rows that become tight. The oracle in the
tests solves the same problem by linear programs.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

TOLERANCE = 1e-12


class SharedRow(NamedTuple):
    """One linear constraint: sum of coefficient x rate over its flows stays within the bound."""

    bound: float
    coefficients: tuple[tuple[int, float], ...]
    """(flow, coefficient) pairs, coefficients positive."""


class FairRates(NamedTuple):
    """Rates, and for each flow the index of the row that binds it (None: its own cap)."""

    rates: list[float]
    binding: list[int | None]


def fair_share(weights: Sequence[float], caps: Sequence[float], rows: Sequence[SharedRow]) -> FairRates:
    """Weighted max-min fair rates [bytes/s].

    Two flows over one link of 10, the second capped at 2, get 8 and 2; with weights 3 and 1 and no cap 7.5 and 2.5.

    >>> fair_share([1, 1], [100, 2], [SharedRow(10, ((0, 1), (1, 1)))]).rates
    [8.0, 2.0]
    """
    rates = [0.0] * len(weights)
    binding: list[int | None] = [None] * len(weights)
    rising = set(range(len(weights)))
    slack = [row.bound for row in rows]
    while rising:
        row_level = [_row_level(row, left, weights, rising) for row, left in zip(rows, slack, strict=True)]
        level = min(min(row_level, default=inf), min(caps[f] / weights[f] for f in rising))
        limit = level * (1 + TOLERANCE)
        frozen = {f: None for f in rising if caps[f] / weights[f] <= limit}
        by_row = {
            f: c for c, row in enumerate(rows) if row_level[c] <= limit for f, _ in row.coefficients if f in rising
        }
        for flow in {**frozen, **by_row}:
            rates[flow] = min(level * weights[flow], caps[flow])
            binding[flow] = by_row.get(flow)
            rising.discard(flow)
        slack = [row.bound - sum(a * rates[f] for f, a in row.coefficients if f not in rising) for row in rows]
    return FairRates(rates, binding)


def _row_level(row: SharedRow, left: float, weights: Sequence[float], rising: set[int]) -> float:
    """The level at which a row becomes tight if every rising flow rises with its weight."""
    growth = sum(a * weights[f] for f, a in row.coefficients if f in rising)
    return max(left, 0.0) / growth if growth > 0 else inf
