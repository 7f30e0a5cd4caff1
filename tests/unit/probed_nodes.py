"""Nodes whose every value is a round number, so that what a probe reads can be checked in the head."""

from offsim.scenario.gpu import GPU, usual_unpacking
from offsim.scenario.host import Host, Socket
from offsim.scenario.node import Node
from offsim.scenario.quantity import Curve
from offsim.scenario.wiring import CollectiveKind, Collectives, NVLink, PCIe, Wiring
from tests.changed_nodes import Slowdown, interfering
from tests.strategies import curve, no_overheads, quantity

TERA = 1e12
WIDE = quantity(1e15)
NONE = quantity(0.0)


def gpu(unpack: Curve | None = None) -> GPU:
    """Products at 500 TFLOP/s, attention at 400, device memory at 4 TB/s, relayouts at half of that."""
    return GPU(
        name="round",
        memory=WIDE,
        context=NONE,
        gemm=curve((1.0, 500 * TERA)),
        attention={"default": curve((1.0, 400 * TERA))},
        memory_bandwidth=quantity(4 * TERA),
        relayout_bandwidth=quantity(2 * TERA),
        unpack=unpack or usual_unpacking(),
    )


def link(latency: float = 0.0, duplex: float = 2.0, further_call: float | None = None) -> PCIe:
    """50 GB/s each way."""
    further = None if further_call is None else quantity(further_call)
    rate = quantity(50e9)
    return PCIe(h2d=rate, d2h=rate, duplex=quantity(duplex), latency=quantity(latency), further_call=further)


def host(read: float = 1e15) -> Host:
    """Pageable copies at 5 and 10 GB/s, into fresh memory at 1 GB/s."""
    sockets = (Socket(read=quantity(read), write=WIDE, total=WIDE),)
    slow, touched, fresh = quantity(5e9), quantity(10e9), quantity(1e9)
    return Host(
        memory=WIDE,
        sockets=sockets,
        pageable_h2d=slow,
        pageable_d2h=touched,
        fresh_d2h=fresh,
        overheads=no_overheads(),
    )


def one_gpu(pcie: PCIe | None = None, interference: tuple[Slowdown, ...] = (), unpack: Curve | None = None) -> Node:
    """One GPU, issuing for nothing."""
    wiring = Wiring(gpus=1, sockets=((0,),), pcie=pcie or link())
    node = Node(name="probed", title="round numbers", gpu=gpu(unpack), host=host(), wiring=wiring)
    return interfering(node, interference)


def two_gpus(
    *,
    nvlink: bool = False,
    weight: float = 1.0,
    latency: float = 0.0,
    read: float = 1e15,
    interference: tuple[Slowdown, ...] = (),
) -> Node:
    """Two GPUs; collectives reach 20 GB/s through host memory, 200 GB/s over NVLink."""
    rate = curve((1.0, 200e9 if nvlink else 20e9))
    kind = CollectiveKind(rate=rate, latency=quantity(latency), weight=quantity(weight))
    wiring = Wiring(
        gpus=2,
        sockets=((0, 1),),
        pcie=link(),
        nvlink=NVLink(send=quantity(400e9), receive=quantity(400e9)) if nvlink else None,
        collectives=Collectives(transport="nvlink" if nvlink else "host-memory", all_to_all=kind, all_gather=kind),
    )
    node = Node(name="probed-x2", title="round numbers, twice", gpu=gpu(), host=host(read), wiring=wiring)
    return interfering(node, interference)


def slowed(victim: str, aggressor: str, slowdown: float) -> tuple[Slowdown, ...]:
    """One thing that slows another."""
    return ((victim, aggressor, quantity(slowdown)),)
