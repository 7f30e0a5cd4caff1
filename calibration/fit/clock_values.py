"""The clock model as a node has it: fitted values, usual ones where no load here tells, and what a chip draws."""

from msgspec import structs

from offsim.scenario.gpu import GPU, Clock, Energy, Knee
from offsim.scenario.quantity import Quantity
from offsim.scenario.usual import usual

from .clock import ClockFit, fit_clock
from .clock_parameters import Powers, completed
from .draw import collective_power, copy_power, idle_power
from .fitting import Fit
from .summary import SummaryRow


def fitted_clock(fit: Fit, gpu: GPU) -> Clock | None:
    """The clock of the slowest chip; None, with a row in the summary, where no load reached a power limit."""
    limit = fit.inventory.power_limit_watts
    idle, idle_source = idle_power(fit)
    found = None
    if limit:
        found = fit_clock(fit.of("soak"), fit.of("soak-together"), fit.of("duty"), gpu, Powers(limit, idle))
    if found is None:
        why = "no load reached the power limit, or no clock was read" if limit else "nvidia-smi tells no power limit"
        fit.rows.append(SummaryRow("gpu.clock", "none", "", "", 0, why))
        return None
    known = usual().clock
    burst = structs.replace(known.burst_of_limit, value=found.powers.burst)
    if found.burst_counted:
        burst = Quantity(found.powers.burst, "measured", "energy counter")
    copying, exchanging = copy_power(fit, idle), collective_power(fit, idle)
    clock = Clock(
        limit=Quantity(limit, "measured", "nvidia-smi, power.limit"),
        burst=burst,
        averaging=known.averaging,
        idle=_power(idle if idle_source else None, idle_source, known.idle),
        collective=_power(exchanging, "energy counter", known.collective),
        copy=_power(copying, "energy counter", known.copy),
        power_exponent=_value(fit, found, Clock, "power_exponent"),
        window=_value(fit, found, Clock, "window"),
        energy=Energy(**_values(fit, found, Energy, "energy")),
        knee=Knee(**_values(fit, found, Knee, "knee")),
    )
    _note_clock(fit, found)
    return clock


def _power(watts: float | None, source: str, otherwise: Quantity) -> Quantity:
    """A power that was measured, or the usual one."""
    return otherwise if watts is None else Quantity(watts, "measured", source)


def _values(fit: Fit, found: ClockFit, part: type[Energy] | type[Knee], group: str) -> dict[str, Quantity]:
    """Field -> value of every parameter of a group."""
    names = [name for name in _completed(found) if name.startswith(f"{group}.")]
    return {name.removeprefix(f"{group}."): _value(fit, found, part, name) for name in names}


def _value(fit: Fit, found: ClockFit, part: type[Clock] | type[Energy] | type[Knee], name: str) -> Quantity:
    """A parameter as it was fitted, noted in the summary, or the usual one where these loads don't tell it."""
    if name in found.values:
        return fit.measured(f"gpu.clock.{name}", part, found.values[name], "soak and duty probes")
    return structs.replace(usual().clock.power_exponent, value=_completed(found)[name])


def _completed(found: ClockFit) -> dict[str, float]:
    """Every parameter, the usual ones last."""
    return completed({name: estimate.value for name, estimate in found.values.items()})


def _note_clock(fit: Fit, found: ClockFit) -> None:
    """The clock's own row in the summary: how well it explains the loads."""
    worst = max(found.errors.items(), key=lambda item: abs(item[1]))
    note = f"worst of {len(found.errors)} loads: {worst[0]} {100 * worst[1]:+.1f} %"
    fit.rows.append(SummaryRow("gpu.clock", f"{found.highest_MHz:.0f} MHz at most", "", "", len(found.errors), note))
