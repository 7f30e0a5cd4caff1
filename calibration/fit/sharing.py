"""Collectives, their share of links, and interference: a node profile's part for what runs at once."""

import numpy as np

from calibration.samples.sample_file import Sample
from offsim.scenario.scenario import ScenarioError

from . import toml
from .copies import link, together
from .estimate import Estimate
from .fitting import Fit, bytes_of, note_table
from .pairs import link_cost, mutual, slowdown, weight
from .tables import curve, merged_points

USUAL_BESIDE = {
    "nvlink": {"all-to-all": 0.83, "all-gather": 0.36},
    "host-memory": {"all-to-all": 2.3, "all-gather": 0.16},
}
"""How much longer a collective takes beside the other kind, where that was not measured."""
LONG = 1e6
"""Bytes from which a call's rate says something."""


def add_collectives(fit: Fit) -> None:
    """Rates, latencies and weights of both kinds, where there are several GPUs."""
    if fit.inventory.gpus == 1:
        return
    transport = fit.inventory.transport
    if transport == "nvlink":
        side = toml.quantity(450e9, "published", "datasheet: 18 links of 25 GB/s each way", None, 1e9)
        fit.table("nvlink", [("send_GBps", side), ("receive_GBps", side)])
    fit.table("collectives", [("transport", f'"{transport}"')])
    for kind in ("all-to-all", "all-gather"):
        _collective(fit, kind)


def _collective(fit: Fit, kind: str) -> None:
    samples = fit.of(kind)
    if not samples:
        raise ScenarioError(f"too little measured for a profile: no samples of {kind}")
    fixed = _latency(samples)
    latency = fixed.value
    long = [s for s in samples if bytes_of(s) >= LONG and not s.held_out]
    points = [(bytes_of(s), bytes_of(s) / (_seconds(s) - latency)) for s in long]
    rates = curve(merged_points(points), "bytes sent / (time - latency)")
    errors = [(latency + bytes_of(s) / rates.at(bytes_of(s))) / _seconds(s) - 1 for s in samples if s.held_out]
    # NVLink is no link that copies use: what they cost collectives there is interference.
    share = None if fit.inventory.transport == "nvlink" else weight(fit.of("copy-collective"), latency, kind)
    key = kind.replace("-", "_")
    note_table(fit, f"collectives.{key}.rate", f"{rates.highest() / 1e9:.1f} GB/s at most", errors, samples)
    unshared = "not identified: copies and collectives share no link, or this was not measured"
    fit.table(
        f"collectives.{key}",
        [
            ("rate_GBps", toml.points(rates, "", 1e9)),
            fit.entry(f"collectives.{key}.latency", fixed, "us", 1e-6, "shortest call"),
            fit.entry(f"collectives.{key}.weight", share, "", 1.0, "back-to-back collectives beside H2D")
            or ("weight", toml.quantity(0.3, "guess", unshared)),
            _link_cost(fit, kind, latency),
        ],
    )


def _link_cost(fit: Fit, kind: str, latency: float) -> tuple[str, str] | None:
    """What small reads take of the link beside their payload, where copies share it."""
    if fit.inventory.transport == "nvlink":
        return None
    alone = link(fit.of("h2d"))[0].value
    read = together(fit.of("together"), "H2D")
    host_read = read.value / fit.inventory.gpus if read is not None else alone
    found = link_cost(fit.of("copy-collective"), latency, kind, alone, host_read)
    key = f"collectives.{kind.replace('-', '_')}.link_cost"
    return fit.entry(key, found, "", 1.0, "link less copies, over the collective's rate beside them")


def _seconds(sample: Sample) -> float:
    return float(np.median(sample.readings["seconds"]))


def _latency(samples: list[Sample]) -> Estimate:
    """The fixed part of a call: the shortest one less its bytes at the highest rate that was reached."""
    fitted = [s for s in samples if not s.held_out]
    shortest, long = min(fitted, key=bytes_of), [s for s in fitted if bytes_of(s) >= LONG]
    moving = bytes_of(shortest) / max(bytes_of(s) / _seconds(s) for s in long)
    value = max(0.0, min(_seconds(shortest) - moving, 0.9 * min(map(_seconds, long))))
    times = shortest.readings["seconds"]
    return Estimate(value, (min(min(times) - moving, value), max(max(times) - moving, value)), len(times))


def add_interference(fit: Fit) -> None:
    """How much longer kernels, and over NVLink collectives, take beside copies and collectives."""
    pairs: list[tuple[str, str, list[Sample]]] = [
        (str(sample.config["kernel"]), str(sample.config["direction"]), [sample]) for sample in fit.of("kernel-copy")
    ]
    pairs += [(str(sample.config["kernel"]), "collective", [sample]) for sample in fit.of("kernel-collective")]
    if fit.inventory.transport == "nvlink":
        for kind in ("all-to-all", "all-gather"):
            for direction in ("H2D", "D2H"):
                beside = [s for s in fit.of("copy-collective") if _beside(s, kind, direction)]
                pairs += [(kind, direction, beside)] if beside else []
    merged: dict[tuple[str, str], list[Sample]] = {}
    for victim, aggressor, samples in pairs:
        merged.setdefault((victim, aggressor), []).extend(samples)
    for (victim, aggressor), samples in merged.items():
        found = slowdown(samples, _latency(fit.of(victim)).value if victim.startswith("all-") else 0.0)
        _entry(fit, victim, aggressor, found)
    if fit.inventory.gpus > 1:
        _collectives_beside(fit)


def _collectives_beside(fit: Fit) -> None:
    """How much longer each kind of collective takes while the other one runs."""
    usual = USUAL_BESIDE["nvlink" if fit.inventory.transport == "nvlink" else "host-memory"]
    for victim, aggressor, readings in (("all-to-all", "all-gather", ""), ("all-gather", "all-to-all", "collective_")):
        if fit.of("collective-pair"):
            _entry(fit, victim, aggressor, mutual(fit.of("collective-pair"), readings, _latency(fit.of(victim)).value))
        else:
            guess = toml.quantity(usual[victim], "guess", "not measured: as on h100-x2-c")
            _line(fit, victim, aggressor, ("slowdown", guess))


def _entry(fit: Fit, victim: str, aggressor: str, found: Estimate) -> None:
    """One line of the profile's table."""
    source = "alone and beside, in turns"
    _line(fit, victim, aggressor, fit.entry(f"interference.{victim} by {aggressor}.slowdown", found, "", 1.0, source))


def _line(fit: Fit, victim: str, aggressor: str, line: tuple[str, str] | None) -> None:
    fit.table("[[interference]]", [("victim", f'"{victim}"'), ("aggressor", f'"{aggressor}"'), line])


def _beside(sample: Sample, kind: str, direction: str) -> bool:
    c = sample.config
    return c["kind"] == kind and c["direction"] == direction and c["every"] == 0 and not sample.held_out
