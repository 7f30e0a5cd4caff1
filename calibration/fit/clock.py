"""The clock model of one chip, from continuous loads and bursts with gaps.

Fitted by least squares over the engine's own rule: energy per FLOP of products and of attention, energy per byte, the
window, and the sensitivities of the classes of kernels that were timed by themselves in mixed loads (others are as on a
node where they were: totals don't tell them apart). Data: settled times of every load against the same kernels at full
clock, of each class of kernels in it, the clock that NVML reads during continuous loads, the power that it reads where
the clock stays high (loads that memory bounds: nothing else tells energy per byte from energy per FLOP), and the first
150 ms of each load, where the window shows.
Left out: a second, slower regulation about a second after a load begins, which slows it by 10 to 20 % for a tenth of a
second; and temperature: kernels of a warm chip are 1 to 2 % slower at the same nominal clock.
"""

from collections.abc import Iterator
from math import log
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from calibration.samples import Sample
from offsim.engine.clock import ClockState
from offsim.engine.durations import Piece, kernel_energy
from offsim.scenario.node import GPU, Clock, Energy, Sensitivity
from offsim.scenario.quantity import Quantity

from .estimate import Estimate
from .loads import UNLIMITED, Load, duty_load, soak_load

SLOWED = 1.03
"""A load whose kernels take this much longer than at full clock is limited by power."""
EARLY_WEIGHT, CLOCK_WEIGHT, CLASS_WEIGHT = 0.3, 0.3, 0.5
IDLE_POWER = 120.0
"""Watts that the chip draws in use but idle, as NVML read it on one H200 right after a load; of others a guess."""
NAMES = (
    "energy.gemm",
    "energy.attention",
    "energy.byte",
    "window",
    "sensitivity.gemm",
    "sensitivity.attention",
    "sensitivity.elementwise",
    "sensitivity.relayout",
)
ALWAYS = 4
"""The first ones are fitted to any loads; each of the others needs its class timed by itself."""
USUAL_SENSITIVITIES = (0.354, 0.543, 0.007, 0.312)
"""In the order of NAMES, as on h100-x1-c."""
STARTS = (1.0, 1.25, 1.5, 2.0)
"""Factors on the energies to start from."""
BETTER = 1.01
"""Another start counts if its cost is this much lower."""
SCALE = 0.01
UNMOVED = 1e-6
START = (1e-12, 1e-12, 1e-10, 0.03, 0.5, 0.7, 0.3, 0.3)
LOWEST = (1e-14, 1e-14, 1e-12, 2e-3, 0.0, 0.0, 0.0, 0.0)
HIGHEST = (1e-11, 1e-11, 1e-9, 0.3, 1.5, 1.5, 1.5, 1.5)


class ClockFit(NamedTuple):
    """What was found."""

    highest_MHz: float  # noqa: N815
    values: dict[str, Estimate]
    errors: dict[str, float]
    """Signed error of each load's settled time; held-out loads say so."""


def fit_clock(soaks: list[Sample], duties: list[Sample], gpu: GPU, limit: float) -> ClockFit | None:
    """The model of one chip; None where no load was limited or no clock was read."""
    known = [s for s in (*soaks, *duties) if not s.held_out]
    highest = max((s.state.get("sm_clock_MHz", 0.0) for s in known), default=0.0)
    if not highest:
        return None
    loads = [soak_load(s, gpu, highest) for s in soaks] + [duty_load(s, gpu) for s in duties]
    fitted = [load for load in loads if not load.held_out]
    if not any(load.measured > SLOWED * load.alone for load in fitted):
        return None
    best = _best(fitted, limit)
    spread = _deviations(fitted, limit, best)
    clock = clock_of(best, limit)
    errors = {load.title: settled(load, clock) / load.measured - 1 for load in loads}
    kept = [abs(errors[load.title]) for load in loads if load.held_out]
    held = float(np.median(kept)) if kept else None
    values = {
        name: Estimate(float(v), _interval(float(v), float(d)), len(fitted), held)
        for name, v, d in zip(NAMES[: len(best)], best, spread, strict=True)
    }
    return ClockFit(highest, values, errors)


def _best(loads: list[Load], limit: float) -> np.ndarray:
    """The solution of the start that fits best: below the headroom the model is flat, so a start there never moves."""
    classes = {name for load in loads for name, _ in load.classes}
    free = ALWAYS + sum(name.removeprefix("sensitivity.") in classes for name in NAMES[ALWAYS:])
    solutions = [_solve(loads, limit, _start(factor)[:free]) for factor in STARTS]
    costs = [_cost(loads, limit, solution) for solution in solutions]
    first = costs[0] <= BETTER * min(costs)
    return solutions[0 if first else int(np.argmin(costs))]


def _start(factor: float) -> np.ndarray:
    """START with energies that are `factor` times as large."""
    return np.asarray([x * factor if name.startswith("energy") else x for name, x in zip(NAMES, START, strict=True)])


def _cost(loads: list[Load], limit: float, x: np.ndarray) -> float:
    clock = clock_of(x, limit)
    return sum(float(np.sqrt(1 + (r / SCALE) ** 2)) - 1 for load in loads for r in _residuals(load, clock))


def _interval(value: float, deviation: float) -> tuple[float, float] | None:
    """None where leaving loads out changes nothing: then the data say nothing of the value."""
    if deviation <= UNMOVED * value:
        return None
    return max(0.0, value - 2 * deviation), value + 2 * deviation


def _solve(loads: list[Load], limit: float, start: np.ndarray, evaluations: int = 60) -> np.ndarray:
    """The first parameters in the order of NAMES, as many as `start` has; scaled by START inside."""
    n = len(start)
    scale = np.asarray(START[:n])

    def residuals(x: np.ndarray) -> np.ndarray:
        clock = clock_of(x * scale, limit)
        return np.asarray([r for load in loads for r in _residuals(load, clock)])

    bounds = (np.asarray(LOWEST[:n]) / scale, np.asarray(HIGHEST[:n]) / scale)
    found = least_squares(
        residuals, start / scale, bounds=bounds, loss="soft_l1", f_scale=SCALE, diff_step=1e-3, max_nfev=evaluations
    )
    return np.asarray(found.x * scale)


def _residuals(load: Load, clock: Clock) -> Iterator[float]:
    by_class = settled_classes(load, clock)
    yield log(sum(by_class.values()) / load.measured)
    for name, measured in load.classes:
        yield CLASS_WEIGHT * log(by_class[name] / measured)
    if load.clock is not None and load.clock < UNLIMITED:
        demand = sum(kernel_energy(kernel, clock) for kernel, _ in load.kernels) / load.alone
        predicted = min(1.0, (clock.limit.value - clock.idle.value) / demand)
        yield CLOCK_WEIGHT * log(predicted / load.clock)
    if load.power is not None:
        demand = sum(kernel_energy(kernel, clock) for kernel, _ in load.kernels) / load.measured
        yield log((clock.idle.value + demand) / load.power)
    if load.early:
        simulated = early(load, clock)
        for (_, seconds), predicted in zip(load.early, simulated, strict=True):
            yield EARLY_WEIGHT * log(predicted / seconds)


def _deviations(loads: list[Load], limit: float, best: np.ndarray) -> np.ndarray:
    """Standard deviations by a jackknife over loads: they are few, and each is a block of its own."""
    refits = [_solve(loads[:i] + loads[i + 1 :], limit, best, evaluations=4) for i in range(len(loads))]
    return np.asarray(np.sqrt((len(loads) - 1) / len(loads) * ((np.asarray(refits) - best) ** 2).sum(axis=0)))


def clock_of(x: np.ndarray, limit: float) -> Clock:
    """The engine's clock with these parameters."""
    none = Quantity(0.0, "derived", "fit")
    found = [Quantity(float(v), "derived", "fit") for v in x]
    usual = [Quantity(v, "guess", "as on another node") for v in USUAL_SENSITIVITIES]
    gemm, attention, byte, window, *sensitivities = [*found, *usual[len(found) - ALWAYS :]]
    return Clock(
        limit=Quantity(limit, "measured", "nvidia-smi"),
        idle=Quantity(IDLE_POWER, "guess", "as one H200"),
        window=window,
        energy=Energy(gemm, attention, byte),
        sensitivity=Sensitivity(*sensitivities),
        collective=none,
        copy=none,
    )


def _pieces(load: Load, clock: Clock) -> list[Piece]:
    return [Piece(k.kernel_class, t, kernel_energy(k, clock) / t) for k, t in load.kernels]


def settled(load: Load, clock: Clock) -> float:
    """Seconds of a round once the mean has settled, by the engine's own rule."""
    return sum(settled_classes(load, clock).values())


def settled_classes(load: Load, clock: Clock) -> dict[str, float]:
    """The same by class of kernels."""
    state, now = ClockState(clock), 0.0
    pieces = _pieces(load, clock)
    spent: dict[str, float] = {}
    while now < 6 * state.window or not spent:
        spent = dict.fromkeys((piece.kernel_class for piece in pieces), 0.0)
        for _ in range(load.rounds):
            for piece in pieces:
                seconds = _run(state, now, piece)
                spent[piece.kernel_class] += seconds / load.rounds
                now += seconds
        if load.idle:
            state.set_load(now, 0.0)
            now += load.idle
    return spent


def early(load: Load, clock: Clock) -> list[float]:
    """Seconds of a round at the instants of `load.early`, from a cool start."""
    state, now = ClockState(clock), 0.0
    pieces, rounds = _pieces(load, clock), []
    while now < load.early[-1][0] + load.measured:
        begun = now
        for piece in pieces:
            now += _run(state, now, piece)
        rounds.append((begun, now - begun))
    return [min(rounds, key=lambda r: abs(r[0] - at))[1] for at, _ in load.early]


def _run(state: ClockState, now: float, piece: Piece) -> float:
    """Seconds that a kernel takes from now, its clock looked at again every slice."""
    begin, left = now, piece.seconds
    while left > 1e-12:
        state.set_load(now, piece.demand)
        factor = state.slowdown(now, piece.kernel_class)
        step = min(left * factor, state.slice)
        left -= step / factor
        now += step
    return now - begin
