"""Nodes whose every value is a round number, so that what a probe reads can be checked in the head."""

from offsim.scenario.node import (
    GPU,
    UNPACKING,
    CollectiveKind,
    Collectives,
    Host,
    Interference,
    Node,
    NVLink,
    PCIe,
    Socket,
)
from offsim.scenario.quantity import Curve
from tests.strategies import curve, no_overheads, quantity

TERA = 1e12
WIDE = quantity(1e15)
NONE = quantity(0.0)


def gpu(unpack: Curve = UNPACKING) -> GPU:
    """Products at 500 TFLOP/s, attention at 400, device memory at 4 TB/s, relayouts at half of that."""
    return GPU(
        name="round",
        memory=WIDE,
        context=NONE,
        gemm=curve((1.0, 500 * TERA)),
        attention={"default": curve((1.0, 400 * TERA))},
        memory_bandwidth=quantity(4 * TERA),
        relayout_bandwidth=quantity(2 * TERA),
        unpack=unpack,
    )


def link(latency: float = 0.0, duplex: float = 2.0, further_call: float | None = None) -> PCIe:
    """50 GB/s each way."""
    further = None if further_call is None else quantity(further_call)
    rate = quantity(50e9)
    return PCIe(h2d=rate, d2h=rate, duplex=quantity(duplex), latency=quantity(latency), further_call=further)


def host(gpus: int, read: float = 1e15) -> Host:
    """Pageable copies at 5 and 10 GB/s, into fresh memory at 1 GB/s."""
    sockets = (Socket(gpus=tuple(range(gpus)), read=quantity(read), write=WIDE, total=WIDE),)
    slow, touched, fresh = quantity(5e9), quantity(10e9), quantity(1e9)
    return Host(memory=WIDE, sockets=sockets, pageable_h2d=slow, pageable_d2h=touched, fresh_d2h=fresh)


def one_gpu(pcie: PCIe | None = None, interference: tuple[Interference, ...] = (), unpack: Curve = UNPACKING) -> Node:
    """One GPU, issuing for nothing."""
    return Node(
        name="probed",
        title="round numbers",
        gpus=1,
        gpu=gpu(unpack),
        pcie=pcie or link(),
        host=host(1),
        overheads=no_overheads(),
        interference=interference,
    )


def two_gpus(
    *,
    nvlink: bool = False,
    weight: float = 1.0,
    latency: float = 0.0,
    read: float = 1e15,
    interference: tuple[Interference, ...] = (),
) -> Node:
    """Two GPUs; collectives reach 20 GB/s through host memory, 200 GB/s over NVLink."""
    rate = curve((1.0, 200e9 if nvlink else 20e9))
    kind = CollectiveKind(rate=rate, latency=quantity(latency), weight=quantity(weight))
    return Node(
        name="probed-x2",
        title="round numbers, twice",
        gpus=2,
        gpu=gpu(),
        pcie=link(),
        host=host(2, read),
        overheads=no_overheads(),
        nvlink=NVLink(send=quantity(400e9), receive=quantity(400e9)) if nvlink else None,
        collectives=Collectives(transport="nvlink" if nvlink else "host-memory", all_to_all=kind, all_gather=kind),
        interference=interference,
    )


def slowed(victim: str, aggressor: str, slowdown: float) -> tuple[Interference, ...]:
    """One entry of a node's interference."""
    return (Interference(victim, aggressor, quantity(slowdown)),)  # type: ignore[arg-type]
