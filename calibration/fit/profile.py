"""The node profile: every fitted value with its origin, as TOML that offsim loads as any node.

What was not measured is taken from a node of the catalogue with the same GPUs where there is one, and says so. Several
ranks were measured by the slowest of them, so the profile is the node's slower GPU.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibration.samples import Header, Sample, read_samples
from offsim.scenario.node import GPU
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import ScenarioError

from . import toml
from .clock import IDLE_POWER, fit_clock
from .copies import duplex, further_call, link, pageable, together
from .estimate import Estimate, estimated
from .pairs import slowdown, weight
from .tables import (
    attention_key,
    attention_work,
    by_key,
    curve,
    interpolation_error,
    merged_points,
    product_key,
    product_work,
    rate_points,
    relayout_bytes,
)

LARGE = 2e9
"""Bytes of an elementwise kernel that no cache serves."""
WORKSPACE = 2.0**25
"""cuBLAS on Hopper: 32 MiB, where the samples don't say."""


class SummaryRow(NamedTuple):
    """A line of the table at a calibration's end."""

    parameter: str
    value: str
    interval: str
    held_out_error: str
    n: int
    note: str


class Fitted(NamedTuple):
    """A profile and what to say about it."""

    toml: str
    summary: list[SummaryRow]


class Fit:
    """One fit: samples by probe, tables and rows as they come."""

    def __init__(self, headers: list[Header], samples: list[Sample]) -> None:
        self.header = headers[-1]
        self.inventory = headers[-1].inventory
        self.samples = samples
        self.rows: list[SummaryRow] = []
        self.tables: list[tuple[str, list[tuple[str, str]]]] = []

    def of(self, probe: str) -> list[Sample]:
        """Samples of a probe that have readings."""
        return [s for s in self.samples if s.probe == probe and any(s.readings.values())]

    def entry(
        self, key: str, estimate: Estimate | None, unit: str, factor: float, source: str
    ) -> tuple[str, str] | None:
        """A quantity's line, noted in the summary; None where there is nothing."""
        if estimate is None:
            return None
        note = estimate.note if estimate.identified else f"{estimate.note}; not identified".lstrip("; ")
        interval = "" if estimate.interval is None else " to ".join(toml.number(x / factor) for x in estimate.interval)
        error = "" if estimate.held_out_error is None else f"{100 * estimate.held_out_error:.1f} %"
        value = f"{toml.number(estimate.value / factor)} {unit}".strip()
        self.rows.append(SummaryRow(key, value, interval, error, estimate.n, note))
        name = f"{key.rsplit('.', 1)[-1]}_{unit}" if unit else key.rsplit(".", 1)[-1]
        text = toml.quantity(estimate.value, "measured", f"{source}, n = {estimate.n}", estimate, factor)
        return name, text

    def table(self, name: str, entries: list[tuple[str, str] | None]) -> None:
        """Add a table of what is known."""
        self.tables.append((name, [entry for entry in entries if entry is not None]))


def fit_profile(paths: list[Path], name: str) -> Fitted:
    """Fit the samples of one node; raises ScenarioError where too little was measured."""
    return fit_samples(*read_samples(paths), name)


def fit_samples(headers: list[Header], samples: list[Sample], name: str) -> Fitted:
    """As fit_profile, of samples at hand; the last header's machine is the node."""
    fit = Fit(headers, samples)
    needed = [probe for probe in ("h2d", "d2h", "gemm", "attention", "elementwise") if not fit.of(probe)]
    if needed:
        raise ScenarioError(f"too little measured for a profile: no samples of {', '.join(needed)}")
    gpu = _gpu(fit)
    _clock_tables(fit, gpu)
    _links(fit)
    _overheads(fit)
    _collectives(fit)
    _interference(fit)
    head = [
        ("schema", "1"),
        ("name", f'"{name}"'),
        ("title", f'"{_title(fit)}"'),
        ("gpus", str(fit.inventory.gpus)),
        ("fingerprint", f'"{fit.header.fingerprint}"'),
        ("notes", f'"Calibrated {fit.header.date[:10]}: driver {fit.inventory.driver}, {fit.inventory.cpu}."'),
    ]
    return Fitted(toml.document(head, fit.tables), fit.rows)


def _title(fit: Fit) -> str:
    through = {"host-memory": ", collectives through host memory", "nvlink": ", NVLink"}.get(
        fit.inventory.transport, ""
    )
    return f"{fit.inventory.gpus} x {fit.inventory.gpu_name}{through}"


def _gpu(fit: Fit) -> GPU:
    """Tables of kernels; the GPU without a clock, for the clock's fit."""
    source = f"bursts at full clock, {fit.header.date[:10]}"
    products = {
        key: curve(merged_points(rate_points(group, lambda s: float(s.config["rows"]), product_work)), source)
        for key, group in sorted(by_key(fit.of("gemm"), product_key).items())
    }
    attentions = {
        key: curve(merged_points(rate_points(group, lambda s: float(s.config["queries"]), attention_work)), source)
        for key, group in sorted(by_key(fit.of("attention"), attention_key).items())
    }
    elementwise = curve(rate_points(fit.of("elementwise"), _bytes, _bytes), source)
    relayouts = merged_points(rate_points(fit.of("relayout"), relayout_bytes, relayout_bytes))
    relayout = curve(relayouts, source) if relayouts else None
    _note_tables(fit, products, attentions, elementwise, relayout)
    widest = max(products.values(), key=lambda c: c.highest())
    longest = max(attentions.values(), key=lambda c: c.points[-1][0])
    memory = fit.inventory.memory_bytes
    # Smaller ones are served by the cache.
    bandwidth = Quantity(elementwise.at(LARGE), "measured", source)
    fit.table(
        "gpu",
        [
            ("name", f'"{fit.inventory.gpu_name}"'),
            ("memory_GiB", toml.quantity(memory, "measured", "nvidia-smi, memory.total", None, 2.0**30)),
            ("context_GiB", toml.quantity(0.9 * 2**30, "guess", "CUDA context, NCCL buffers", None, 2.0**30)),
            ("gemm_TFLOPS", _points(widest)),
            ("memory_bandwidth_GBps", toml.quantity(bandwidth.value, "measured", source, None, 1e9)),
            ("elementwise_GBps", toml.points(elementwise, "", 1e9)),
            ("relayout_GBps", toml.points(relayout, "", 1e9)) if relayout else None,
            (
                "workspace_MiB",
                toml.quantity(_workspace(fit), "measured", "allocated by the first product", None, 2.0**20),
            ),
        ],
    )
    fit.table("gpu.attention", [("default", toml.points(longest, "TFLOPS", 1e12))])
    fit.table("gpu.gemm_shapes", [(f'"{key}"', toml.points(c, "TFLOPS", 1e12)) for key, c in products.items()])
    fit.table("gpu.attention_shapes", [(f'"{key}"', toml.points(c, "TFLOPS", 1e12)) for key, c in attentions.items()])
    return GPU(
        name=fit.inventory.gpu_name,
        memory=Quantity(memory, "measured", source),
        context=Quantity(0.9 * 2**30, "guess", source),
        gemm=widest,
        attention={"default": longest},
        memory_bandwidth=bandwidth,
        gemm_shapes=products,
        attention_shapes=attentions,
        elementwise=elementwise,
        relayout=relayout,
    )


def _points(fitted: Curve) -> str:
    return toml.points(fitted, "", 1e12)


def _bytes(sample: Sample) -> float:
    return float(sample.config["bytes"])


def _workspace(fit: Fit) -> float:
    return max((s.state.get("workspace_bytes", 0.0) for s in fit.samples), default=0.0) or WORKSPACE


def _note_tables(
    fit: Fit, products: dict[str, Curve], attentions: dict[str, Curve], elementwise: Curve, relayout: Curve | None
) -> None:
    """Held-out errors of the tables."""
    rows = [
        ("gpu.gemm_shapes", "gemm", products, product_key, lambda s: float(s.config["rows"]), product_work),
        (
            "gpu.attention_shapes",
            "attention",
            attentions,
            attention_key,
            lambda s: float(s.config["queries"]),
            attention_work,
        ),
    ]
    for name, probe, tables, key, size, work in rows:
        errors: list[float] = []
        for shape, group in by_key(fit.of(probe), key).items():
            errors += interpolation_error(tables[shape], rate_points(group, size, work, held_out=True))
        _note_table(fit, name, f"{len(tables)} shapes", errors, fit.of(probe))
    singles = [("gpu.elementwise", "elementwise", elementwise, _bytes)]
    singles += [("gpu.relayout", "relayout", relayout, relayout_bytes)] if relayout else []
    for name, probe, fitted, work in singles:
        errors = interpolation_error(fitted, rate_points(fit.of(probe), work, work, held_out=True))
        _note_table(fit, name, f"{fitted.highest() / 1e9:.0f} GB/s at most", errors, fit.of(probe))


def _note_table(fit: Fit, name: str, value: str, errors: list[float], samples: list[Sample]) -> None:
    shown = f"{100 * float(np.median(np.abs(errors))):.1f} %" if errors else ""
    worst = f"worst {100 * max(errors, key=abs):+.1f} %" if errors else ""
    fit.rows.append(SummaryRow(name, value, "", shown, len(samples), worst))


def _clock_tables(fit: Fit, gpu: GPU) -> None:
    found = fit_clock(fit.of("soak"), fit.of("duty"), gpu, fit.inventory.power_limit_watts)
    if found is None:
        fit.rows.append(
            SummaryRow("gpu.clock", "none", "", "", 0, "no load reached the power limit, or no clock was read")
        )
        return
    source = "soak and duty probes"
    units = {"energy": ("pJ", 1e-12), "window": ("ms", 1e-3), "sensitivity": ("", 1.0)}

    def entries(group: str) -> list[tuple[str, str] | None]:
        chosen = {name: e for name, e in found.values.items() if name.split(".")[0] == group}
        return [fit.entry(f"gpu.clock.{name}", e, *units[group], source) for name, e in chosen.items()]

    fit.table(
        "gpu.clock",
        [
            ("limit_W", toml.quantity(fit.inventory.power_limit_watts, "measured", "nvidia-smi, power.limit")),
            ("idle_W", toml.quantity(IDLE_POWER, "published", "read on an H200 between loads")),
            *entries("window"),
            ("collective_W", toml.quantity(0.0, "guess", "not identified")),
            ("copy_W", toml.quantity(0.0, "guess", "not identified")),
        ],
    )
    fit.table("gpu.clock.energy", entries("energy"))
    memory_bound = "derived", "bound by memory, whose clock does not change"
    bound = [(name, toml.quantity(0.0, *memory_bound)) for name in ("elementwise", "relayout")]
    fit.table("gpu.clock.sensitivity", [*entries("sensitivity"), *bound])
    worst = max(found.errors.items(), key=lambda item: abs(item[1]))
    note = f"worst of {len(found.errors)} loads: {worst[0]} {100 * worst[1]:+.1f} %"
    fit.rows.append(SummaryRow("gpu.clock", f"{found.highest_MHz:.0f} MHz at most", "", "", len(found.errors), note))


def _links(fit: Fit) -> None:
    (h2d, latency), (d2h, _) = link(fit.of("h2d")), link(fit.of("d2h"))
    gamma = duplex(fit.of("bidirectional"), h2d.value, d2h.value, latency.value)
    fit.table(
        "pcie",
        [
            fit.entry("pcie.h2d", h2d, "GBps", 1e9, "pinned copies back to back"),
            fit.entry("pcie.d2h", d2h, "GBps", 1e9, "pinned copies back to back"),
            fit.entry("pcie.duplex", gamma, "", 1.0, "both directions at once")
            or ("duplex", toml.quantity(1.6, "guess", "not measured")),
            fit.entry("pcie.latency", latency, "us", 1e-6, "pinned copies back to back"),
            fit.entry("pcie.further_call", further_call(fit.of("chunks")), "us", 1e-6, "one transfer in several calls"),
        ],
    )
    pages = [
        fit.entry(f"host.{key}", pageable(fit.of("pageable"), d, memory), "GBps", 1e9, "copies of 256 MiB")
        for key, d, memory in (
            ("pageable_h2d", "H2D", "pageable"),
            ("pageable_d2h", "D2H", "pageable"),
            ("fresh_d2h", "D2H", "fresh"),
        )
    ]
    memory = fit.inventory.host_memory_bytes
    fit.table("host", [("memory_GiB", toml.quantity(memory, "measured", "the kernel's figure", None, 2.0**30)), *pages])
    _socket(fit, h2d, d2h)


def _socket(fit: Fit, h2d: Estimate, d2h: Estimate) -> None:
    """One host memory for all GPUs; limits measured with several GPUs, else those of their links."""
    gpus = fit.inventory.gpus
    samples = fit.of("together")
    entries: list[tuple[str, str] | None] = [("gpus", str(list(range(gpus))))]
    for key, direction, alone in (("read", "H2D", h2d.value), ("write", "D2H", d2h.value), ("total", "both", 0.0)):
        found = together(samples, direction)
        alone = alone or h2d.value + d2h.value
        source = "all GPUs at once" if found else "the GPUs' own links: the host's limit lies above"
        line = fit.entry(f"host.sockets.{key}", found, "GBps", 1e9, source)
        entries.append(line or (f"{key}_GBps", toml.quantity(gpus * alone, "derived", source, None, 1e9)))
    fit.table("[[host.sockets]]", entries)


def _overheads(fit: Fit) -> None:
    entries = []
    for kind in ("launch", "copy", "event", "allocation", "synchronize", "collective"):
        chosen = [s.readings["seconds"] for s in fit.of("overheads") if s.config["command"] == kind]
        found = estimated(chosen) if chosen else None
        line = fit.entry(f"overheads.{kind}", found, "us", 1e-6, "many equal commands by the host's clock")
        entries.append(line or (f"{kind}_us", toml.quantity(5e-5, "guess", "not measured", None, 1e-6)))
    fit.table("overheads", list(entries))


def _collectives(fit: Fit) -> None:
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
    fitted = [s for s in samples if not s.held_out]
    shortest = min(fitted, key=_bytes)
    long = [s for s in fitted if _bytes(s) >= 1e6]
    asymptotic = max(_bytes(s) / float(np.median(s.readings["seconds"])) for s in long)
    small = float(np.median(shortest.readings["seconds"])) - _bytes(shortest) / asymptotic
    latency = min(small, 0.9 * min(float(np.median(s.readings["seconds"])) for s in long))
    points = [(_bytes(s), _bytes(s) / (float(np.median(s.readings["seconds"])) - latency)) for s in long]
    rates = curve(merged_points(points), "bytes sent / (time - latency)")
    errors = [
        (latency + _bytes(s) / rates.at(_bytes(s))) / float(np.median(s.readings["seconds"])) - 1
        for s in samples
        if s.held_out
    ]
    # NVLink is no link that copies use: what they cost collectives there is interference.
    share = None if fit.inventory.transport == "nvlink" else weight(fit.of("copy-collective"), latency, kind)
    key = kind.replace("-", "_")
    _note_table(fit, f"collectives.{key}.rate", f"{rates.highest() / 1e9:.1f} GB/s at most", errors, samples)
    low, high = min(shortest.readings["seconds"]) - _bytes(shortest) / asymptotic, max(shortest.readings["seconds"])
    fixed = Estimate(latency, (min(low, latency), max(high, latency)), len(shortest.readings["seconds"]))
    unshared = "not identified: copies and collectives share no link, or this was not measured"
    fit.table(
        f"collectives.{key}",
        [
            ("rate_GBps", toml.points(rates, "", 1e9)),
            fit.entry(f"collectives.{key}.latency", fixed, "us", 1e-6, "shortest call"),
            fit.entry(f"collectives.{key}.weight", share, "", 1.0, "back-to-back collectives beside H2D")
            or ("weight", toml.quantity(0.3, "guess", unshared)),
        ],
    )


def _interference(fit: Fit) -> None:
    pairs: list[tuple[str, str, list[Sample]]] = [
        (str(sample.config["kernel"]), str(sample.config["direction"]), [sample]) for sample in fit.of("kernel-copy")
    ]
    pairs += [(str(sample.config["kernel"]), "collective", [sample]) for sample in fit.of("kernel-collective")]
    if fit.inventory.transport == "nvlink":
        for kind in ("all-to-all", "all-gather"):
            for direction in ("H2D", "D2H"):
                beside = [s for s in fit.of("copy-collective") if _beside(s, kind, direction)]
                pairs += [(kind, direction, beside)] if beside else []
    for victim, aggressor, samples in pairs:
        found = slowdown(samples)
        line = fit.entry(f"interference.{victim} by {aggressor}.slowdown", found, "", 1.0, "alone and beside, in turns")
        fit.table("[[interference]]", [("victim", f'"{victim}"'), ("aggressor", f'"{aggressor}"'), line])


def _beside(sample: Sample, kind: str, direction: str) -> bool:
    c = sample.config
    return c["kind"] == kind and c["direction"] == direction and c["every"] == 0 and not sample.held_out
