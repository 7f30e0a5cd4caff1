"""The clock model of one chip, from continuous loads and bursts with gaps.

Fitted by least squares over the engine's own rule: energy per FLOP of products and of attention, energy per byte, the
sensitivities of products and attention, and the window. Data: settled times of every load against the same kernels at
full clock, the clock that NVML reads during continuous loads, the power that it reads where the clock stays high
(loads that memory bounds: nothing else tells energy per byte from energy per FLOP), and the first 150 ms of each load,
where the window shows.
Left out: a second, slower regulation about a second after a load begins, which slows it by 10 to 20 % for a tenth of a
second; and temperature: kernels of a warm chip are 1 to 2 % slower at the same nominal clock.
"""

from collections.abc import Iterator
from math import log
from typing import NamedTuple

import numpy as np
from msgspec import structs
from scipy.optimize import least_squares

from calibration.probes.kernels_time import guessed_seconds
from calibration.probes.power import load_kernels
from calibration.samples import Sample
from offsim.engine.clock import ClockState
from offsim.engine.durations import Piece, kernel_duration, kernel_energy
from offsim.program.commands import Kernel
from offsim.scenario.node import GPU, Clock, Energy, Sensitivity
from offsim.scenario.quantity import Quantity

from .estimate import Estimate

SLOWED = 1.03
"""A load whose kernels take this much longer than at full clock is limited by power."""
UNLIMITED = 0.97
"""Share of the highest clock from which on a load is not limited."""
SETTLED = (0.15, 0.7)
"""Seconds of a soak in which the clock has settled and the slower regulation has not begun."""
BINS = ((0.0, 0.03), (0.03, 0.06), (0.06, 0.1), (0.1, 0.15))
EARLY_WEIGHT, CLOCK_WEIGHT = 0.3, 0.3
IDLE_POWER = 120.0
"""Watts that the chip draws in use but idle, as NVML read it on one H200 right after a load; of others a guess."""
NAMES = ("energy.gemm", "energy.attention", "energy.byte", "window", "sensitivity.gemm", "sensitivity.attention")
STARTS = (1.0, 1.25, 1.5, 2.0)
"""Factors on the energies to start from."""
BETTER = 1.01
"""Another start counts if its cost is this much lower."""
SCALE = 0.01
UNMOVED = 1e-6
START = (1e-12, 1e-12, 1e-10, 0.03, 0.5, 0.7)
LOWEST = (1e-14, 1e-14, 1e-12, 2e-3, 0.0, 0.0)
HIGHEST = (1e-11, 1e-11, 1e-9, 0.3, 1.5, 1.5)


class ClockFit(NamedTuple):
    """What was found."""

    highest_MHz: float  # noqa: N815
    values: dict[str, Estimate]
    errors: dict[str, float]
    """Signed error of each load's settled time; held-out loads say so."""


class Load(NamedTuple):
    """A load and what it did to its own kernels."""

    name: str
    kernels: tuple[tuple[Kernel, float], ...]
    """One round, with seconds at full clock."""
    rounds: int
    """Rounds between two gaps."""
    idle: float
    measured: float
    """Seconds of a round, once settled."""
    held_out: bool = False
    clock: float | None = None
    """As a share of the highest, while continuous."""
    power: float | None = None
    """Watts drawn while continuous, where the clock stayed high: of a load at the limit it says nothing."""
    early: tuple[tuple[float, float], ...] = ()
    """(instant, seconds of a round) from a cool start."""

    @property
    def title(self) -> str:
        gaps = f", gaps of {1e3 * self.idle:.1f} ms" if self.idle else ""
        return f"{self.name}{gaps}{' (held out)' if self.held_out else ''}"

    @property
    def alone(self) -> float:
        """Seconds of a round at full clock."""
        return sum(seconds for _, seconds in self.kernels)


def of_slowest(soaks: list[Sample], together: list[Sample]) -> list[Sample]:
    """Soaks of the slowest GPU: those of all at once where there are some, with the clock and power that go with them
    left out, since they are the first GPU's.
    """
    found = {str(sample.config["kernels"]): structs.replace(sample, state={}) for sample in together}
    return [found.get(str(sample.config["kernels"]), sample) for sample in soaks]


def fit_clock(soaks: list[Sample], duties: list[Sample], gpu: GPU, limit: float) -> ClockFit | None:
    """The model of one chip; None where no load was limited or no clock was read."""
    known = [s for s in (*soaks, *duties) if not s.held_out]
    highest = max((s.state.get("sm_clock_MHz", 0.0) for s in known), default=0.0)
    if not highest:
        return None
    loads = [_soak(s, gpu, highest) for s in soaks] + [_duty(s, gpu) for s in duties]
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
        for name, v, d in zip(NAMES, best, spread, strict=True)
    }
    return ClockFit(highest, values, errors)


def _best(loads: list[Load], limit: float) -> np.ndarray:
    """The solution of the start that fits best: below the headroom the model is flat, so a start there never moves."""
    solutions = [_solve(loads, limit, _start(factor)) for factor in STARTS]
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
    """Parameters in the order of NAMES; scaled by START inside."""
    scale = np.asarray(START)

    def residuals(x: np.ndarray) -> np.ndarray:
        clock = clock_of(x * scale, limit)
        return np.asarray([r for load in loads for r in _residuals(load, clock)])

    bounds = (np.asarray(LOWEST) / scale, np.asarray(HIGHEST) / scale)
    found = least_squares(
        residuals, start / scale, bounds=bounds, loss="soft_l1", f_scale=SCALE, diff_step=1e-3, max_nfev=evaluations
    )
    return np.asarray(found.x * scale)


def _residuals(load: Load, clock: Clock) -> Iterator[float]:
    yield log(settled(load, clock) / load.measured)
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
    gemm, attention, byte, window, s_gemm, s_attention = (Quantity(float(v), "derived", "fit") for v in x)
    none = Quantity(0.0, "derived", "fit")
    return Clock(
        limit=Quantity(limit, "measured", "nvidia-smi"),
        idle=Quantity(IDLE_POWER, "guess", "as one H200"),
        window=window,
        energy=Energy(gemm, attention, byte),
        sensitivity=Sensitivity(s_gemm, s_attention, none, none),
        collective=none,
        copy=none,
    )


def _kernels(name: str, gpu: GPU) -> tuple[tuple[Kernel, float], ...]:
    return tuple((kernel, kernel_duration(kernel, gpu)) for kernel in load_kernels(name))


def _soak(sample: Sample, gpu: GPU, highest: float) -> Load:
    name = str(sample.config["kernels"])
    starts, times = np.asarray(sample.readings["start"]), np.asarray(sample.readings["seconds"])

    def inside(low: float, high: float) -> float | None:
        chosen = times[(starts >= low) & (starts < high)]
        return float(np.median(chosen)) if len(chosen) else None

    measured = inside(*SETTLED) or float(np.median(times))
    # The clock was read in the second half of the run, when the chip is warmer: what it says goes with that time.
    late = inside(0.5 * float(starts.max()), 9e9) or measured
    reading = sample.state.get("sm_clock_MHz")
    clock = None if reading is None else min(1.0, reading / highest * (late / measured) ** 1.5)
    found = [((low + high) / 2, inside(low, high)) for low, high in BINS]
    first = tuple((at, seconds) for at, seconds in found if seconds is not None)
    power = sample.state.get("power_W") if clock is not None and clock >= UNLIMITED else None
    return Load(name, _kernels(name, gpu), 1, 0.0, measured, sample.held_out, clock, power, first)


def _duty(sample: Sample, gpu: GPU) -> Load:
    name, busy, idle = str(sample.config["kernels"]), float(sample.config["busy"]), float(sample.config["idle"])
    rounds = max(1, round(busy / sum(guessed_seconds(kernel) for kernel in load_kernels(name))))
    measured = float(np.median(sample.readings["seconds"]))
    return Load(name, _kernels(name, gpu), rounds, idle, measured, sample.held_out)


def _pieces(load: Load, clock: Clock) -> list[Piece]:
    return [Piece(k.kernel_class, t, kernel_energy(k, clock) / t) for k, t in load.kernels]


def settled(load: Load, clock: Clock) -> float:
    """Seconds of a round once the mean has settled, by the engine's own rule."""
    state, now, spent = ClockState(clock), 0.0, 0.0
    pieces = _pieces(load, clock)
    begun = 0.0
    while now < 6 * state.window or spent == 0.0:
        begun = now
        for _ in range(load.rounds):
            for piece in pieces:
                now += _run(state, now, piece)
        spent = now - begun
        if load.idle:
            state.set_load(now, 0.0)
            now += load.idle
    return spent / load.rounds


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
