"""The clock of a power-limited GPU: how fast kernels run after what the chip has just done.

Assumes that kernels of a class are as fast, and draw as much, at every clock above one of their own, its knee: there
something else holds them (the current that the chip stands at one moment; memory). Below it they take longer in
proportion, and draw power above idle that goes with a power of the clock. Two means of what is drawn are held: over
some 20 ms below a burst power, and over some 0.4 s below the limit. Demand is what a kernel draws at full clock, its
energy over its duration. The clock is the highest at which the exponential moving average of demand over the shorter
window, each class's part lowered as the clock lowers it, is no more than what is allowed. Allowed is what the longer
mean of power drawn leaves: limit + (limit - that mean), at most the burst.
Measured: on an H100 between 0.68 and 0.78 of the highest clock products take 0.80 / clock and attention 0.87 / clock
times as long, in whatever block; an H200's products of 1.45 ms take 1.71 ms under continuous load and 1.49 ms with half
of the time idle; an H100 of 700 W draws 710 to 790 W for 0.8 s and 700 W in the mean from then on.
Left out: that the clock is set every 20 ms and held so long; that the limit is reached by a dip of a quarter of a
second and, fainter, another one 0.95 s later; temperature; differences between chips.
"""

from collections.abc import Iterable, Sequence
from math import exp, log

from offsim.scenario.gpu import Clock
from offsim.scenario.usual import lowest_clock

from .values_in_use import ValuesInUse

SLICES = 4
"""A running kernel's clock is looked at again after this part of the window: the mean moves by a fifth at most."""
LOWEST = lowest_clock()
"""No load brings the clock further down."""
SETTLED = 1e-3
"""What a difference of a mean counts when states are compared: see ClockState.look."""
REACHED = 1e-3
"""The longer mean counts as come to the limit this close to it; the chip's clock has steps of 0.8 %."""


class PowerCurve:
    """How what is drawn falls with the clock, class by class, the one with the highest knee first."""

    def __init__(self, clock: Clock, values: ValuesInUse | None = None) -> None:
        values = values or ValuesInUse()
        exponent = values.number(clock.power_exponent)
        knee = clock.knee
        # A class without kernels draws nothing: wherever its knee is, it changes no clock.
        self.knees: dict[str, float] = {
            name: values.number_about(getattr(knee, name), name) for name in knee.__struct_fields__
        }
        self.classes = sorted(self.knees, key=self.knees.__getitem__, reverse=True)
        self._root = 1.0 / exponent
        following = [self.knees[name] for name in self.classes[1:]] + [LOWEST]
        self._of_class = [
            (self.knees[name] ** -exponent, after) for name, after in zip(self.classes, following, strict=True)
        ]
        """What it would draw at the highest clock without its knee, for each watt; the next class's knee."""

    def clock(self, demand: float, parts: Sequence[float], allowed: float) -> float:
        """The highest clock at which this demand [W], of which `parts` are of the classes, draws what is allowed.

        1200 W of products with a knee at 0.8, exponent 2, 300 W allowed: half of 0.8.
        """
        if demand <= allowed:
            return 1.0
        held, lowered = demand, 0.0
        for part, (raised, following) in zip(parts, self._of_class, strict=True):
            held -= part
            lowered += part * raised
            if lowered > 0.0 and held < allowed:
                clock = float(((allowed - held) / lowered) ** self._root)
                if clock >= following:
                    return clock
        return LOWEST


class ClockState:
    """Mean demand of one GPU, and the clock that follows from it."""

    def __init__(self, clock: Clock, values: ValuesInUse | None = None) -> None:
        values = values or ValuesInUse()
        idle = values.number(clock.idle)
        self.headroom = values.number(clock.limit) - idle
        self.window = values.number(clock.window)
        self.slice = self.window / SLICES
        self._burst = values.number(clock.burst or clock.limit) - idle
        longer = 0.0 if clock.burst is None or clock.averaging is None else values.number(clock.averaging)
        # The closed form of `_followed` has no value where both windows are one.
        self._averaging = longer if longer != self.window else 1.001 * longer
        drawn = {"collective": clock.collective, "H2D": clock.copy, "D2H": clock.copy}
        self._beside = {name: values.number_about(power, name) for name, power in drawn.items()}
        self._curve = PowerCurve(clock, values)
        self._place = {name: place for place, name in enumerate(self._curve.classes)}
        # All since the last change of the load.
        self._since = 0.0
        self._load = 0.0
        self._demand = 0.0
        self._class = -1
        self._mean = 0.0
        self._parts = [0.0] * len(self._place)
        self._drawn = 0.0

    def mean(self, now: float) -> float:
        """Mean demand [W]: m(t) = load + (m - load) exp(-t / window)."""
        return self._mean_after(self._kept(now))

    def parts(self, now: float) -> list[float]:
        """Mean demand [W] of each class of kernels that a lower clock slows, that with the highest knee first."""
        return self._parts_after(self._kept(now))

    def _kept(self, now: float) -> float:
        """What has not been forgotten since the last change of the load."""
        return exp(-(now - self._since) / self.window)

    def _mean_after(self, kept: float) -> float:
        return self._load + (self._mean - self._load) * kept

    def _parts_after(self, kept: float) -> list[float]:
        found = [mean * kept for mean in self._parts]
        if self._class >= 0:
            found[self._class] += self._demand * (1.0 - kept)
        return found

    def drawn(self, now: float) -> float:
        """Mean of what was drawn above idle [W], over the longer window; 0 without a burst, when it changes nothing.

        Drawn is the mean demand where that is allowed, and what is allowed where it is not: one after the other if the
        mean demand passes it on its way to the load.
        """
        return self._drawn_after(now - self._since, self.mean(now))

    def _drawn_after(self, spent: float, mean: float) -> float:
        """Mean of what was drawn so long after the last change of the load, with the mean demand then."""
        if not self._averaging:
            return 0.0
        allowed = self.allowed()
        first, last = self._mean > allowed, mean > allowed
        if first and last:
            return self._held(self._drawn, allowed, spent)
        if first == last or allowed == self._load:
            return self._followed(self._drawn, self._mean, spent)
        passing = self.window * log((self._mean - self._load) / (allowed - self._load))
        if first:
            return self._followed(self._held(self._drawn, allowed, passing), allowed, spent - passing)
        return self._held(self._followed(self._drawn, self._mean, passing), allowed, spent - passing)

    def _held(self, drawn: float, power: float, seconds: float) -> float:
        """The longer mean after so long at one power; at the headroom, once that is nearly reached."""
        found = power + (drawn - power) * exp(-seconds / self._averaging)
        return self.headroom if abs(found - self.headroom) <= REACHED * self.headroom else found

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

    def power_of(self, beside: Iterable[str]) -> float:
        """The power [W] of what runs beside kernels: of collective, H2D and D2H those that are active."""
        return sum(self._beside[name] for name in beside)

    def set_load(self, now: float, demand: float, kernel_class: str = "", beside: float = 0.0) -> None:
        """Let a kernel of this demand and class run from now on (0: none), with `beside` [W] drawn beside it."""
        spent = now - self._since
        if spent > 0.0:
            kept = self._kept(now)
            mean = self._mean_after(kept)
            self._drawn, self._parts = self._drawn_after(spent, mean), self._parts_after(kept)
            self._mean, self._since = mean, now
        self._load = demand + beside
        self._demand, self._class = demand, self._place.get(kernel_class, -1)

    def slowdown(self, kernel_class: str) -> float:
        """How many times longer a kernel of this class takes than at full clock, when the load has just been set.

        At half of the highest clock, with a knee at 0.8: 1.6.
        """
        allowed = self.allowed()
        if self._mean <= allowed or kernel_class not in self._place:
            return 1.0
        return max(1.0, self._curve.knees[kernel_class] / self._curve.clock(self._mean, self._parts, allowed))

    def look(self, now: float) -> list[float]:
        """The state on which all that comes next depends, in seconds: what a difference can ever come to.

        Means are shares of the headroom; one that is off by so much slows kernels by less, for about its window. They
        count `SETTLED` times: what repeats but for a mean that still settles is left out, off by 1e-9 at most.
        """
        shorter, longer = (SETTLED * window / self.headroom for window in (self.window, self._averaging))
        return [shorter * self.mean(now), longer * self.drawn(now), *(shorter * part for part in self.parts(now))]
