"""A fitted number with what is known about it.

Intervals are 95 % percentile intervals of a bootstrap over blocks, a block being one configuration's readings: readings
of one configuration share their conditions and don't count as independent.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 200
WIDEST = 0.3
"""An interval wider than this, relative to the value, means that the data don't identify the value."""


class Estimate(NamedTuple):
    """One fitted value with its interval, the readings that it rests on and its held-out error."""

    value: float
    interval: tuple[float, float] | None = None
    n: int = 0
    """How many readings it rests on."""
    held_out_error: float | None = None
    """Median |predicted / measured - 1| of configurations that no fit saw."""
    note: str = ""

    @property
    def identified(self) -> bool:
        if self.interval is None or self.value == 0:
            return self.interval is not None
        return (self.interval[1] - self.interval[0]) / abs(self.value) <= WIDEST

    def not_negative(self) -> "Estimate":
        """The estimate with its value and interval at 0 or above; differences of noisy times can lie below."""
        if self.value >= 0:
            interval = self.interval and (max(0.0, self.interval[0]), self.interval[1])
            return self._replace(interval=interval)
        highest = self.interval[1] if self.interval else 0.0
        note = f"{self.note}; not told from 0".lstrip("; ")
        return self._replace(value=0.0, interval=(0.0, highest) if highest > 0 else None, note=note)


Blocks = Sequence[Sequence[float]]


def bootstrap(blocks: Blocks, statistic: Callable[[Blocks], float], seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a statistic of blocks of readings; blocks and the readings within each are drawn anew."""
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        chosen = random.integers(len(blocks), size=len(blocks))
        again = [list(random.choice(np.asarray(blocks[i]), len(blocks[i]))) for i in chosen]
        drawn.append(statistic(again))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def median_of_medians(blocks: Blocks) -> float:
    """The median over blocks of their medians."""
    return float(np.median([np.median(block) for block in blocks]))


def estimated(blocks: Blocks, note: str = "") -> Estimate:
    """The median of the blocks' medians, with its interval."""
    interval = bootstrap(blocks, median_of_medians)
    value = median_of_medians(blocks)
    return Estimate(value, (min(interval[0], value), max(interval[1], value)), sum(map(len, blocks)), None, note)
