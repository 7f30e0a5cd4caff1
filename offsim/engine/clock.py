"""The clock of a power-limited GPU: how fast kernels run after what the chip has just done.

Assumes that power above idle grows with the clock, power = idle + demand x clock (clock as a share of the highest), and
that the limit holds for the average over a window: clock = min(1, (limit - idle) / mean demand), where the mean is an
exponential moving average of what would be drawn at full clock: each kernel's energy over its duration. A kernel takes
clock ** -sensitivity times as long. Measured on an H200: products of 1.45 ms take 1.71 ms under continuous load and
1.49 ms with half of the time idle. Left out: temperature, differences between chips, and controllers slower than the
window.
"""

from collections.abc import Iterable
from math import exp

from offsim.scenario.node import Clock

SLICES = 4
"""A running kernel's clock is looked at again after this part of the window: the mean moves by a fifth at most."""


class ClockState:
    """Mean demand of one GPU, and the clock that follows from it."""

    def __init__(self, clock: Clock) -> None:
        self.headroom = clock.limit.value - clock.idle.value
        self.window = clock.window.value
        self.slice = self.window / SLICES
        self._beside = {"collective": clock.collective.value, "H2D": clock.copy.value, "D2H": clock.copy.value}
        sensitivity = clock.sensitivity
        self._sensitivity = {name: getattr(sensitivity, name).value for name in sensitivity.__struct_fields__}
        self._mean = 0.0
        self._load = 0.0
        self._since = 0.0

    def mean(self, now: float) -> float:
        """Mean demand [W]: m(t) = load + (m - load) exp(-t / window)."""
        return self._load + (self._mean - self._load) * exp(-(now - self._since) / self.window)

    def set_load(self, now: float, demand: float, beside: Iterable[str] = ()) -> None:
        """From now on a kernel of this demand runs (0: none), and `beside`: collective, H2D, D2H."""
        self._mean, self._since = self.mean(now), now
        self._load = demand + sum(self._beside[name] for name in beside)

    def slowdown(self, now: float, kernel_class: str) -> float:
        """How many times longer a kernel of this class takes than at full clock.

        Demand 870 W, 580 W of headroom, sensitivity 0.5: sqrt(870 / 580) = 1.225.
        """
        mean = self.mean(now)
        if mean <= self.headroom:
            return 1.0
        return float((mean / self.headroom) ** self._sensitivity[kernel_class])
