"""The values of a range and the draws of a sample.

Steps are added in decimal, as written: 0.1, 0.2, 0.3. A range between integers has integers only. A drawn
number has six digits, so that its label is its value.
"""

from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from math import exp, log
from typing import Annotated, Any, Literal

from msgspec import Meta

from offsim.scenario.allowed import check
from offsim.scenario.faults import Place
from offsim.scenario.wording import LONGEST_VALUE, cut, shown

MOST = 100_000
"""Combinations of one grid, and values of one range: beyond that an axis is wrong."""
Number = int | float
PointCount = Annotated[int, Meta(ge=2, le=MOST)]
RANGE_KEYS: dict[str, Any] = {
    "from": Number,
    "to": Number,
    "step": Annotated[float, Meta(gt=0, le=1e30)],
    "count": PointCount,
    "scale": Literal["linear", "log"],
}


@dataclass(frozen=True)
class Sample:
    """How the ranges of a grid without steps are drawn: together, `count` times."""

    kind: str
    count: int
    seed: int


SAMPLE_KEYS: dict[str, Any] = {
    "kind": Literal["random", "sobol"],
    "count": Annotated[int, Meta(ge=1, le=MOST)],
    "seed": Annotated[int, Meta(ge=0, le=2**63 - 1)],
}


def range_values(table: dict[str, Any], place: Place) -> tuple[Number, ...]:
    """The values of `{ from, to, step }` or `{ from, to, count, scale }`, both ends included."""
    for key in RANGE_KEYS:
        if key in table:
            check(table[key], RANGE_KEYS[key], place.child(key))
    low, high = table["from"], table["to"]
    if low >= high:
        raise place.child("to").fault(f"expected more than from = {shown(low)}", high)
    scale = table.get("scale", "linear")
    if scale == "log" and low <= 0:
        raise place.child("from").fault("a range with scale = 'log' begins above 0", low)
    if "step" in table:
        return _steps(table, place)
    if "count" not in table:
        raise place.fault("needs step or count; without either it is drawn, which needs a table [sample]")
    return _spread(low, high, table["count"], scale, place)


def _steps(table: dict[str, Any], place: Place) -> tuple[Number, ...]:
    other = next((key for key in ("count", "scale") if key in table), None)
    if other:
        raise place.child(other).fault("give either step, or count and scale")
    low, high, step = (Decimal(str(table[key])) for key in ("from", "to", "step"))
    count = int((high - low) / step) + 1
    if count > MOST:
        many = cut(f"{count:,}", LONGEST_VALUE)
        raise place.child("step").fault(f"makes {many} values; at most {MOST:,}", table["step"])
    whole = all(isinstance(table[key], int) for key in ("from", "to", "step"))
    values = (low + i * step for i in range(count))
    return tuple(int(value) if whole else float(value) for value in values)


def _spread(low: Number, high: Number, count: int, scale: str, place: Place) -> tuple[Number, ...]:
    values = tuple(point_between(low, high, i / (count - 1), scale, digits=12) for i in range(count))
    twice = next((value for value, after in pairwise(values) if value == after), None)
    if twice is not None:
        raise place.child("count").fault(f"makes {twice} twice; take fewer, or ends with a decimal point", count)
    return values


def point_between(low: Number, high: Number, share: float, scale: str, digits: int) -> Number:
    """The number at a share of the way from `low` to `high`; an integer if both are.

    >>> point_between(1, 64, 0.5, "log", 6), point_between(0.0, 1.0, 0.25, "linear", 6)
    (8, 0.25)
    """
    value = exp(log(low) + share * (log(high) - log(low))) if scale == "log" else low + share * (high - low)
    if isinstance(low, int) and isinstance(high, int):
        return min(max(round(value), low), high)
    return min(max(float(f"{value:.{digits}g}"), float(low)), float(high))


def read_sample(table: Any, place: Place) -> Sample:
    """The table `sample` of a grid."""
    if not isinstance(table, dict):
        raise place.fault("expected a table { kind, count, seed }", table)
    for key in table:
        if key not in SAMPLE_KEYS:
            raise place.child(key).fault(f"unknown key; allowed are {', '.join(SAMPLE_KEYS)}")
    for key, kind in SAMPLE_KEYS.items():
        if key not in table:
            raise place.child(key).fault("missing")
        check(table[key], kind, place.child(key))
    return Sample(table["kind"], table["count"], table["seed"])


def draw(sample: Sample, ranges: list[tuple[Number, Number, str]]) -> list[list[Number]]:
    """The values of all draws, for each range of (low, high, scale)."""
    shares = _shares(sample, len(ranges))
    return [[_drawn(low, high, share[i], scale) for share in shares] for i, (low, high, scale) in enumerate(ranges)]


def _drawn(low: Number, high: Number, share: float, scale: str) -> Number:
    """One draw; every integer of a linear range is as likely, its ends too."""
    if scale == "linear" and isinstance(low, int) and isinstance(high, int):
        return low + int(share * (high - low + 1))
    return point_between(low, high, share, scale, digits=6)


def _shares(sample: Sample, dimensions: int) -> list[list[float]]:
    """Points of the unit cube."""
    import numpy as np

    random = np.random.default_rng(sample.seed)
    if sample.kind == "random":
        return [[float(share) for share in row] for row in random.random((sample.count, dimensions))]
    from warnings import catch_warnings, simplefilter

    from scipy.stats import qmc

    with catch_warnings():
        # Any count is allowed: that powers of two are balanced best is said where grids are explained.
        simplefilter("ignore", UserWarning)
        return [[float(share) for share in row] for row in qmc.Sobol(dimensions, seed=random).random(sample.count)]
