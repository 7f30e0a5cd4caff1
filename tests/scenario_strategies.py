"""Hypothesis strategies for scenarios: small models of every architecture on random nodes under every policy.

Every value of every option is drawn (tests/properties/test_strategies.py); what a property needs is a parameter.
"""

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar, get_args

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as numbered
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from msgspec.structs import replace

from offsim.program.load import check_scenario
from offsim.program.systems.accelerate_model import AccelerateModel
from offsim.program.systems.accelerate_sequential import AccelerateSequential
from offsim.program.systems.chunkflow.parameters import ChunkFlow
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import Placing, ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.scenario.architectures import ARCHITECTURES
from offsim.scenario.model import DTYPE_BYTES, BlockList, Component, Dtype, Embeddings, Model
from offsim.scenario.node import Node
from offsim.scenario.operations import parameter_count
from offsim.scenario.policy import Placement, Policy
from offsim.scenario.scenario import Scenario, Simulation
from offsim.scenario.workload import Workload
from tests.golden.tiny import outside_parameters
from tests.strategies import maybe, nodes

T = TypeVar("T")
FULL = Simulation(fold=False, steady_state=False, block_period=False)
"""Nothing folded or left out."""
AUDIO = {"audio_hidden": 64, "audio_heads": 4, "audio_head_dim": 16, "audio_ffn": 128, "audio_text": 64}
FAMILIES: tuple[tuple[str, ...], ...] = (
    *[("wan",)] * 4,
    ("flux-double", "flux-single"),
    ("wan-i2v",),
    ("flux2-double", "flux2-single"),
    ("mochi", "mochi-last"),
    ("z-image-noise-refiner", "z-image-context-refiner", "z-image"),
    ("cogvideox",),
    ("cosmos",),
    ("ltx2",),
    ("minimax-h3",),
)
"""The block lists that go together; of most policies, the library's modules are known of Wan only."""
placements = st.sampled_from(get_args(Placement))
often = st.sampled_from([True, True, True, False])


@st.composite
def block_lists(draw: DrawFn, architectures: tuple[str, ...], most: int) -> tuple[BlockList, ...]:
    """Lists of equal sizes, `most` blocks in all at most, 4 to 40 heads."""
    heads, head_dim = draw(st.sampled_from([(4, 64), (40, 128), (12, 128), (8, 64), (4, 16)]))
    hidden = heads * head_dim
    sizes: dict[str, Any] = {"hidden": hidden, "heads": heads, "head_dim": head_dim, "ffn": 4 * hidden}
    if architectures[0] in ("wan", "mochi", "cosmos"):
        sizes["text_hidden"] = draw(st.sampled_from([None, None, hidden, hidden // 2]))
    if architectures[0] == "mochi":
        sizes["text_ffn"] = draw(maybe(st.just(2 * hidden)))
    extras = {
        "cosmos": {"modulation_rank": 16},
        "ltx2": AUDIO | {"gated": draw(st.integers(0, 1)), "text_modulation": draw(st.integers(0, 1))},
        "z-image-noise-refiner": {"condition": 32},
        "cogvideox": {"time_embedding": 32},
        "minimax-h3": {"time_embedding": 32},
    }
    extra, found = extras.get(architectures[0], {}), []
    for i, architecture in enumerate(architectures):
        count = draw(st.integers(1, max(1, most // len(architectures))))
        tensors = draw(st.sampled_from([27, None, 4]))
        shape = SimpleNamespace(
            **({"text_hidden": None, "text_ffn": None} | sizes), architecture=architecture, extra=extra
        )
        parameters = parameter_count(ARCHITECTURES[architecture](shape))
        name = "blocks" if i == 0 else f"more_{i}"
        found.append(BlockList(name, count, architecture, parameters, **sizes, tensors=tensors, extra=extra))
    return tuple(found)


@st.composite
def components(draw: DrawFn, name: str) -> Component:
    """A text encoder or a VAE."""
    return Component(
        name=name,
        parameters=draw(st.integers(0, 10**7)),
        dtype=draw(st.sampled_from(get_args(Dtype))),
        layers=draw(st.integers(1, 4)),
        workspace_per_pixel=draw(st.sampled_from([0.0, 100.0])),
        whole_per_pixel=draw(st.sampled_from([0.0, 100.0])),
        whole_per_frame=draw(st.sampled_from([0.0, 10.0])),
    )


@st.composite
def models(draw: DrawFn, most: int = 6, families: Sequence[tuple[str, ...]] = FAMILIES) -> Model:
    """One to `most` blocks."""
    blocks = draw(block_lists(draw(st.sampled_from(families)), most))
    embeddings = None
    if blocks[0].architecture == "wan" and blocks[0].text_hidden != blocks[0].hidden // 2 and draw(often):
        whole = st.integers(1, 64)
        embeddings = draw(st.builds(Embeddings, whole, whole, whole, whole, positions=whole))
    free = draw(st.sampled_from([1000, blocks[0].parameters, 0]))
    experts = draw(st.sampled_from([2, 1]))
    return Model(
        name="small",
        title="Small",
        blocks=blocks,
        other_parameters=free if embeddings is None else outside_parameters(blocks[0], embeddings),
        source="made up by a test",
        experts=experts,
        text_tokens=draw(st.sampled_from([16, 512, 0])),
        patch=draw(st.sampled_from([(1, 2, 2), (1, 1, 1)])),
        vae_stride=draw(st.sampled_from([(4, 8, 8), (1, 8, 8)])),
        guidance=draw(st.sampled_from(["cfg", "distilled"])),
        steps=draw(st.integers(1, 5)),
        flow_shift=draw(st.sampled_from([1.0, 5.0, 12.0])),
        boundary_ratio=draw(st.sampled_from([0.875, 0.5])) if experts == 2 else None,
        embeddings=embeddings,
        text_encoder=draw(maybe(components("encoder"))),
        vae=draw(maybe(components("decoder"))),
    )


@st.composite
def sizes(draw: DrawFn, model: Model) -> dict[str, int]:
    """Tokens, or width and height, and frames of a model that makes videos."""
    if draw(st.integers(0, 3)):
        return {"tokens": draw(st.sampled_from([1000, 64, 8192, 40000]))}
    _, rows, columns = (stride * patch for stride, patch in zip(model.vae_stride, model.patch, strict=True))
    found = {"height": rows * draw(st.integers(1, 20)), "width": columns * draw(st.integers(1, 20))}
    if model.vae_stride[0] > 1:
        found["frames"] = model.vae_stride[0] * draw(st.integers(0, 6)) + 1
    return found


def degrees(model: Model, gpus: int, cfg: str | None) -> list[int | None]:
    """Sequence-parallel degrees that the model's heads allow on so many GPUs; None where the default is among them."""
    heads = [blocks.heads for blocks in model.blocks]
    allowed = [degree for degree in range(1, gpus + 1) if gpus % degree == 0 and not any(h % degree for h in heads)]
    if cfg == "split":
        return [None, gpus // 2] if gpus // 2 in allowed else []
    return [None, *allowed] if gpus in allowed else [*allowed]


@st.composite
def workloads(draw: DrawFn, model: Model, node: Node, gpus: int) -> Workload:
    """A few steps on so many GPUs, with every way to run guidance and to end a step."""
    split = gpus % 2 == 0 and bool(degrees(model, gpus, "split"))
    cfg = draw(st.sampled_from(["sequential", "batched", "none", None, *(["split"] if split else [])]))
    eager = all(blocks.eager_operations() is not None for blocks in model.blocks) and draw(often)
    seconds = st.sampled_from([0.0, 0.001])
    return Workload(
        gpus=gpus,
        **draw(sizes(model)),
        steps=draw(st.sampled_from([4, 3, 2, 1, None, 7, 12])),
        cfg=cfg,
        flow_shift=draw(maybe(st.sampled_from([1.0, 7.0]))),
        boundary_ratio=draw(maybe(st.sampled_from([0.9, 0.6, 0.0]))) if model.experts == 2 else None,
        sequence_parallel=draw(st.sampled_from(degrees(model, gpus, cfg))),
        token_sharding=draw(st.sampled_from(["tokens", "frames"])),
        all_to_all_calls=draw(st.sampled_from([4, 2, 8])),
        attention_backend=draw(st.sampled_from(sorted(node.gpu.attention))),
        kernels="eager" if eager else "fused",
        compiled=not eager and draw(st.booleans()),
        weight_dtype=draw(st.sampled_from(get_args(Dtype))),
        step_end=draw(st.sampled_from(["stream", "none", "device"])),
        compile=draw(seconds),
        communicator_start=draw(seconds),
        communicator_warm_up=draw(st.booleans()),
        compute_efficiency=draw(st.sampled_from([1.0, 0.8])),
    )


def elsewhere() -> dict[str, SearchStrategy]:
    """Where the components beside the transformer are."""
    return {"text_encoder": placements, "vae": placements}


seconds = st.sampled_from([0.0, 1e-5])
residency = st.sampled_from(["leading", "strided"])


@st.composite
def layerwise(draw: DrawFn, model: Model, workload: Workload) -> SGLangLayerwise:
    """SGLang's layerwise offload, any version, with parameters that this version has."""
    version = draw(st.sampled_from(["v0", "v1", "v2", "v3"]))
    most = max(blocks.count for blocks in model.blocks)
    counts = st.one_of(st.integers(0, most), st.sampled_from([0.2, 0.5, 0.99]))
    return SGLangLayerwise(
        version=version,
        prefetch=0 if version == "v0" else draw(counts),
        resident_layers=draw(counts) if version == "v3" else 0,
        residency=draw(residency) if version == "v3" else "leading",
        pinned=draw(st.sampled_from([True, True, False])),
        hook_synchronize=draw(st.sampled_from([False, False, True])),
        hook_cost=draw(seconds),
        **{key: draw(placement) for key, placement in elsewhere().items()},
    )


@st.composite
def scheduled(draw: DrawFn, model: Model, workload: Workload) -> ScheduledLayerwise:
    """Layerwise with options that no system offers."""
    blocks, stored = model.block_count, DTYPE_BYTES[workload.weight_dtype]
    smaller = [dtype for dtype in ("fp8", "int8", "int4") if DTYPE_BYTES[dtype] < stored]
    return ScheduledLayerwise(
        prefetch=draw(st.integers(1, blocks)),
        resident_layers=draw(st.one_of(st.integers(0, blocks), st.sampled_from([0.2, 0.5]))),
        residency=draw(residency),
        placement=draw(st.sampled_from(get_args(Placing)[::-1])),
        chunks=draw(st.integers(1, 6)),
        copy_streams=draw(st.integers(1, 3)),
        copy_priority=draw(st.sampled_from(["normal", "high"])),
        transfer_dtype=draw(st.sampled_from(["stored", *smaller])),
        sharded=workload.gpus > 1 and draw(st.booleans()),
        gather=draw(st.sampled_from(["own-stream", "compute-stream"])),
        across_switch=draw(st.sampled_from(["held", "prefetched", "fetched"])),
        **{key: draw(placement) for key, placement in elsewhere().items()},
    )


@st.composite
def groups(draw: DrawFn, model: Model, workload: Workload) -> DiffusersGroup:
    """diffusers' group offloading: leaf modules where they are known."""
    leaf = model.knows_modules and workload.kernels == "eager" and draw(often)
    stream = draw(st.booleans())
    return DiffusersGroup(
        level="leaf" if leaf else "block",
        num_blocks_per_group=1 if leaf or stream else draw(st.integers(1, 3)),
        stream=stream,
        record_stream=stream and draw(st.booleans()),
        low_cpu_mem_usage=stream and draw(st.booleans()),
        hook_cost=draw(seconds),
        **{key: draw(placement) for key, placement in elsewhere().items()},
    )


@st.composite
def chunked(draw: DrawFn, model: Model) -> ChunkFlow:
    """ChunkFlow in up to seven chunks a block."""
    largest = max(blocks.parameters for blocks in model.blocks)
    return ChunkFlow(
        chunk=max(1e3, largest * draw(st.sampled_from([0.6, 1.0, 4.0]))),
        gate=draw(st.sampled_from(["collective", "none"])),
        launched_ahead=draw(st.booleans()),
        resident_fraction=draw(st.sampled_from([0.0, 0.4, 1.0])),
        chunk_cost=draw(seconds),
        **{key: draw(placement) for key, placement in elsewhere().items()},
    )


def policies(model: Model, workload: Workload) -> SearchStrategy[Policy]:
    """Every policy with random parameters."""
    full_model = st.sampled_from([("pageable", 0), ("pinned", 0), ("pinned", 2)]).flatmap(
        lambda pair: st.builds(FullModel, st.just(pair[0]), st.just(pair[1]), **elsewhere())
    )
    fsdp = st.builds(FSDP, prefetch=st.integers(1, 8), **elsewhere())
    by_module = st.builds(AccelerateSequential, empty_cache=seconds, hook_cost=seconds, **elsewhere())
    leaves = [by_module] * 3 if model.knows_modules and workload.kernels == "eager" else []
    # Hypothesis tries the first choice most: the richest policy, not the emptiest.
    return st.one_of(
        scheduled(model, workload),
        layerwise(model, workload),
        groups(model, workload),
        chunked(model),
        *leaves,
        fsdp,
        full_model,
        st.just(AccelerateModel()),
        st.builds(Resident, **elsewhere()),
    )


simulations = st.builds(Simulation, *[st.booleans()] * 5, collective_form=st.sampled_from(["pairs", "aggregated"]))


@st.composite
def small_scenarios(
    draw: DrawFn,
    *,
    count: SearchStrategy[int] | None = None,
    node: Callable[[int], SearchStrategy[Node]] = nodes,
    model: Callable[[int], SearchStrategy[Model]] | None = None,
    policy: Callable[[Model, Workload], SearchStrategy[Policy]] = policies,
    simulation: SearchStrategy[Simulation] | None = None,
    unused_gpus: bool = True,
    most_blocks: int = 6,
) -> Scenario:
    """A scenario that passes its own check; nothing is folded or left out unless `simulation` says so."""
    gpus = draw(st.sampled_from([2, 1, 4, 3]) if count is None else count)
    spare = draw(st.integers(0, 4 - gpus)) if unused_gpus else 0
    machine, pipeline = draw(node(gpus + spare)), draw((model or models)(most_blocks))
    workload = draw(workloads(pipeline, machine, gpus))
    scenario = Scenario(pipeline, workload, machine, draw(policy(pipeline, workload)))
    scenario = replace(scenario, simulation=FULL if simulation is None else draw(simulation))
    check_scenario(scenario)
    return scenario


def drawn(strategy: SearchStrategy[T], count: int, seed: int) -> list[T]:
    """So many values, the first one the simplest, the same ones for the same seed."""
    found: list[T] = []

    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=HealthCheck
    )
    @numbered(seed)
    @given(strategy)
    def draw(value: T) -> None:
        found.append(value)

    draw()
    return found


def drawn_scenario(seed: int) -> Scenario:
    """One scenario with every option drawn, the same for the same seed."""
    return drawn(small_scenarios(simulation=simulations, most_blocks=12), 2, seed)[-1]


clockless = partial(nodes, clock=False)
"""Nodes without a power limit."""
