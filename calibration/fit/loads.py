"""Loads that a chip was under, as the clock model is fitted to them: what they are made of, and what came out.

Assumes that a load's time has settled between 0.15 and 0.7 s after it begins, for what the chip draws in that time, and
that NVML's clock and power go with the second half of a run. Of soaks of several seconds the time after the first 1.6 s
counts, when the limit holds in the mean.
"""

from typing import NamedTuple

import numpy as np
from msgspec import structs

from calibration.probes.kernels_time import guessed_seconds
from calibration.probes.power import load_kernels
from calibration.samples.sample_file import ProbeSample
from offsim.program.commands import Kernel
from offsim.program.roofline import kernel_duration
from offsim.scenario.gpu import GPU

SETTLED_WINDOW = (0.15, 0.7)
"""Seconds of a soak in which the clock has settled and the slower regulation has not begun."""
LONG_SOAK_WINDOW = (1.6, 9e9)
"""Seconds of a long soak in which the slower regulation has done its work."""
LONG_SOAK_SECONDS = 3.0
"""Seconds from which on a soak counts as long, by what was asked for."""
BURST_WINDOW = (0.2, 0.75)
"""Seconds after which the counter of energy shows what is drawn before the slower regulation begins."""
BINS = ((0.0, 0.03), (0.03, 0.06), (0.06, 0.1), (0.1, 0.15))
UNLIMITED = 0.97
"""Share of the highest clock from which on a load is not limited."""
SLOWED = 1.03
"""A load whose kernels take this much longer than at full clock is limited by power."""


class Load(NamedTuple):
    """A load that a chip was under, and what it did to its own kernels."""

    name: str
    kernels: tuple[tuple[Kernel, float], ...]
    """The kernels of one round, each with its seconds at full clock."""
    rounds: int
    """How many rounds run between two gaps."""
    idle: float
    measured: float
    """Seconds that a round took, once settled."""
    held_out: bool = False
    clock: float | None = None
    """The clock while the load was continuous, as a share of the highest."""
    power: float | None = None
    """Watts drawn while continuous, where the clock stayed high: of a load at the limit it says nothing."""
    early: tuple[tuple[float, float], ...] = ()
    """(instant, seconds of a round) from a cool start."""
    classes: tuple[tuple[str, float], ...] = ()
    """(class, its seconds of a round) once settled, where the load mixes them and they were timed apart."""
    lasting: bool = False
    """Whether `measured` is of the time in which the limit holds in the mean, not of the burst."""
    drawn: float | None = None
    """Watts in the mean of the time that `measured` is of, where the energy was counted."""
    burst: float | None = None
    """Watts in the mean before the slower regulation begins."""

    @property
    def title(self) -> str:
        gaps = f", gaps of {1e3 * self.idle:.1f} ms" if self.idle else ""
        return f"{self.name}{gaps}{' (held out)' if self.held_out else ''}"

    @property
    def only(self) -> str:
        """The one class of its kernels; empty for a block, which mixes classes."""
        first, *others = {kernel.kernel_class for kernel, _ in self.kernels}
        return "" if others else str(first)

    @property
    def alone(self) -> float:
        """Seconds that a round takes at full clock."""
        return sum(seconds for _, seconds in self.kernels)

    @property
    def limited(self) -> bool:
        """Whether power slows the load."""
        return self.measured > SLOWED * self.alone


def of_slowest(soaks: list[ProbeSample], together: list[ProbeSample]) -> list[ProbeSample]:
    """Soaks of the slowest GPU: those of all at once where there are some, with the clock and power that go with them
    left out, since they are the first GPU's.
    """
    found = {str(sample.config["kernels"]): structs.replace(sample, state={}) for sample in together}
    return [found.get(str(sample.config["kernels"]), sample) for sample in soaks]


def _kernels(name: str, gpu: GPU) -> tuple[tuple[Kernel, float], ...]:
    return tuple((kernel, kernel_duration(kernel, gpu)) for kernel in load_kernels(name))


def soak_load(sample: ProbeSample, gpu: GPU, highest: float) -> Load:
    """A continuous load, from its sample; `highest` is the clock [MHz] that counts as full."""
    name = str(sample.config["kernels"])
    starts, times = np.asarray(sample.readings["start"]), np.asarray(sample.readings["seconds"])

    def inside(low: float, high: float, values: np.ndarray = times) -> float | None:
        chosen = values[(starts >= low) & (starts < high)]
        return float(np.median(chosen)) if len(chosen) else None

    long = float(sample.config.get("seconds", 0.0)) >= LONG_SOAK_SECONDS
    window = LONG_SOAK_WINDOW if long else SETTLED_WINDOW
    measured = inside(*window) or float(np.median(times))
    apart = [(key, inside(*window, np.asarray(v))) for key, v in sample.readings.items() if key.startswith("class_")]
    classes = tuple((key.removeprefix("class_"), seconds) for key, seconds in apart if seconds is not None)
    # The clock was read in the second half of the run, when the chip is warmer: what it says goes with that time.
    late = inside(0.5 * float(starts.max()), 9e9) or measured
    reading = sample.state.get("sm_clock_MHz")
    clock = None if reading is None else min(1.0, reading / highest * (late / measured) ** 1.5)
    found = [((low + high) / 2, inside(low, high)) for low, high in BINS]
    first = tuple((at, seconds) for at, seconds in found if seconds is not None)
    power = sample.state.get("power_W") if clock is not None and clock >= UNLIMITED else None
    # Of all GPUs together the slowest one's time counts, while the first one's sensors are read.
    one = sample.probe != "soak-together"
    burst = drawn(sample, *BURST_WINDOW) if one else None
    watts = drawn(sample, *LONG_SOAK_WINDOW) if one and long else burst
    kernels = _kernels(name, gpu)
    return Load(name, kernels, 1, 0.0, measured, sample.held_out, clock, power, first, classes, long, watts, burst)


def drawn(sample: ProbeSample, low: float, high: float) -> float | None:
    """Watts between two instants of a sample's runs, by what the counter of energy gained; None if it was not read.

    The counter moves every 0.1 s, so only whole moves count, each as long as they are on average in its run: the
    instant at which one is seen is off by up to the sensors' 25 ms.
    """
    seconds, joules = (np.asarray(sample.readings.get(f"watched_{name}", ())) for name in ("seconds", "energy_J"))
    if len(seconds) < 2:
        return None
    moved = (np.diff(joules) > 0) & (np.diff(seconds) > 0)
    spent, gained = 0.0, 0.0
    for run in np.split(np.arange(1, len(seconds))[moved], np.flatnonzero(np.diff(seconds[1:][moved]) < 0) + 1):
        inside = run[(seconds[run] >= low) & (seconds[run] < high)]
        if len(inside) > 1:
            period = float(seconds[run[-1]] - seconds[run[0]]) / (len(run) - 1)
            spent += period * (len(inside) - 1)
            gained += float(joules[inside[-1]] - joules[inside[0]])
    return gained / spent if spent > 0 else None


def duty_load(sample: ProbeSample, gpu: GPU) -> Load:
    """A load of bursts with gaps between them, from its sample."""
    name, busy, idle = str(sample.config["kernels"]), float(sample.config["busy"]), float(sample.config["idle"])
    rounds = max(1, round(busy / sum(guessed_seconds(kernel) for kernel in load_kernels(name))))
    measured = float(np.median(sample.readings["seconds"]))
    return Load(name, _kernels(name, gpu), rounds, idle, measured, sample.held_out)
