"""What the fit of the clock model may move, within which bounds, and what stands where a node's loads don't tell.

A parameter that only some loads tell (how a class of kernels slows needs that class timed by itself; what relayouts
draw needs them alone) is fitted where such loads were measured. Elsewhere it is what h100-x1-c has: sensitivities as
they are, energies as multiples of the energy that they are a variant of.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from offsim.scenario.node import Clock, Energy, Sensitivity
from offsim.scenario.quantity import Quantity

from .loads import Load


class Parameter(NamedTuple):
    """One value of the clock model."""

    name: str
    start: float
    lowest: float
    highest: float
    usual: float | None = None
    """As on h100-x1-c; None: any loads tell it, or (a byte's) at least one that memory bounds."""
    of: str = ""
    """The parameter that `usual` is a multiple of."""

    @property
    def kernel_class(self) -> str:
        """What sensitivities are of."""
        return self.name.rpartition(".")[2]


PARAMETERS = (
    Parameter("energy.gemm", 1e-12, 1e-14, 1e-11),
    Parameter("energy.attention", 1e-12, 1e-14, 1e-11),
    Parameter("energy.byte", 1e-10, 1e-12, 1e-9),
    Parameter("window", 0.03, 2e-3, 0.3),
    Parameter("energy.relayout", 2e-10, 1e-12, 1e-9, 1.9, "energy.byte"),
    Parameter("sensitivity.gemm", 0.5, 0.0, 1.5, 0.371),
    Parameter("sensitivity.attention", 0.7, 0.0, 1.5, 0.574),
    Parameter("sensitivity.elementwise", 0.3, 0.0, 1.5, 0.0),
    Parameter("sensitivity.relayout", 0.3, 0.0, 1.5, 0.302),
)


def told_by(loads: list[Load]) -> tuple[Parameter, ...]:
    """Those that these loads tell."""
    return tuple(parameter for parameter in PARAMETERS if _tells(loads, parameter))


def _tells(loads: Iterable[Load], parameter: Parameter) -> bool:
    if parameter.name == "energy.byte":
        return any(load.power is not None for load in loads)
    if parameter.usual is None:
        return True
    if parameter.name == "energy.relayout":
        return any(load.name == "relayout" and load.power is not None for load in loads)
    return any(parameter.kernel_class == name for load in loads for name, _ in load.classes)


def completed(values: Mapping[str, float]) -> dict[str, float]:
    """All parameters: those given, and the usual ones."""
    found = dict(values)
    for parameter in PARAMETERS:
        if parameter.usual is not None and parameter.name not in found:
            found[parameter.name] = parameter.usual * (found[parameter.of] if parameter.of else 1.0)
    return found


class Powers(NamedTuple):
    """What a chip may draw [W]."""

    limit: float
    idle: float
    burst: float
    """Until the mean over AVERAGING has come to the limit."""


AVERAGING = 0.4
"""Seconds: so the burst of a load that begins on an idle chip ends after 0.8 s, as on all chips that were watched."""


def clock_of(values: Mapping[str, float], powers: Powers) -> Clock:
    """The engine's clock with these values, the others as usual."""
    none = Quantity(0.0, "derived", "fit")
    found = {name: Quantity(float(value), "derived", "fit") for name, value in completed(values).items()}
    energy = {name.removeprefix("energy."): value for name, value in found.items() if name.startswith("energy.")}
    slowing = {name.removeprefix("sensitivity."): q for name, q in found.items() if name.startswith("sensitivity.")}
    return Clock(
        limit=Quantity(powers.limit, "measured", "nvidia-smi"),
        idle=Quantity(powers.idle, "derived", "fit"),
        burst=Quantity(powers.burst, "derived", "fit"),
        averaging=Quantity(AVERAGING, "guess", "fit"),
        window=found["window"],
        energy=Energy(**energy),
        sensitivity=Sensitivity(**slowing),
        collective=none,
        copy=none,
    )
