"""What the chip draws where none of our kernels runs, off the counter of energy while it idles, copies or exchanges."""

from calibration.samples.sample_file import ProbeSample
from offsim.scenario.usual import usual

from .fitting import Fit
from .loads import drawn

STEADY = (0.5, 9e9)


def idle_power(fit: Fit) -> tuple[float, str]:
    """Watts of an idle chip, and the source of that; the source is empty if it was not measured."""
    found = _mean([s for s in fit.of("draw") if s.config["load"] == "idle"])
    return (usual().clock.idle.value, "") if found is None else (found, "energy counter while idle")


def copy_power(fit: Fit, idle: float) -> float | None:
    """Watts above idle while copies run, of the direction that draws more; None if it was not measured."""
    found = [_mean([s for s in fit.of("draw") if s.config["load"] == load]) for load in ("H2D", "D2H")]
    return max((max(0.0, watts - idle) for watts in found if watts is not None), default=None)


def collective_power(fit: Fit, idle: float) -> float | None:
    """Watts above idle while all-to-alls run; None if it was not measured."""
    found = _mean(fit.of("draw-together"))
    return None if found is None else max(0.0, found - idle)


def _mean(samples: list[ProbeSample]) -> float | None:
    watts = [found for sample in samples if (found := drawn(sample, *STEADY)) is not None]
    return sum(watts) / len(watts) if watts else None
