"""Hypothesis strategies for nodes: random links, hosts, GPUs and collectives, every option of a profile among them.

Numbers are rounded, so that a failing example can be read. What a property needs (one GPU, no overheads, alike ranks,
no clock) is a parameter. Scenarios are in tests/scenario_strategies.py.
"""

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from offsim.scenario.gpu import GPU, Clock, Energy, Knee, usual_unpacking
from offsim.scenario.host import Host, Overheads, Socket
from offsim.scenario.node import Node
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.wiring import CollectiveKind, Collectives, NVLink, PCIe, Switch, Wiring
from tests.changed_nodes import Slowdown, interfering

OVERHEADS = ("launch", "copy", "event", "collective", "allocation", "synchronize")
SHAPES = ("256x768", "64x192", "5120x5120", "4x64", "4x16", "40x128", "4x64-ragged", "4x16x16", "12x128x512")
"""Products and attentions of the models of tests/scenario_strategies.py that may be measured by shape."""


def runs(count: int, length: int) -> list[tuple[int, ...]]:
    """0 .. count - 1 in runs of `length`; the last one may be shorter."""
    return [tuple(range(count))[start : start + length] for start in range(0, count, length)]


def quantity(value: float) -> Quantity:
    """A value made up by a test."""
    return Quantity(value=value, provenance="guess", source="made up by a test")


def curve(*points: tuple[float, float]) -> Curve:
    """A curve made up by a test."""
    return Curve(points=points, provenance="guess", source="made up by a test")


def rates(low: float, high: float) -> SearchStrategy[Quantity]:
    """Rates in GB/s with two digits, as bytes/s."""
    return st.integers(round(low * 100), round(high * 100)).map(lambda x: quantity(x * 1e7))


def times(most: float) -> SearchStrategy[Quantity]:
    """Up to `most` microseconds, as seconds."""
    return st.integers(0, round(most * 10)).map(lambda x: quantity(x * 1e-7))


def factors(low: float, high: float) -> SearchStrategy[Quantity]:
    """Plain numbers with two digits."""
    return st.integers(round(low * 100), round(high * 100)).map(lambda x: quantity(x / 100))


def whole(low: int, high: int, unit: float = 1.0) -> SearchStrategy[Quantity]:
    """Whole numbers of a unit."""
    return st.integers(low, high).map(lambda x: quantity(x * unit))


def maybe(strategy: SearchStrategy) -> SearchStrategy:
    """None, or something."""
    return st.one_of(st.none(), strategy)


def traffic_curves(low: float, high: float) -> SearchStrategy[Curve]:
    """Rates in GB/s by bytes."""
    pairs = st.lists(rates(low, high), min_size=2, max_size=2)
    return pairs.map(lambda found: curve((1e4, found[0].value), (1e8, found[1].value)))


@st.composite
def clocks(draw: DrawFn) -> Clock:
    """A power limit that kernels of hundreds of watts come to, with or without a burst."""
    limit = draw(whole(100, 700))
    burst = draw(maybe(st.integers(0, 200).map(lambda x: quantity(limit.value + x))))
    return Clock(
        limit=limit,
        idle=draw(whole(20, 90)),
        window=draw(whole(20, 50, 1e-3)),
        power_exponent=draw(factors(1, 3)),
        energy=Energy(
            gemm=draw(whole(1, 30, 1e-13)),
            attention=draw(whole(1, 30, 1e-13)),
            byte=draw(whole(1, 200, 1e-12)),
            relayout=draw(maybe(whole(1, 200, 1e-12))),
        ),
        knee=Knee(gemm=draw(factors(0.3, 1)), attention=draw(factors(0.3, 1)), relayout=draw(factors(0.3, 1))),
        collective=draw(whole(0, 100)),
        copy=draw(whole(0, 100)),
        burst=burst,
        averaging=None if burst is None else draw(whole(1, 800, 1e-3)),
    )


@st.composite
def gpus(draw: DrawFn, clock: bool = True) -> GPU:
    """One accelerator; attention and products in the same range, no slow ones under a clock that is often looked at."""
    limit = draw(maybe(clocks())) if clock else None
    tflops = st.integers(1 if limit is None else 200, 800).map(lambda x: x * 1e12)
    flops = st.tuples(tflops, tflops).map(lambda pair: curve((64, pair[0]), (4096, pair[1])))
    measured = draw(st.dictionaries(st.sampled_from(SHAPES), flops, max_size=3)) if draw(st.booleans()) else {}
    products = {shape: table for shape, table in measured.items() if shape in SHAPES[:3]}
    other = {"other": draw(flops)} if draw(st.booleans()) else {}
    return GPU(
        name="GPU",
        memory=draw(whole(16, 80, 2.0**30)),
        context=draw(whole(0, 2, 2.0**30)),
        gemm=draw(flops),
        attention={"default": draw(flops), **other},
        memory_bandwidth=draw(rates(500, 4000)),
        relayout_bandwidth=draw(maybe(rates(300, 4000))),
        gemm_shapes=products,
        attention_shapes={shape: table for shape, table in measured.items() if shape not in products},
        elementwise=draw(maybe(traffic_curves(500, 4000))),
        relayout=draw(maybe(traffic_curves(300, 4000))),
        unpack=draw(st.one_of(st.just(usual_unpacking()), rates(100, 1000).map(lambda rate: curve((8.0, rate.value))))),
        workspace=draw(maybe(whole(0, 2, 2.0**25))),
        clock=limit,
    )


@st.composite
def links(draw: DrawFn, latency: bool = True) -> PCIe:
    """A GPU's own link."""
    return PCIe(
        h2d=draw(rates(5, 60)),
        d2h=draw(rates(5, 60)),
        duplex=draw(factors(1, 2)),
        latency=draw(times(30)) if latency else quantity(0.0),
        further_call=draw(maybe(times(5))) if latency else None,
    )


@st.composite
def memories(draw: DrawFn, number: int, alike: bool) -> tuple[Socket, ...]:
    """The memory of each socket: all of one rate, given once or for each, or (not alike) each with its own."""
    found: list[Socket] = []
    for _ in range(1 if alike and draw(st.booleans()) else number):
        if not found or not alike:
            read, write = draw(rates(10, 200)), draw(rates(10, 200))
            total = quantity(max(read.value, write.value) * draw(factors(1, 2)).value)
        found.append(Socket(read=read, write=write, total=total))
    return tuple(found)


@st.composite
def hosts(draw: DrawFn, number: int, alike: bool, crosses: bool, free: bool) -> Host:
    """Host memory with one or more sockets, and what commands cost (nothing if free)."""
    crossing = rates(10, 60)
    return Host(
        memory=draw(whole(64, 512, 2.0**30)),
        sockets=draw(memories(number, alike)),
        pageable_h2d=draw(rates(2, 12)),
        pageable_d2h=draw(rates(2, 17)),
        fresh_d2h=draw(rates(1, 3)),
        overheads=no_overheads() if free else draw(overheads()),
        cross_socket=draw(crossing if crosses and number > 1 else maybe(crossing)),
        pinned_rounding=draw(st.sampled_from(["power-of-two", "none"])),
    )


@st.composite
def collective_kinds(draw: DrawFn, top: float, latency: bool = True) -> CollectiveKind:
    """Rate by bytes, latency and weight of one kind of collective."""
    small, large = sorted(draw(st.lists(rates(1, top), min_size=2, max_size=2)), key=lambda rate: rate.value)
    return CollectiveKind(
        rate=curve((1e4, small.value), (1e8, large.value)),
        latency=draw(times(60)) if latency else quantity(0.0),
        weight=draw(factors(0.1, 3)),
        link_cost=draw(st.one_of(st.just(quantity(1.0)), factors(1, 3))),
    )


@st.composite
def overheads(draw: DrawFn) -> Overheads:
    """Host overheads of up to 20 microseconds, sometimes with a short queue."""
    costs = {name: draw(times(20)) for name in OVERHEADS}
    return Overheads(**costs, queue_depth=draw(st.sampled_from([1000, 20, 3, 1, 150, 48])))


def no_overheads() -> Overheads:
    """A host thread that costs nothing."""
    return Overheads(**{name: quantity(0.0) for name in OVERHEADS}, queue_depth=10**9)


@st.composite
def interferences(draw: DrawFn) -> list[Slowdown]:
    """Which kernels and collectives slow beside what."""
    kernels = ("gemm", "attention", "elementwise", "relayout")
    pairs = [(v, a) for v in kernels for a in ("H2D", "D2H", "collective")]
    pairs += [(v, a) for v in ("all-to-all", "all-gather") for a in ("H2D", "D2H")]
    pairs += [("all-to-all", "all-gather"), ("all-gather", "all-to-all")]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=3, max_size=9, unique=True))
    return [(victim, aggressor, draw(factors(0, 0.5))) for victim, aggressor in chosen]


@st.composite
def switches(draw: DrawFn, count: int, sockets: int, alike: bool) -> tuple[Switch, ...]:
    """No switch, one per pair, one for all, or (not alike) one for the first GPUs of each socket, each of its own."""
    if count == 1:
        return ()
    shape = draw(st.sampled_from(["none", "pairs", "all"] if alike else ["none", "pairs", "all", "some", "some"]))
    size = count // sockets
    groups = {
        "none": [],
        "pairs": runs(count, min(2, size)),
        "all": [tuple(range(count))],
        "some": [(socket * size,) for socket in range(draw(st.integers(1, sockets)))],
    }[shape]
    found = []
    for group in groups:
        if not found or not alike:
            h2d, d2h = draw(rates(2, 60)), draw(rates(2, 60))
        found.append(Switch(gpus=group, h2d=h2d, d2h=d2h))
    return tuple(found)


@st.composite
def nodes(
    draw: DrawFn,
    count: int,
    *,
    alike: bool = False,
    uniform: bool = False,
    free_host: bool = False,
    latency: bool = True,
    clock: bool = True,
) -> Node:
    """A node of `count` GPUs.

    alike: topology makes every rank the same. uniform: every pair of ranks too. free_host: commands cost the
    host thread nothing. latency, clock: whether copies have a fixed part, and whether there may be a power limit.
    """
    number = 1 if count == 1 or uniform or (alike and count % 2) else draw(st.integers(1, 2))
    transport = draw(st.sampled_from(["nvlink", "pcie", "host-memory"]))
    kinds = collective_kinds(300 if transport == "nvlink" else 40, latency)
    nvlink = st.builds(NVLink, send=rates(100, 450), receive=rates(100, 450))
    collectives = st.builds(Collectives, transport=st.just(transport), all_to_all=kinds, all_gather=kinds)
    length = count // number if alike else draw(st.integers(count // number, count - number + 1))
    on_sockets = runs(count, length)
    wiring = Wiring(
        gpus=count,
        sockets=tuple(on_sockets),
        pcie=draw(links(latency)),
        switches=() if uniform else draw(switches(count, number, alike)),
        nvlink=draw(nvlink if transport == "nvlink" else maybe(nvlink)),
        collectives=draw(collectives if count > 1 or transport == "nvlink" else maybe(collectives)),
    )
    host = draw(hosts(len(on_sockets), alike, transport != "nvlink", free_host))
    node = Node(name="node", title="Node", gpu=draw(gpus(clock)), host=host, wiring=wiring)
    return node if draw(st.booleans()) else interfering(node, draw(interferences()))
