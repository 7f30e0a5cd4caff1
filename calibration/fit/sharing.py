"""Collectives, their share of links, and interference: a node profile's part for what runs at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from msgspec import structs

from calibration.samples.sample_file import ProbeSample
from offsim.scenario.faults import ScenarioError
from offsim.scenario.interference import Interference, KernelInterference
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.usual import usual
from offsim.scenario.wiring import CollectiveKind, Collectives, NVLink, Transport

from .copies import link, together
from .estimate import Estimate
from .fitting import Fit, bytes_of, note_table
from .pairs import link_cost, mutual, slowdown, weight
from .tables import curve, merged_points

COPY_FIELDS = {"H2D": "h2d", "D2H": "d2h"}
"""What copies are called where a node says what they slow; anything else is a collective."""
BESIDE_H2D = "back-to-back collectives beside H2D"
FEWEST_RATED_BYTES = 1e6
"""Bytes from which a call's rate says something."""


def nvlink_of(fit: Fit) -> NVLink | None:
    """A GPU's side of NVLink, as published, where collectives go over it."""
    if fit.inventory.gpus == 1 or fit.inventory.transport != "nvlink":
        return None
    side = usual().wiring.nvlink
    return NVLink(send=side, receive=side)


def fit_collectives(fit: Fit) -> Collectives | None:
    """Rates, latencies and weights of both kinds of collectives; None on one GPU."""
    if fit.inventory.gpus == 1:
        return None
    transport = cast(Transport, fit.inventory.transport)
    return Collectives(transport, _collective(fit, "all-to-all"), _collective(fit, "all-gather"))


def _collective(fit: Fit, kind: str) -> CollectiveKind:
    samples, key = fit.of(kind), f"wiring.collectives.{kind.replace('-', '_')}"
    if not samples:
        raise ScenarioError(f"too little measured for a profile: no samples of {kind}")
    latency = _latency(samples)
    rate = _rate(fit, f"{key}.rate", samples, latency.value)
    # NVLink is no link that copies use: what they cost collectives there is interference.
    shared = fit.inventory.transport != "nvlink"
    share = weight(fit.of("copy-collective"), latency.value, kind) if shared else None
    found = CollectiveKind(
        rate=rate,
        latency=fit.measured(f"{key}.latency", CollectiveKind, latency, "shortest call"),
        weight=fit.measured_or(f"{key}.weight", CollectiveKind, share, BESIDE_H2D, usual().wiring.weight),
    )
    cost = _link_cost(fit, kind, latency.value) if shared else None
    if cost is None:
        return found
    source = "link less copies, over the collective's rate beside them"
    return structs.replace(found, link_cost=fit.measured(f"{key}.link_cost", CollectiveKind, cost, source))


def _rate(fit: Fit, key: str, samples: list[ProbeSample], latency: float) -> Curve:
    """Rates of long calls by the bytes that a rank sends, noted in the summary with the errors of held-out sizes."""
    long = [s for s in samples if bytes_of(s) >= FEWEST_RATED_BYTES and not s.held_out]
    points = [(bytes_of(s), bytes_of(s) / (_seconds(s) - latency)) for s in long]
    rates = curve(merged_points(points), "bytes sent / (time - latency)")
    errors = [(latency + bytes_of(s) / rates.at(bytes_of(s))) / _seconds(s) - 1 for s in samples if s.held_out]
    note_table(fit, key, f"{rates.highest() / 1e9:.1f} GB/s at most", errors, samples)
    return rates


def _link_cost(fit: Fit, kind: str, latency: float) -> Estimate | None:
    """What small reads take of the link beside their payload, where copies share it and it is told."""
    alone = link(fit.of("h2d"))[0].value
    read = together(fit.of("together"), "H2D")
    host_read = read.value / fit.inventory.gpus if read is not None else alone
    return link_cost(fit.of("copy-collective"), latency, kind, alone, host_read)


def _seconds(sample: ProbeSample) -> float:
    return float(np.median(sample.readings["seconds"]))


def _latency(samples: list[ProbeSample]) -> Estimate:
    """The fixed part of a call: the shortest one less its bytes at the highest rate that was reached."""
    fitted = [s for s in samples if not s.held_out]
    shortest, long = min(fitted, key=bytes_of), [s for s in fitted if bytes_of(s) >= FEWEST_RATED_BYTES]
    moving = bytes_of(shortest) / max(bytes_of(s) / _seconds(s) for s in long)
    value = max(0.0, min(_seconds(shortest) - moving, 0.9 * min(map(_seconds, long))))
    times = shortest.readings["seconds"]
    return Estimate(value, (min(min(times) - moving, value), max(max(times) - moving, value)), len(times))


@dataclass(frozen=True)
class Slowdowns:
    """How much longer each victim takes beside each aggressor, as fitted: both by the words of probes."""

    by_victim: Mapping[str, Mapping[str, Quantity]]

    def of_kernels(self) -> KernelInterference:
        """What a GPU's kernels suffer."""
        victims = [victim for victim in KernelInterference.__struct_fields__ if victim in self.by_victim]
        return KernelInterference(**{victim: self._of(victim) for victim in victims})

    def of_kinds(self, collectives: Collectives | None) -> Collectives | None:
        """The collectives with what each kind of them suffers."""
        if collectives is None:
            return None
        kinds = {"all_to_all": "all-to-all", "all_gather": "all-gather"}
        found = {f: structs.replace(getattr(collectives, f), interference=self._of(v)) for f, v in kinds.items()}
        return structs.replace(collectives, **found)

    def _of(self, victim: str) -> Interference:
        by = self.by_victim.get(victim, {})
        return Interference(
            **{COPY_FIELDS.get(aggressor, "collective"): slowdown for aggressor, slowdown in by.items()}
        )


def fit_interference(fit: Fit) -> Slowdowns:
    """How much longer kernels, and over NVLink collectives, take beside copies and collectives."""
    found: dict[str, dict[str, Quantity]] = {}
    for (victim, aggressor), samples in _kernels_and_copies(fit).items():
        estimate = slowdown(samples, _fixed(fit, victim))
        found.setdefault(victim, {})[aggressor] = _noted(fit, victim, aggressor, estimate)
    for victim, aggressor, quantity in _collectives_beside(fit) if fit.inventory.gpus > 1 else ():
        found.setdefault(victim, {})[aggressor] = quantity
    return Slowdowns(found)


def _fixed(fit: Fit, victim: str) -> float:
    """Seconds of a victim that nothing slows: a collective's latency."""
    return _latency(fit.of(victim)).value if victim.startswith("all-") else 0.0


def _kernels_and_copies(fit: Fit) -> dict[tuple[str, str], list[ProbeSample]]:
    """(victim, aggressor) -> the samples that tell it, for all but two collectives at once."""
    pairs: list[tuple[str, str, list[ProbeSample]]] = [
        (str(sample.config["kernel"]), str(sample.config["direction"]), [sample]) for sample in fit.of("kernel-copy")
    ]
    pairs += [(str(sample.config["kernel"]), "collective", [sample]) for sample in fit.of("kernel-collective")]
    if fit.inventory.transport == "nvlink":
        for kind in ("all-to-all", "all-gather"):
            for direction in ("H2D", "D2H"):
                beside = [s for s in fit.of("copy-collective") if _beside(s, kind, direction)]
                pairs += [(kind, direction, beside)] if beside else []
    merged: dict[tuple[str, str], list[ProbeSample]] = {}
    for victim, aggressor, samples in pairs:
        merged.setdefault((victim, aggressor), []).extend(samples)
    return merged


def _collectives_beside(fit: Fit) -> Iterator[tuple[str, str, Quantity]]:
    """How much longer each kind of collective takes while the other one runs."""
    wiring = usual().wiring
    beside = wiring.beside_nvlink if fit.inventory.transport == "nvlink" else wiring.beside_host_memory
    for victim, aggressor, readings in (("all-to-all", "all-gather", ""), ("all-gather", "all-to-all", "collective_")):
        if fit.of("collective-pair"):
            found = mutual(fit.of("collective-pair"), readings, _latency(fit.of(victim)).value)
            yield victim, aggressor, _noted(fit, victim, aggressor, found)
        else:
            yield victim, aggressor, getattr(beside, victim.replace("-", "_"))


def _noted(fit: Fit, victim: str, aggressor: str, found: Estimate) -> Quantity:
    """How much one thing slows another, noted in the summary."""
    field = COPY_FIELDS.get(aggressor, "collective")
    owner = "wiring.collectives" if victim.startswith("all-") else "gpu.interference"
    key = f"{owner}.{victim.replace('-', '_')}.{'interference.' if victim.startswith('all-') else ''}{field}"
    return fit.measured(key, Interference, found, "alone and beside, in turns")


def _beside(sample: ProbeSample, kind: str, direction: str) -> bool:
    c = sample.config
    return c["kind"] == kind and c["direction"] == direction and c["every"] == 0 and not sample.held_out
