"""The clock model of one chip, from continuous loads and bursts with gaps.

Fitted by least squares over the engine's own rule: energy per FLOP of products and of attention, energy per byte, the
window, and what only some loads tell (see clock_parameters): below which clock a class of kernels slows, how power goes
with the clock, energy of relayouts. Data: settled times of every load against the same kernels at full clock, of each
class of kernels in it (totals don't tell them apart), the clock that NVML reads during continuous loads, the power that
it reads where the clock stays high (loads that memory bounds: nothing else tells energy per byte from energy per FLOP),
and the first 150 ms of each load, where the window shows. A load's time goes with what the chip drew
meanwhile: 710 to 790 W of a limit of 700, before a slower regulation brings the mean down. Where the energy was not
counted that is taken as the usual one.
Left out: the dip with which that regulation begins; temperature: kernels of a warm chip are 1 to 2 % slower at the same
nominal clock; and that kernels are slower right after a gap (bursts count for less, therefore).
"""

from collections.abc import Iterator
from math import log
from typing import NamedTuple

import numpy as np
from msgspec import structs
from scipy.optimize import least_squares

from calibration.samples.sample_file import ProbeSample
from offsim.engine.clock import ClockState, PowerCurve
from offsim.engine.durations import TimedKernel, kernel_energy
from offsim.scenario.gpu import GPU, Clock
from offsim.scenario.quantity import Quantity
from offsim.scenario.usual import usual

from .clock_parameters import Parameter, Powers, clock_of, identifiable_parameters
from .estimate import Estimate
from .loads import UNLIMITED, Load, duty_load, of_slowest, soak_load

EARLY_WEIGHT, CLOCK_WEIGHT, CLASS_WEIGHT, GAPS_WEIGHT = 0.3, 0.3, 0.5, 0.3
FEWEST_COUNTED_BLOCKS = 3
"""Blocks whose energy was counted: what they draw for a moment differs by 4 %."""
STARTS = (1.0, 1.25, 1.5, 2.0)
"""Factors on the energies from which the fit starts."""
BETTER = 1.01
"""Another start of the fit counts if its cost is lower by this factor."""
RESIDUAL_SCALE = 0.01
UNMOVED = 1e-6


class ClockFit(NamedTuple):
    """A fitted clock model: its values with their intervals, and the errors of the loads that it was fitted to."""

    highest_MHz: float  # noqa: N815
    powers: Powers
    burst_counted: bool
    """Whether energy was counted, so that the burst is this chip's own."""
    values: dict[str, Estimate]
    errors: dict[str, float]
    """Title of a load -> signed error of its settled time; titles of held-out loads say so."""


def fit_clock(
    alone: list[ProbeSample], together: list[ProbeSample], duties: list[ProbeSample], gpu: GPU, powers: Powers
) -> ClockFit | None:
    """The clock model of the slowest chip, from soaks of one GPU and of all together, and from bursts with gaps.

    None where no load was limited or no clock was read. Energy is counted on the first chip: its soaks tell the burst.
    """
    soaks = of_slowest(alone, together)
    known = [s for s in (*soaks, *duties) if not s.held_out]
    highest = max((s.state.get("sm_clock_MHz", 0.0) for s in known), default=0.0)
    if not highest:
        return None
    loads = [soak_load(s, gpu, highest) for s in soaks] + [duty_load(s, gpu) for s in duties]
    fitted = [load for load in loads if not load.held_out]
    if not any(load.limited for load in fitted):
        return None
    burst = counted_burst([soak_load(s, gpu, highest) for s in alone if not s.held_out])
    above = usual().clock.burst_of_limit.value * powers.limit if burst is None else max(powers.limit, burst)
    chip = Chip(powers._replace(burst=above), identifiable_parameters(fitted))
    best = chip.best(fitted)
    spread = chip.deviations(fitted, best)
    clock = chip.clock(best)
    errors = {load.title: settled_seconds(load, while_drawing(clock, load)) / load.measured - 1 for load in loads}
    kept = [abs(errors[load.title]) for load in loads if load.held_out]
    held = float(np.median(kept)) if kept else None
    values = {
        parameter.name: Estimate(float(v), _interval(float(v), float(d)), len(fitted), held)
        for parameter, v, d in zip(chip.free, best, spread, strict=True)
    }
    return ClockFit(highest, chip.powers, burst is not None, values, errors)


def counted_burst(loads: list[Load]) -> float | None:
    """Watts that blocks at the limit draw for a moment; None where the energy of too few was counted."""
    bursts = [load.burst for load in loads if not load.only and load.limited and load.burst is not None]
    return float(np.median(bursts)) if len(bursts) >= FEWEST_COUNTED_BLOCKS else None


def _interval(value: float, deviation: float) -> tuple[float, float] | None:
    """The interval of a value; None where leaving loads out changes nothing, so that the data say nothing of it."""
    if deviation <= UNMOVED * value:
        return None
    return max(0.0, value - 2 * deviation), value + 2 * deviation


class Chip(NamedTuple):
    """What is known of a chip, and which parameters a fit has to find; vectors are in the order of `free`."""

    powers: Powers
    free: tuple[Parameter, ...]

    def clock(self, x: np.ndarray) -> Clock:
        """The engine's clock with these parameters."""
        return clock_of({p.name: float(v) for p, v in zip(self.free, x, strict=True)}, self.powers)

    def best(self, loads: list[Load]) -> np.ndarray:
        """The parameters that fit best over all starts: below the headroom the model is flat, a start there stays."""
        solutions = [self.solve(loads, self._start(factor)) for factor in STARTS]
        costs = [self._cost(loads, solution) for solution in solutions]
        first = costs[0] <= BETTER * min(costs)
        return solutions[0 if first else int(np.argmin(costs))]

    def _start(self, factor: float) -> np.ndarray:
        """A vector of starting values, with energies `factor` times as large as usual."""
        return np.asarray([p.start * factor if p.name.startswith("energy") else p.start for p in self.free])

    def _cost(self, loads: list[Load], x: np.ndarray) -> float:
        clock = self.clock(x)
        return sum(float(np.sqrt(1 + (r / RESIDUAL_SCALE) ** 2)) - 1 for load in loads for r in _residuals(load, clock))

    def solve(self, loads: list[Load], start: np.ndarray, evaluations: int = 60) -> np.ndarray:
        """The parameters of least squares from a start; they are scaled by the usual starts inside."""
        scale = self._start(1.0)

        def residuals(x: np.ndarray) -> np.ndarray:
            clock = self.clock(x * scale)
            return np.asarray([r for load in loads for r in _residuals(load, clock)])

        bounds = (np.asarray([p.lowest for p in self.free]) / scale, np.asarray([p.highest for p in self.free]) / scale)
        found = least_squares(
            residuals,
            start / scale,
            bounds=bounds,
            loss="soft_l1",
            f_scale=RESIDUAL_SCALE,
            diff_step=1e-3,
            max_nfev=evaluations,
        )
        return np.asarray(found.x * scale)

    def deviations(self, loads: list[Load], best: np.ndarray) -> np.ndarray:
        """Standard deviations of the parameters by a jackknife over loads, each of which is a block of its own.

        A load without which a parameter is not told at all stays.
        """
        others = [loads[:i] + loads[i + 1 :] for i in range(len(loads))]
        refits = [
            self.solve(rest, best, evaluations=4) for rest in others if identifiable_parameters(rest) == self.free
        ]
        n = max(1, len(refits))
        return np.asarray(np.sqrt((n - 1) / n * ((np.asarray(refits or [best]) - best) ** 2).sum(axis=0)))


def while_drawing(clock: Clock, load: Load) -> Clock:
    """The clock that holds for a load's settled time.

    What a limited load drew then is its limit; where that is not known, the burst, or of long ones the limit.
    """
    known = load.drawn if load.limited else None
    return _limited_to(clock, known, clock.limit if load.lasting else clock.burst or clock.limit)


def at_first(clock: Clock, load: Load) -> Clock:
    """The clock that holds for a load's first 150 ms, in which the chip may draw its burst."""
    known = load.burst if load.limited else None
    return _limited_to(clock, known, clock.burst or clock.limit)


def _limited_to(clock: Clock, watts: float | None, otherwise: Quantity) -> Clock:
    """A clock with one power limit in place of a limit and a burst."""
    limit = otherwise
    if watts is not None:
        limit = Quantity(max(watts, clock.idle.value + 1.0), "measured", "energy counter")
    return structs.replace(clock, limit=limit, burst=None, averaging=None)


def _residuals(load: Load, clock: Clock) -> Iterator[float]:
    beginning, clock = at_first(clock, load), while_drawing(clock, load)
    by_class = settled_seconds_by_class(load, clock)
    yield (GAPS_WEIGHT if load.idle else 1.0) * log(sum(by_class.values()) / load.measured)
    for name, measured in load.classes:
        yield CLASS_WEIGHT * log(by_class[name] / measured)
    if load.clock is not None and load.clock < UNLIMITED:
        yield CLOCK_WEIGHT * log(continuous(load, clock) / load.clock)
    if load.power is not None:
        demand = sum(kernel_energy(kernel, clock) for kernel, _ in load.kernels) / load.measured
        yield log((clock.idle.value + demand) / load.power)
    if load.early:
        simulated = early(load, beginning)
        for (_, seconds), predicted in zip(load.early, simulated, strict=True):
            yield EARLY_WEIGHT * log(predicted / seconds)


def continuous(load: Load, clock: Clock) -> float:
    """The clock that a load without gaps leads to, as a share of the highest."""
    pieces, curve = _pieces(load, clock), PowerCurve(clock)
    energies = [(piece.kernel_class, piece.demand * piece.seconds) for piece in pieces]
    parts = [sum(joules for name, joules in energies if name == wanted) / load.alone for wanted in curve.classes]
    demand = sum(joules for _, joules in energies) / load.alone
    return curve.clock(demand, parts, clock.limit.value - clock.idle.value)


def _pieces(load: Load, clock: Clock) -> list[TimedKernel]:
    return [TimedKernel(k.kernel_class, t, kernel_energy(k, clock) / t) for k, t in load.kernels]


def settled_seconds(load: Load, clock: Clock) -> float:
    """Seconds that a round of a load takes once the mean power has settled, by the engine's own rule."""
    return sum(settled_seconds_by_class(load, clock).values())


def settled_seconds_by_class(load: Load, clock: Clock) -> dict[str, float]:
    """Seconds that each class of kernels takes in a round of a load once the mean power has settled."""
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
    """Seconds that a round takes at the instants of `load.early`, from a cool start on."""
    state, now = ClockState(clock), 0.0
    pieces, rounds = _pieces(load, clock), []
    while now < load.early[-1][0] + load.measured:
        begun = now
        for piece in pieces:
            now += _run(state, now, piece)
        rounds.append((begun, now - begun))
    return [min(rounds, key=lambda r: abs(r[0] - at))[1] for at, _ in load.early]


def _run(state: ClockState, now: float, piece: TimedKernel) -> float:
    """Seconds that a kernel takes from now, its clock looked at again every slice."""
    begin, left = now, piece.seconds
    while left > 1e-12:
        state.set_load(now, piece.demand, piece.kernel_class)
        factor = state.slowdown(piece.kernel_class)
        step = min(left * factor, state.slice)
        left -= step / factor
        now += step
    return now - begin
