"""The clock of a power-limited GPU: how fast kernels run after what the chip has just done.

Assumes that power above idle grows with the clock, power = idle + demand x clock (clock as a share of the highest), and
that two means are held: over some 20 ms what is drawn stays below a burst power, and over some 0.4 s below the limit.
Demand is what would be drawn at full clock, each kernel's energy over its duration; its exponential moving average
over the shorter window against what is allowed gives the clock: min(1, allowed / mean demand). Allowed is what the
longer mean of power drawn leaves: limit + (limit - that mean), at most the burst. A kernel takes clock ** -sensitivity
times as long. Measured: an H200's products of 1.45 ms take 1.71 ms under continuous load and 1.49 ms with half of the
time idle; an H100 of 700 W draws 710 to 790 W for 0.8 s and 700 W in the mean from then on.
Left out: that the limit is reached by a dip of a quarter of a second and, fainter, another one 0.95 s later;
temperature; differences between chips.
"""

from collections.abc import Iterable
from math import exp, log

from offsim.scenario.node import Clock

SLICES = 4
"""A running kernel's clock is looked at again after this part of the window: the mean moves by a fifth at most."""


class ClockState:
    """Mean demand of one GPU, and the clock that follows from it."""

    def __init__(self, clock: Clock) -> None:
        self.headroom = clock.limit.value - clock.idle.value
        self.window = clock.window.value
        self.slice = self.window / SLICES
        self._burst = (clock.burst or clock.limit).value - clock.idle.value
        longer = 0.0 if clock.burst is None or clock.averaging is None else clock.averaging.value
        # The closed form of `_followed` has no value where both windows are one.
        self._averaging = longer if longer != self.window else 1.001 * longer
        self._beside = {"collective": clock.collective.value, "H2D": clock.copy.value, "D2H": clock.copy.value}
        sensitivity = clock.sensitivity
        self._sensitivity = {name: getattr(sensitivity, name).value for name in sensitivity.__struct_fields__}
        self._mean = 0.0
        self._drawn = 0.0
        self._load = 0.0
        self._since = 0.0

    def mean(self, now: float) -> float:
        """Mean demand [W]: m(t) = load + (m - load) exp(-t / window)."""
        return self._load + (self._mean - self._load) * exp(-(now - self._since) / self.window)

    def drawn(self, now: float) -> float:
        """Mean of what was drawn above idle [W], over the longer window; 0 without a burst, when it changes nothing.

        Drawn is the mean demand where that is allowed, and what is allowed where it is not: one after the other if the
        mean demand passes it on its way to the load.
        """
        if not self._averaging:
            return 0.0
        spent, allowed = now - self._since, self.allowed()
        first, last = self._mean > allowed, self.mean(now) > allowed
        if first == last or allowed == self._load:
            return self._held(self._drawn, allowed, spent) if first else self._followed(self._drawn, self._mean, spent)
        passing = self.window * log((self._mean - self._load) / (allowed - self._load))
        if first:
            return self._followed(self._held(self._drawn, allowed, passing), allowed, spent - passing)
        return self._held(self._followed(self._drawn, self._mean, passing), allowed, spent - passing)

    def _held(self, drawn: float, power: float, seconds: float) -> float:
        """The longer mean after so long at one power."""
        return power + (drawn - power) * exp(-seconds / self._averaging)

    def _followed(self, drawn: float, mean: float, seconds: float) -> float:
        """The longer mean d after so long, where the shorter one goes m(t) = load + (mean - load) exp(-t / window).

        d' = (m - d) / averaging is solved by d(t) = load + a exp(-t / window) + (d - load - a) exp(-t / averaging).
        """
        part = (mean - self._load) / (1.0 - self._averaging / self.window)
        rest = drawn - self._load - part
        return self._load + part * exp(-seconds / self.window) + rest * exp(-seconds / self._averaging)

    def allowed(self) -> float:
        """What may be drawn above idle [W] since the last change of the load.

        Headroom 580 W, burst 620 W: 620 while the longer mean is below 540, 580 once it has reached 580.
        """
        return min(self._burst, max(self.headroom, 2 * self.headroom - self._drawn))

    def set_load(self, now: float, demand: float, beside: Iterable[str] = ()) -> None:
        """From now on a kernel of this demand runs (0: none), and `beside`: collective, H2D, D2H."""
        self._drawn, self._mean, self._since = self.drawn(now), self.mean(now), now
        self._load = demand + sum(self._beside[name] for name in beside)

    def slowdown(self, now: float, kernel_class: str) -> float:
        """How many times longer a kernel of this class takes than at full clock.

        Demand 870 W, 580 W of headroom, sensitivity 0.5: sqrt(870 / 580) = 1.225.
        """
        mean, allowed = self.mean(now), self.allowed()
        if mean <= allowed:
            return 1.0
        return float((mean / allowed) ** self._sensitivity[kernel_class])
