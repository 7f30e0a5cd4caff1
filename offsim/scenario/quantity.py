"""Numbers that say where they come from.

A node profile is only as good as its worst value, so each value carries its provenance and its source, and
results list the ones that were not measured on the node they are used for.
"""

from bisect import bisect_left
from itertools import pairwise
from math import log
from typing import Annotated, Literal

from msgspec import Meta, Struct

Provenance = Literal["measured", "published", "derived", "guess", "given"]
"""measured: on this very node. published: by others on such a part. derived: computed from other values.
guess: nobody knows. given: a plain number in the user's own file."""


MOST_POINTS = 1000
"""Points of one curve; calibrations measure about ten."""


class Quantity(Struct, frozen=True, forbid_unknown_fields=True):
    """One value in SI units with its origin."""

    value: Annotated[float, Meta(ge=0, le=1e30)]
    provenance: Provenance
    source: Annotated[str, Meta(min_length=1)]
    condition: str = ""
    interval: tuple[float, float] | None = None
    """95 % confidence interval, where it was measured, in the unit of `value`."""


class Curve(Struct, frozen=True, forbid_unknown_fields=True):
    """A value that depends on a size: points (size, value), interpolated linearly in log(size).

    Outside the measured sizes the nearest value holds: no extrapolation.
    """

    points: Annotated[tuple[tuple[float, float], ...], Meta(min_length=1, max_length=MOST_POINTS)]
    provenance: Provenance
    source: Annotated[str, Meta(min_length=1)]
    condition: str = ""

    def __post_init__(self) -> None:
        sizes = [size for size, _ in self.points]
        if any(size <= 0 or value <= 0 for size, value in self.points):
            raise ValueError("points must have positive sizes and values")
        if any(b <= a for a, b in pairwise(sizes)):
            raise ValueError("points must have increasing sizes")

    def at(self, size: float) -> float:
        """The value at `size`; between two points as a line over log(size).

        >>> c = Curve(points=((10, 1.0), (1000, 3.0)), provenance="guess", source="example")
        >>> c.at(100), c.at(1), c.at(1e6)
        (2.0, 1.0, 3.0)
        """
        sizes = [s for s, _ in self.points]
        i = bisect_left(sizes, size)
        if i == 0:
            return self.points[0][1]
        if i == len(sizes):
            return self.points[-1][1]
        (x0, y0), (x1, y1) = self.points[i - 1], self.points[i]
        share = (log(size) - log(x0)) / (log(x1) - log(x0))
        return y0 + share * (y1 - y0)

    def highest(self) -> float:
        """The largest value of the curve: how a list shows it in one number."""
        return max(value for _, value in self.points)
