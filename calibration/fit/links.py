"""A node's own links and host memory, and what commands cost its host thread."""

from statistics import median
from typing import Any

from offsim.scenario.host import Host, Overheads, Socket
from offsim.scenario.quantity import Quantity
from offsim.scenario.usual import usual
from offsim.scenario.wiring import PCIe

from .copies import duplex, further_call, link, pageable, together
from .estimate import Estimate, estimated
from .fitting import Fit

BACK_TO_BACK = "pinned copies back to back"
PAGEABLE = {
    "pageable_h2d": ("H2D", "pageable"),
    "pageable_d2h": ("D2H", "pageable"),
    "fresh_d2h": ("D2H", "fresh"),
}
"""Field of a host -> direction and memory of its samples."""


def fit_links(fit: Fit) -> tuple[PCIe, Host]:
    """A GPU's own PCIe link, and the host memory that copies go to and come from."""
    (h2d, latency), (d2h, _) = link(fit.of("h2d")), link(fit.of("d2h"))
    gamma = duplex(fit.of("bidirectional"), h2d.value, d2h.value, latency.value)
    further, unknown = further_call(fit.of("chunks")), usual().wiring.duplex
    pcie = PCIe(
        h2d=fit.measured("wiring.pcie.h2d", PCIe, h2d, BACK_TO_BACK),
        d2h=fit.measured("wiring.pcie.d2h", PCIe, d2h, BACK_TO_BACK),
        duplex=fit.measured_or("wiring.pcie.duplex", PCIe, gamma, "both directions at once", unknown),
        latency=fit.measured("wiring.pcie.latency", PCIe, latency, BACK_TO_BACK),
        further_call=fit.measured_or("wiring.pcie.further_call", PCIe, further, "one transfer in several calls", None),
    )
    return pcie, _host(fit, h2d, d2h)


def _host(fit: Fit, h2d: Estimate, d2h: Estimate) -> Host:
    """The host: rates of pageable copies, the limits of all GPUs together, and what commands cost."""
    pages: dict[str, Any] = {}
    for key, (direction, memory) in PAGEABLE.items():
        found = pageable(fit.of("pageable"), direction, memory)
        pages[key] = fit.measured_or(f"host.{key}", Host, found, "blocking copies", getattr(usual().host, key))
    total = Quantity(fit.inventory.host_memory_bytes, "measured", "the kernel's figure")
    return Host(total, (_socket(fit, h2d, d2h),), **pages, overheads=_overheads(fit))


def _socket(fit: Fit, h2d: Estimate, d2h: Estimate) -> Socket:
    """One host memory for all GPUs; limits measured with several GPUs, else those of their links."""
    gpus, source = fit.inventory.gpus, "the GPUs' own links: the host's limit lies above"
    alone = {"H2D": h2d.value, "D2H": d2h.value, "both": h2d.value + d2h.value}
    limits = {}
    for key, direction in (("read", "H2D"), ("write", "D2H"), ("total", "both")):
        found = together(fit.of("together"), direction)
        links = Quantity(gpus * alone[direction], "derived", source)
        limits[key] = fit.measured_or(f"host.sockets.{key}", Socket, found, "all GPUs at once", links)
    return Socket(**limits)


def _overheads(fit: Fit) -> Overheads:
    """The host time that every kind of command takes."""
    costs: dict[str, Any] = {}
    for kind in ("launch", "copy", "event", "allocation", "synchronize", "collective"):
        chosen = [s.readings["seconds"] for s in fit.of("overheads") if s.config["command"] == kind]
        # What else runs on the host only adds: of several sessions the quietest one counts.
        found = estimated([min(chosen, key=median)]) if chosen else None
        source = "many equal commands by the host's clock"
        costs[kind] = fit.measured_or(f"host.overheads.{kind}", Overheads, found, source, usual().host.command)
    return Overheads(**costs)
