"""The clock model, from continuous loads and bursts with gaps.

Per class: a continuous load that the limit slows gives demand = headroom / clock, with the clock as NVML reads it, and
sensitivity = log(time / time at full clock) / -log(clock). Mixed loads and bursts correct both and give the window, by
least squares over the engine's own model. A class that the limit never slows keeps its reading of power as demand.
The first part of each run is where the window shows. Left out: a second, slower regulation about a second after a load
begins, which slows it by 10 to 20 % for a tenth of a second.
"""

from math import log
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from calibration.probes.power import load_kernels
from calibration.samples import Sample
from offsim.engine.clock import ClockState
from offsim.engine.durations import kernel_duration
from offsim.scenario.node import GPU, Clock, Demand, Sensitivity
from offsim.scenario.quantity import Quantity

from .estimate import Estimate

SLOWED = 1.03
"""A soak whose kernels take this much longer than alone is limited by power."""
SETTLED = (0.15, 0.7)
"""Seconds of a soak in which the clock has settled and the slower regulation has not begun."""
FITTED = ("gemm", "attention", "elementwise")
COPY_DEMAND = 0.0
CONTEXT_POWER = 120.0
"""Watts that the chip draws in use but idle, as NVML reads it right after a load."""


class ClockFit(NamedTuple):
    """Estimates by parameter, for the summary and the profile."""

    highest_MHz: float
    demand: dict[str, Estimate]
    sensitivity: dict[str, Estimate]
    window: Estimate
    errors: dict[str, float]
    """Signed error of each load's settled time: held-out ones end in `(held out)`."""


class Load(NamedTuple):
    """A load and what it did: seconds of a round, once settled."""

    name: str
    kernels: tuple[tuple[str, float], ...]
    """(class, seconds at full clock) of one round."""
    rounds: int
    """Rounds between two gaps."""
    idle: float
    measured: float
    held_out: bool
    clock: float | None


def fit_clock(soaks: list[Sample], duties: list[Sample], gpu: GPU, limit: float) -> ClockFit | None:
    """The model of one chip; None where no load was limited."""
    highest = max((s.state.get("sm_clock_MHz", 0.0) for s in (*soaks, *duties)), default=0.0)
    loads = [_soak(s, gpu, highest) for s in soaks] + [_duty(s, gpu) for s in duties]
    headroom = limit - CONTEXT_POWER
    start = _start(loads, soaks, headroom)
    if start is None or not highest:
        return None
    names = [name for name in FITTED if name in start]
    fitted = [load for load in loads if not load.held_out]

    def unpack(x: np.ndarray) -> tuple[dict[str, float], dict[str, float], float]:
        demand = {name: float(np.exp(x[i])) for i, name in enumerate(names)}
        sensitivity = {name: float(x[len(names) + i]) for i, name in enumerate(names[:2])}
        return demand, sensitivity, float(np.exp(x[-1]))

    def residuals(x: np.ndarray, chosen: list[Load] | None = None) -> np.ndarray:
        model = _clock(*unpack(x), limit)
        times = [log(_settled(load, model) / load.measured) for load in chosen or fitted]
        clocks = [
            0.5 * log(min(1.0, headroom / unpack(x)[0][load.name]) / load.clock)
            for load in chosen or fitted
            if load.clock is not None and load.clock < 0.97 and load.name in names
        ]
        return np.asarray(times + clocks)

    x0 = np.asarray([log(start[n][0]) for n in names] + [start[n][1] for n in names[:2]] + [log(0.025)])
    best = least_squares(residuals, x0, loss="soft_l1", f_scale=0.01, diff_step=1e-3)
    model = _clock(*unpack(best.x), limit)
    errors = {_title(load): _settled(load, model) / load.measured - 1 for load in loads}
    kept = [abs(error) for title, error in errors.items() if "held out" in title]
    spread = _intervals(residuals, best.x, fitted)
    demand, sensitivity, window = unpack(best.x)
    held = float(np.median(kept)) if kept else None

    def estimate(value: float, i: int, *, is_log: bool) -> Estimate:
        low, high = spread[i]
        ends = (np.exp(low), np.exp(high)) if is_log else (low, high)
        return Estimate(value, (min(float(ends[0]), value), max(float(ends[1]), value)), len(fitted), held)

    demands = {n: estimate(demand[n], i, is_log=True) for i, n in enumerate(names)}
    sensitivities = {n: estimate(sensitivity[n], len(names) + i, is_log=False) for i, n in enumerate(names[:2])}
    return ClockFit(highest, demands, sensitivities, estimate(window, len(best.x) - 1, is_log=True), errors)


def _title(load: Load) -> str:
    gaps = f", gaps of {1e3 * load.idle:.1f} ms" if load.idle else ""
    return f"{load.name}{gaps}{' (held out)' if load.held_out else ''}"


def _pieces(name: str, gpu: GPU) -> tuple[tuple[str, float], ...]:
    return tuple((k.kernel_class, kernel_duration(k, gpu)) for k in load_kernels(name))


def _soak(sample: Sample, gpu: GPU, highest: float) -> Load:
    name = str(sample.config["kernels"])
    starts, times = np.asarray(sample.readings["start"]), np.asarray(sample.readings["seconds"])
    inside = (starts > SETTLED[0]) & (starts < SETTLED[1])
    kernels = _pieces(name, gpu)
    measured = float(np.median(times[inside])) if inside.any() else float(np.median(times))
    late = float(np.median(times[starts > 0.5 * starts.max()]))
    clock = sample.state.get("sm_clock_MHz")
    # The clock was read in the second half: bring it to the settled part by the first-order slope of the two times.
    reading = None if clock is None or not highest else clock / highest * (late / measured) ** 1.6
    return Load(name, kernels, max(1, round(6e-3 / sum(t for _, t in kernels))), 0.0, measured, False, reading)


def _duty(sample: Sample, gpu: GPU) -> Load:
    name, busy, idle = str(sample.config["kernels"]), float(sample.config["busy"]), float(sample.config["idle"])
    from calibration.probes.kernels_time import guessed_seconds

    rounds = max(1, round(busy / sum(guessed_seconds(kernel) for kernel in load_kernels(name))))
    measured = float(np.median(sample.readings["seconds"]))
    return Load(name, _pieces(name, gpu), rounds, idle, measured, sample.held_out, None)


def _start(loads: list[Load], soaks: list[Sample], headroom: float) -> dict[str, tuple[float, float]] | None:
    """(demand, sensitivity) of each class from its own soak; None where nothing was limited."""
    found: dict[str, tuple[float, float]] = {}
    power = {str(s.config["kernels"]): s.state.get("power_W", 0.0) for s in soaks}
    for load in loads:
        if load.idle or load.name not in FITTED:
            continue
        slowdown = load.measured / sum(t for _, t in load.kernels)
        if slowdown > SLOWED and load.clock is not None and load.clock < 0.99:
            found[load.name] = (headroom / load.clock, min(1.5, log(slowdown) / -log(load.clock)))
        else:
            found[load.name] = (max(50.0, power.get(load.name, 0.0) - CONTEXT_POWER), 0.0)
    return found if "gemm" in found and found["gemm"][1] > 0 else None


def _clock(demand: dict[str, float], sensitivity: dict[str, float], window: float, limit: float) -> Clock:
    def quantity(value: float) -> Quantity:
        return Quantity(value, "derived", "fit")

    def of(values: dict[str, float], name: str, other: str) -> Quantity:
        return quantity(max(0.0, values.get(name, values.get(other, 0.0))))

    return Clock(
        limit=quantity(limit),
        idle=quantity(CONTEXT_POWER),
        window=quantity(window),
        demand=Demand(
            gemm=of(demand, "gemm", ""),
            attention=of(demand, "attention", "gemm"),
            elementwise=of(demand, "elementwise", ""),
            relayout=of(demand, "relayout", "elementwise"),
            collective=quantity(COPY_DEMAND),
            h2d=quantity(COPY_DEMAND),
            d2h=quantity(COPY_DEMAND),
        ),
        sensitivity=Sensitivity(
            gemm=of(sensitivity, "gemm", ""),
            attention=of(sensitivity, "attention", "gemm"),
            elementwise=quantity(0.0),
            relayout=quantity(0.0),
        ),
    )


def _settled(load: Load, clock: Clock, windows: float = 8.0) -> float:
    """Seconds of a round once the mean has settled, by the engine's own rule."""
    state, now, spent = ClockState(clock), 0.0, 0.0
    while now < windows * state.window:
        spent = 0.0
        for _ in range(load.rounds):
            for kernel_class, seconds in load.kernels:
                took = _kernel(state, now, kernel_class, seconds)
                now, spent = now + took, spent + took
        if load.idle:
            state.set_load(now, [])
            now += load.idle
    return spent / load.rounds


def _kernel(state: ClockState, now: float, kernel_class: str, left: float) -> float:
    """Seconds that a kernel takes from now, its clock looked at again every slice."""
    begin = now
    while left > 1e-12:
        state.set_load(now, [kernel_class])
        factor = state.slowdown(now, kernel_class)
        step = min(left * factor, state.slice)
        left -= step / factor
        now += step
    return now - begin


def _intervals(residuals: object, x: np.ndarray, fitted: list[Load]) -> list[tuple[float, float]]:
    """95 % intervals from refits that each leave one load out (a jackknife: the loads are few)."""
    refits = []
    for i in range(len(fitted)):
        chosen = fitted[:i] + fitted[i + 1 :]
        again = least_squares(
            lambda y, c=chosen: residuals(y, c),  # type: ignore[operator,misc]
            x,
            loss="soft_l1",
            f_scale=0.01,
            diff_step=1e-3,
            max_nfev=6,
        )
        refits.append(again.x)
    spread = np.asarray(refits) - x
    deviation = np.sqrt((len(fitted) - 1) / len(fitted) * (spread**2).sum(axis=0))
    return [(float(v - 1.96 * d), float(v + 1.96 * d)) for v, d in zip(x, deviation, strict=True)]
