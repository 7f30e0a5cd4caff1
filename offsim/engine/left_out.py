"""When commands would have been done that were left out: what a host goes on by which had issued them."""

from typing import NamedTuple

Pattern = dict[str, list[float]]
"""Seconds from each command that was done in a period to the period's end, by stream."""


class LeftOut(NamedTuple):
    """Commands of a stream that were left out: of so many periods, which began at a real instant."""

    first: int
    """Commands done before."""
    times: int
    begin: float
    period: float
    pattern: list[float]

    @property
    def last(self) -> int:
        """How many commands are done afterwards."""
        return self.first + self.times * len(self.pattern)

    @property
    def end(self) -> float:
        """The real instant at which all were done."""
        return self.begin + self.times * self.period

    def reached(self, place: int) -> float:
        """The real instant at which `place` commands were done; the begin, if that was before."""
        if place <= self.first:
            return self.begin
        periods, i = divmod(place - self.first - 1, len(self.pattern))
        return self.begin + (periods + 1) * self.period - self.pattern[i]


class CaughtUpLateError(Exception):
    """A stream that did nothing had to wait for a host that goes on while blocks are left out: that was not exact."""
