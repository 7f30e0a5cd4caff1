"""The node profile: every fitted value with its origin, as TOML that offsim loads as any node.

What was not measured is a usual value of other nodes, marked guess or published. Several ranks were measured by the
slowest of them, so the profile is the node's slower GPU.
"""

import json
from pathlib import Path
from statistics import median

from calibration.samples.sample_file import Header, Sample, read_samples
from offsim.scenario.scenario import ScenarioError

from . import toml
from .copies import duplex, further_call, link, pageable, together
from .estimate import Estimate, estimated
from .fitting import Fit, Fitted
from .gpu import add_clock, fit_gpu
from .sharing import add_collectives, add_interference

__all__ = ["Fitted", "fit_profile", "fit_samples"]


def fit_profile(paths: list[Path], name: str) -> Fitted:
    """Fit the samples of one node; raises ScenarioError where too little was measured."""
    return fit_samples(*read_samples(paths), name)


def fit_samples(headers: list[Header], samples: list[Sample], name: str) -> Fitted:
    """As fit_profile, of samples at hand; the last header's machine is the node."""
    fit = Fit(headers, samples)
    needed = [probe for probe in ("h2d", "d2h", "gemm", "attention", "elementwise") if not fit.of(probe)]
    if needed:
        raise ScenarioError(f"too little measured for a profile: no samples of {', '.join(needed)}")
    gpu = fit_gpu(fit)
    add_clock(fit, gpu)
    _links(fit)
    _overheads(fit)
    add_collectives(fit)
    add_interference(fit)
    head = [
        ("schema", "1"),
        ("name", json.dumps(name)),
        ("title", json.dumps(_title(fit))),
        ("gpus", str(fit.inventory.gpus)),
        ("fingerprint", f'"{fit.header.fingerprint}"'),
        (
            "notes",
            json.dumps(f"Calibrated {fit.header.date[:10]}: driver {fit.inventory.driver}, {fit.inventory.cpu}."),
        ),
    ]
    return Fitted(toml.document(head, fit.tables), fit.rows)


def _title(fit: Fit) -> str:
    through = {"host-memory": ", collectives through host memory", "nvlink": ", NVLink"}.get(
        fit.inventory.transport, ""
    )
    return f"{fit.inventory.gpus} x {fit.inventory.gpu_name}{through}"


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
    cases = (
        ("pageable_h2d", "H2D", "pageable", 7e9),
        ("pageable_d2h", "D2H", "pageable", 14e9),
        ("fresh_d2h", "D2H", "fresh", 1.4e9),
    )
    pages = [
        fit.entry(f"host.{key}", pageable(fit.of("pageable"), d, memory), "GBps", 1e9, "blocking copies")
        or (f"{key}_GBps", toml.quantity(usual, "guess", "not measured: as other nodes", None, 1e9))
        for key, d, memory, usual in cases
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
        # What else runs on the host only adds: of several sessions the quietest one counts.
        found = estimated([min(chosen, key=median)]) if chosen else None
        line = fit.entry(f"overheads.{kind}", found, "us", 1e-6, "many equal commands by the host's clock")
        entries.append(line or (f"{kind}_us", toml.quantity(5e-5, "guess", "not measured", None, 1e-6)))
    fit.table("overheads", list(entries))
