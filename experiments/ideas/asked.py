"""What is asked: Wan2.2-A14B on eight nodes, at two sizes, on 2 to 8 GPUs, under every idea; and the answers.

The workload is SGLang's present one: tokens sharded evenly, 4 all-to-alls a block, bf16, 27 steps. Compute efficiency as
fitted to the seeds' full-model steps (experiments/seeds): 0.647 on PCIe cards, 0.864 on SXM. Six GPUs cannot share 40 heads:
Ulysses over five of them is the largest layout of one request that is legal there.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from msgspec import structs

from offsim.engine.prepared import Prepared
from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.load import check_scenario
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.uses import total_seconds
from offsim.results.memory import out_of_memory, phase_peaks
from offsim.results.predict import two_weights
from offsim.results.steps import UseRow, ledger, step_rows
from offsim.scenario.load import load_model, load_node
from offsim.scenario.node import Node
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import RefusedScenario, Scenario
from offsim.scenario.workload import Workload
from offsim.sweep.workers import Workers

from .causes import split

MODEL = "wan2.2-t2v-a14b"


class Topology(NamedTuple):
    """How eight GPUs are wired, and how NCCL's exchanges go."""

    title: str
    nodes: tuple[str, str]
    """H100 and H200."""
    through_host: bool = False
    """Whether exchanges go through host memory even below a common switch."""


TOPOLOGIES = {
    "nvlink": Topology("NVLink", ("h100-sxm-x8", "h200-sxm-x8")),
    "root-ports": Topology("PCIe, own root port each", ("h100-pcie", "h200-nvl")),
    "switch": Topology("PCIe, two per switch", ("h100-pcie-switch", "h200-nvl-switch")),
    "switch-host-memory": Topology(
        "PCIe, two per switch, exchanges through host memory", ("h100-pcie-switch", "h200-nvl-switch"), True
    ),
    "uplink": Topology("PCIe, one uplink", ("h100-pcie-uplink", "h200-nvl-uplink")),
    "uplink-host-memory": Topology(
        "PCIe, one uplink, exchanges through host memory", ("h100-pcie-uplink", "h200-nvl-uplink"), True
    ),
}
SIZES = {"720p": (1280, 720), "480p": (832, 480)}
GPUS = (2, 4, 6, 8)
STEPS = 27
USABLE = {6: 5}
"""GPUs that one request can use, where not all."""
EFFICIENCY = {True: 0.864, False: 0.647}
"""By whether the node has NVLink."""


class Idea(NamedTuple):
    """A policy, and what else changes in the workload."""

    name: str
    policy: Policy
    work: dict[str, Any] = {}
    offered: str = ""
    """Who offers it; empty: nobody known to us."""


PLAIN = Idea("layerwise P=1", SGLangLayerwise(version="v2"), offered="SGLang")
SPREAD: dict[str, Any] = {"placement": "spread", "chunks": 8}
REFERENCES = (
    Idea("resident", Resident(), offered="all"),
    Idea("full-model, pageable", FullModel(version="pageable"), offered="SGLang"),
    Idea("full-model, pinned", FullModel(version="pinned"), offered="SGLang"),
    PLAIN,
)


def scheduled(name: str, work: dict[str, Any] | None = None, offered: str = "", **options: Any) -> Idea:
    """An idea that is a way to schedule copies."""
    return Idea(name, ScheduledLayerwise(**options), work or {}, offered)


IDEAS = (
    Idea("layerwise P=3", SGLangLayerwise(version="v2", prefetch=3), offered="SGLang"),
    Idea("FSDP", FSDP(), offered="SGLang, PyTorch"),
    scheduled("after first all-to-all", placement="after-first-all-to-all"),
    scheduled("after attention", placement="after-attention"),
    scheduled("after all-to-alls", placement="after-all-to-alls"),
    scheduled("8 chunks", chunks=8),
    scheduled("8 chunks spread", **SPREAD),
    scheduled("8 chunks spread, P=2", prefetch=2, **SPREAD),
    scheduled("8 chunks gated", placement="gated", chunks=8, offered="SGLang PR 34805, open"),
    scheduled("2 copy streams", chunks=8, copy_streams=2),
    scheduled("copy stream priority", copy_priority="high"),
    scheduled("sharded", sharded=True, offered="vLLM-Omni"),
    scheduled("sharded, P=2", sharded=True, prefetch=2),
    scheduled("sharded, 8 chunks", sharded=True, chunks=8, offered="vLLM-Omni PR 6374, open"),
    scheduled("hybrid, 20 leading", resident_layers=20, residency="leading"),
    scheduled("hybrid, 20 strided", resident_layers=20, offered="SGLang (reloads at the switch)"),
    scheduled("hybrid, all blocks", resident_layers=40),
    scheduled("switch: first block ahead", across_switch="prefetched"),
    Idea("switch: expert ahead, 2 steps", FullModel(version="pinned", background_steps=2)),
    Idea("CFG split, layerwise P=1", PLAIN.policy, {"cfg": "split"}, "SGLang"),
    Idea("Ulysses P/2, 2 requests", PLAIN.policy, {"ulysses": "half"}, "SGLang"),
)
LOW_BIT = (
    scheduled("int8, unpacked", transfer_dtype="int8"),
    scheduled("int4, unpacked", transfer_dtype="int4"),
    scheduled("int8, native", {"weight_dtype": "int8"}, offered="LightX2V"),
    scheduled("int4, native", {"weight_dtype": "int4"}, offered="Nunchaku"),
)
"""Ideas that change weights."""
COMBINED = (
    scheduled("sharded, int8 unpacked", sharded=True, transfer_dtype="int8"),
    scheduled("spread, P=2, int8 unpacked", transfer_dtype="int8", prefetch=2, **SPREAD),
    scheduled("CFG split, spread, P=2", {"cfg": "split"}, prefetch=2, **SPREAD),
)


class Cell(NamedTuple):
    """Where an idea is tried."""

    topology: str
    node: str
    size: str
    gpus: int

    @property
    def used(self) -> int:
        """GPUs that one request can use."""
        return USABLE.get(self.gpus, self.gpus)


class Answer(NamedTuple):
    """What an idea comes to; times are seconds per request."""

    idea: Idea
    steady: tuple[float, ...]
    """A steady step, one per extreme of what is known about NCCL's weight."""
    switch: float
    first: float
    total: tuple[float, ...]
    losses: dict[str, float]
    """Of the steady step, disjoint: see causes."""
    moved: float
    """H2D bytes of a rank in a steady step."""
    peak: float
    pinned: float
    """Host memory of all ranks."""
    lacking: str
    """device, host, or empty if it fits."""
    provenance: tuple[tuple[str, int], ...]
    """How many values it rests on, by where they come from."""


def cells(topology: str) -> list[Cell]:
    """Everything that is asked about a topology."""
    nodes = TOPOLOGIES[topology].nodes
    return [Cell(topology, node, size, gpus) for node in nodes for size in SIZES for gpus in GPUS]


@cache
def node_of(topology: str, name: str) -> Node:
    """A catalogue node with the topology's transport."""
    node = load_node(name)
    if not TOPOLOGIES[topology].through_host or node.wiring.collectives is None:
        return node
    return node.rewired(collectives=structs.replace(node.wiring.collectives, transport="host-memory"))


def scenario_of(cell: Cell, idea: Idea, gpus: int | None = None) -> Scenario:
    """An idea in a cell, on as many of its GPUs as one request can use; RefusedScenario where it is not legal."""
    used = gpus or cell.used
    node, own = node_of(cell.topology, cell.node), dict(idea.work)
    width, height = SIZES[cell.size]
    if own.pop("ulysses", "") == "half":
        own["sequence_parallel"] = used // 2
    work = Workload(
        gpus=used,
        width=width,
        height=height,
        frames=81,
        steps=STEPS,
        flow_shift=12.0,
        compute_efficiency=EFFICIENCY[node.wiring.nvlink is not None],
        **own,
    )
    scenario = Scenario(load_model(MODEL), work, node, idea.policy, name=idea.name)
    check_scenario(scenario)
    return scenario


def answered(idea: Idea, scenario: Scenario) -> Answer:
    """Simulate a scenario, with both extremes of the weight where they matter."""
    program = build(scenario)
    prepared = Prepared(scenario, program)
    timeline = simulate(scenario, prepared=prepared)
    runs = [step_rows(program, timeline)]
    if two_weights(scenario, program):
        runs.append(step_rows(program, simulate(scenario, proportional_weight=True, prepared=prepared)))
    requests = 1 if scenario.workload.cfg_mode(scenario.model) == "split" else len(scenario.groups())
    middle = [_steady(rows) for rows in runs]
    peaks = phase_peaks(scenario, program, prepared.values)
    lacking = out_of_memory(scenario, peaks, prepared.values)
    charges = [charge for charge in ledger(program, timeline) if charge.step == middle[0].index]
    return Answer(
        idea,
        tuple(row.duration / requests for row in middle),
        next(row.duration for row in runs[0] if row.use.kind == "switch") / requests,
        runs[0][0].duration / requests,
        tuple(total_seconds(rows) / requests for rows in runs),
        {name: seconds / requests for name, seconds in split(middle[0].losses, charges).items()},
        middle[0].h2d_bytes,
        max(peak.allocated for peak in peaks),
        max(peak.pinned for peak in peaks) * scenario.workload.gpus,
        lacking.where if lacking else "",
        tuple(sorted(Counter(q.provenance for _, q in prepared.values.of(scenario.node)).items())),
    )


def _steady(rows: list[UseRow]) -> UseRow:
    """The median step that is neither the first nor a switch."""
    usual = sorted((row for row in rows[1:] if row.use.kind == "denoise"), key=lambda row: row.duration)
    return usual[len(usual) // 2]


def answers(cell: Cell) -> list[Answer]:
    """Every idea that is legal in a cell."""
    found = []
    for idea in (*REFERENCES, *IDEAS, *LOW_BIT, *COMBINED):
        try:
            found.append(answered(idea, scenario_of(cell, idea)))
        except RefusedScenario:
            continue
    return found


def all_answers(asked: Sequence[Cell]) -> dict[Cell, list[Answer]]:
    """The answers of many cells, on all cores."""
    with Workers() as pool:
        return dict(zip(asked, pool.map(answers, asked), strict=True))
