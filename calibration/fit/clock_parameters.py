"""What the fit of the clock model may move, within which bounds, and what stands where a node's loads don't tell.

A parameter that only some loads tell is fitted where such loads were measured: a class's knee, if the class was timed
by itself within a block, or loaded the chip alone while its clock was read; the exponent, if several clocks were read;
what relayouts draw, if they ran alone. Elsewhere it is the median of five H100 SXM: knees and the exponent as they are,
what is a variant of another value as a multiple of that.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from offsim.scenario.gpu import Clock, Energy, Knee
from offsim.scenario.quantity import Quantity
from offsim.scenario.usual import usual

from .loads import Load

USUAL = usual().clock


class Parameter(NamedTuple):
    """One value of the clock model that a fit may move, with its start and its bounds."""

    name: str
    start: float
    lowest: float
    highest: float
    usual: float | None = None
    """The median of other H100s; None: any loads tell the value, or (a byte's) at least one that memory bounds."""
    of: str = ""
    """The parameter that `usual` is a multiple of."""

    @property
    def kernel_class(self) -> str:
        """The class of kernels that a knee belongs to."""
        return self.name.rpartition(".")[2]


PARAMETERS = (
    Parameter("energy.gemm", 1e-12, 1e-14, 1e-11),
    Parameter("energy.attention", 1e-12, 1e-14, 1e-11),
    Parameter("energy.byte", 1e-10, 1e-12, 1e-9),
    Parameter("window", 0.03, 2e-3, 0.3),
    Parameter("energy.relayout", 2e-10, 1e-12, 1e-9, USUAL.relayout_of_byte_energy.value, "energy.byte"),
    Parameter("power_exponent", 3.0, 1.0, 10.0, USUAL.power_exponent.value),
    Parameter("knee.gemm", 0.8, 0.3, 1.0, USUAL.gemm_knee.value),
    Parameter("knee.attention", 0.85, 0.3, 1.0, USUAL.attention_knee.value),
    Parameter("knee.relayout", 0.8, 0.3, 1.0, USUAL.relayout_of_gemm_knee.value, "knee.gemm"),
)


FEWEST_READ_CLOCKS = 2
"""Continuous loads at the limit whose clock was read: more of them tell how power goes with the clock."""


def identifiable_parameters(loads: list[Load]) -> tuple[Parameter, ...]:
    """The parameters of the clock model whose values these loads tell."""
    return tuple(parameter for parameter in PARAMETERS if _tells(loads, parameter))


def _tells(loads: Sequence[Load], parameter: Parameter) -> bool:
    if parameter.name == "energy.byte":
        return any(load.power is not None for load in loads)
    if parameter.usual is None:
        return True
    if parameter.name == "energy.relayout":
        return any(load.name == "relayout" and load.power is not None for load in loads)
    read = [load for load in loads if load.limited and load.clock is not None]
    if parameter.name == "power_exponent":
        return len(read) > FEWEST_READ_CLOCKS or any(load.classes for load in loads)
    timed = any(parameter.kernel_class == name for load in loads for name, _ in load.classes)
    return timed or any(load.only == parameter.kernel_class for load in read)


def completed(values: Mapping[str, float]) -> dict[str, float]:
    """The values of all parameters: those given, and the usual ones for the others."""
    found = dict(values)
    for parameter in PARAMETERS:
        if parameter.usual is not None and parameter.name not in found:
            found[parameter.name] = parameter.usual * (found[parameter.of] if parameter.of else 1.0)
    return found


class Powers(NamedTuple):
    """What a chip may draw at its limit, idle and for a moment [W]."""

    limit: float
    idle: float
    burst: float = 0.0
    """What it may draw until the mean over the usual time of averaging has come to the limit; 0: not known yet."""


def clock_of(values: Mapping[str, float], powers: Powers) -> Clock:
    """The engine's clock with these values of its parameters; the others have the usual ones."""
    none = Quantity(0.0, "derived", "fit")
    found = {name: Quantity(float(value), "derived", "fit") for name, value in completed(values).items()}
    energy = {name.removeprefix("energy."): value for name, value in found.items() if name.startswith("energy.")}
    knees = {name.removeprefix("knee."): value for name, value in found.items() if name.startswith("knee.")}
    return Clock(
        limit=Quantity(powers.limit, "measured", "nvidia-smi"),
        idle=Quantity(powers.idle, "derived", "fit"),
        burst=Quantity(powers.burst, "derived", "fit"),
        averaging=Quantity(USUAL.averaging.value, "guess", "fit"),
        window=found["window"],
        energy=Energy(**energy),
        power_exponent=found["power_exponent"],
        knee=Knee(**knees),
        collective=none,
        copy=none,
    )
