"""Hypothesis strategies for scenarios: small Wan-like models on random nodes under every policy.

Numbers are rounded, so that a failing example can be read. `small_scenarios` is the general one; what a
property needs (one GPU, no overheads, alike ranks) is a parameter.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import get_args

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from msgspec.structs import replace

from offsim.scenario.architectures.wan import wan
from offsim.scenario.model import BlockList, Model
from offsim.scenario.node import (
    GPU,
    CollectiveKind,
    Collectives,
    Host,
    Interference,
    Node,
    NVLink,
    Overheads,
    PCIe,
    Socket,
    Switch,
)
from offsim.scenario.operations import parameter_count
from offsim.scenario.policy import FSDP, FullModel, Placing, Policy, Resident, ScheduledLayerwise, SGLangLayerwise
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import Scenario, Simulation, check
from offsim.scenario.workload import Workload

OVERHEADS = ("launch", "copy", "event", "collective", "allocation", "synchronize")


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


@st.composite
def models(draw: DrawFn, experts: int | None = None, most: int = 6) -> Model:
    """1 to `most` blocks of the wan architecture, 4 to 40 heads."""
    heads, head_dim = draw(st.sampled_from([(4, 64), (40, 128), (12, 128), (8, 64), (4, 16)]))
    sizes = {"hidden": heads * head_dim, "heads": heads, "head_dim": head_dim, "ffn": 4 * heads * head_dim}
    parameters = parameter_count(wan(SimpleNamespace(**sizes, text_hidden=None)))
    count = draw(st.integers(1, most))
    block = BlockList(name="blocks", count=count, architecture="wan", parameters=parameters, tensors=27, **sizes)
    experts = experts or draw(st.sampled_from([2, 1]))
    return Model(
        name="small",
        title="Small",
        blocks=(block,),
        other_parameters=draw(st.sampled_from([1000, parameters])),
        source="made up by a test",
        experts=experts,
        boundary_ratio=0.875 if experts == 2 else None,
        flow_shift=draw(st.sampled_from([1.0, 5.0, 12.0])),
        guidance=draw(st.sampled_from(["cfg", "distilled"])),
        text_tokens=draw(st.sampled_from([16, 512])),
    )


@st.composite
def gpus(draw: DrawFn) -> GPU:
    """One accelerator; attention and products in the same range."""
    tflops = st.integers(1, 800).map(lambda x: x * 1e12)
    return GPU(
        name="GPU",
        memory=quantity(80 * 2**30),
        context=quantity(2**30),
        gemm=curve((64, draw(tflops)), (4096, draw(tflops))),
        attention={"default": curve((512, draw(tflops)), (8192, draw(tflops)))},
        memory_bandwidth=draw(rates(500, 4000)),
    )


@st.composite
def links(draw: DrawFn, latency: bool = True) -> PCIe:
    """A GPU's own link."""
    return PCIe(
        h2d=draw(rates(5, 60)),
        d2h=draw(rates(5, 60)),
        duplex=draw(factors(1, 2)),
        latency=draw(times(30)) if latency else quantity(0.0),
    )


def _sockets(draw: DrawFn, count: int, number: int) -> tuple[Socket, ...]:
    """GPUs in equal runs over sockets of one rate."""
    read, write = draw(rates(10, 200)), draw(rates(10, 200))
    share = draw(factors(1, 2)).value
    total = quantity(max(read.value, write.value) * share)
    parts = runs(count, count // number)
    return tuple(Socket(gpus=part, read=read, write=write, total=total) for part in parts)


@st.composite
def hosts(draw: DrawFn, count: int, sockets: int) -> Host:
    """Host memory with one or two sockets."""
    return Host(
        memory=quantity(512 * 2**30),
        sockets=_sockets(draw, count, sockets),
        pageable_h2d=draw(rates(2, 12)),
        pageable_d2h=draw(rates(2, 17)),
        fresh_d2h=draw(rates(1, 3)),
        cross_socket=draw(rates(10, 60)),
    )


@st.composite
def collective_kinds(draw: DrawFn, top: float, latency: bool = True) -> CollectiveKind:
    """Rate by bytes, latency and weight of one kind of collective."""
    small, large = sorted(draw(st.lists(rates(1, top), min_size=2, max_size=2)), key=lambda rate: rate.value)
    return CollectiveKind(
        rate=curve((1e4, small.value), (1e8, large.value)),
        latency=draw(times(60)) if latency else quantity(0.0),
        weight=draw(factors(0.1, 3)),
    )


@st.composite
def overheads(draw: DrawFn) -> Overheads:
    """Host overheads of up to 20 microseconds, sometimes with a short queue."""
    costs = {name: draw(times(20)) for name in OVERHEADS}
    return Overheads(**costs, queue_depth=draw(st.sampled_from([1, 3, 20, 1000])))


def no_overheads() -> Overheads:
    """A host thread that costs nothing."""
    return Overheads(**{name: quantity(0.0) for name in OVERHEADS}, queue_depth=10**9)


@st.composite
def interferences(draw: DrawFn) -> tuple[Interference, ...]:
    """Which kernels and collectives slow beside what."""
    kernels = ("gemm", "attention", "elementwise", "relayout")
    pairs = [(v, a) for v in kernels for a in ("H2D", "D2H", "collective")]
    pairs += [(v, a) for v in ("all-to-all", "all-gather") for a in ("H2D", "D2H")]
    pairs += [("all-to-all", "all-gather"), ("all-gather", "all-to-all")]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=3, max_size=9, unique=True))
    return tuple(Interference(victim=v, aggressor=a, slowdown=draw(factors(0, 0.5))) for v, a in chosen)


def _switches(draw: DrawFn, count: int, sockets: int, alike: bool) -> tuple[Switch, ...]:
    """No switch, one per pair, or (not alike) one for the first GPUs of each socket."""
    if count == 1:
        return ()
    shape = draw(st.sampled_from(["none", "pairs"] if alike else ["none", "pairs", "some", "some"]))
    if shape == "none":
        return ()
    h2d, d2h = draw(rates(2, 60)), draw(rates(2, 60))
    size = count // sockets
    if shape == "pairs":
        groups = runs(count, min(2, size))
    else:
        groups = [(socket * size,) for socket in range(draw(st.integers(1, sockets)))]
    return tuple(Switch(gpus=group, h2d=h2d, d2h=d2h) for group in groups)


@st.composite
def nodes(
    draw: DrawFn,
    count: int,
    *,
    alike: bool = False,
    uniform: bool = False,
    free_host: bool = False,
    latency: bool = True,
) -> Node:
    """A node of `count` GPUs.

    alike: topology makes every rank the same. uniform: every pair of ranks too. free_host: commands cost the
    host thread nothing.
    """
    sockets = 1 if count % 2 or uniform else draw(st.integers(1, 2))
    transport = draw(st.sampled_from(["nvlink", "pcie", "host-memory"]))
    top = 300 if transport == "nvlink" else 40
    kinds = collective_kinds(top, latency)
    return Node(
        name="node",
        title="Node",
        gpus=count,
        gpu=draw(gpus()),
        pcie=draw(links(latency)),
        host=draw(hosts(count, sockets)),
        overheads=no_overheads() if free_host else draw(overheads()),
        switches=() if uniform else _switches(draw, count, sockets, alike),
        nvlink=NVLink(send=draw(rates(100, 450)), receive=draw(rates(100, 450))),
        collectives=Collectives(transport=transport, all_to_all=draw(kinds), all_gather=draw(kinds)),
        interference=() if draw(st.booleans()) else draw(interferences()),
    )


def workloads(count: int) -> SearchStrategy[Workload]:
    """1-4 steps on `count` GPUs, with every way to run guidance and to end a step."""
    cfg = ["sequential", "batched", "none"] + (["split"] if count > 1 else [])
    return st.builds(
        Workload,
        gpus=st.just(count),
        tokens=st.sampled_from([1000, 64, 8192, 40000]),
        steps=st.sampled_from([4, 3, 2, 1]),
        cfg=st.sampled_from(cfg),
        all_to_all_calls=st.sampled_from([2, 4, 8]),
        weight_dtype=st.sampled_from(["bf16", "fp32"]),
        step_end=st.sampled_from(["stream", "device", "none"]),
        compile=st.sampled_from([0.0, 0.001]),
    )


@st.composite
def layerwise(draw: DrawFn, blocks: int, version: str | None = None) -> SGLangLayerwise:
    """SGLang's layerwise offload, any version, with parameters that this version has."""
    version = version or draw(st.sampled_from(["v0", "v1", "v2", "v3"]))
    counts = st.one_of(st.integers(0, blocks), st.sampled_from([0.2, 0.5, 0.99]))
    return SGLangLayerwise(
        version=version,
        prefetch=0 if version == "v0" else draw(counts),
        resident_layers=draw(counts) if version == "v3" else 0,
        residency=draw(st.sampled_from(["leading", "strided"])) if version == "v3" else "leading",
        pinned=draw(st.sampled_from([True, True, False])),
        hook_synchronize=draw(st.sampled_from([False, False, True])),
        hook_cost=draw(st.sampled_from([0.0, 1e-5])),
    )


@st.composite
def scheduled(draw: DrawFn, blocks: int) -> ScheduledLayerwise:
    """Layerwise with options that no system offers."""
    return ScheduledLayerwise(
        prefetch=draw(st.integers(1, blocks)),
        resident_layers=draw(st.one_of(st.integers(0, blocks), st.sampled_from([0.2, 0.5]))),
        residency=draw(st.sampled_from(["leading", "strided"])),
        placement=draw(st.sampled_from(get_args(Placing)[::-1])),
        chunks=draw(st.integers(1, 6)),
        copy_streams=draw(st.integers(1, 3)),
        transfer_dtype=draw(st.sampled_from(["stored", "int4"])),
        sharded=draw(st.booleans()),
        across_switch=draw(st.sampled_from(["held", "prefetched", "fetched"])),
    )


def policies(blocks: int) -> SearchStrategy[Policy]:
    """Every policy with random parameters."""
    full_model = st.builds(FullModel, version=st.sampled_from(["pageable", "pinned"]))
    fsdp = st.builds(FSDP, prefetch=st.integers(1, 8))
    # Hypothesis tries the first choice most: the richest policy, not the emptiest.
    others = (fsdp, full_model, layerwise(blocks, "v0"), st.just(Resident()))
    return st.one_of(scheduled(blocks), layerwise(blocks), *others)


@st.composite
def small_scenarios(
    draw: DrawFn,
    *,
    count: SearchStrategy[int] | None = None,
    node: Callable[[int], SearchStrategy[Node]] = nodes,
    policy: Callable[[int], SearchStrategy[Policy]] = policies,
    simulation: Simulation | None = None,
    unused_gpus: bool = True,
    most_blocks: int = 6,
) -> Scenario:
    """A scenario that passes its own check; nothing is folded or skipped unless `simulation` says so."""
    gpus_used = draw(st.sampled_from([2, 1, 4]) if count is None else count)
    spare = draw(st.integers(0, 4 - gpus_used)) if unused_gpus else 0
    model = draw(models(most=most_blocks))
    chosen = draw(policy(model.block_count))
    if isinstance(chosen, ScheduledLayerwise) and gpus_used == 1:
        chosen = replace(chosen, sharded=False)
    scenario = Scenario(
        model=model,
        workload=draw(workloads(gpus_used)),
        node=draw(node(gpus_used + spare)),
        policy=chosen,
        simulation=simulation or Simulation(fold=False, steady_state=False, block_period=False),
    )
    check(scenario)
    return scenario
