"""Mixed scenarios: models, nodes, policies and sizes drawn at random, predicted from cold on all cores."""

import gc
import random
import time
from functools import cache
from typing import NamedTuple

from msgspec.structs import replace

from offsim.program.load import check_scenario
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.results.predict import predict
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import load_model, load_node
from offsim.scenario.model import Model
from offsim.scenario.node import Node
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload
from offsim.sweep.workers import Workers

MODELS = ("wan2.2-t2v-a14b", "wan2.2-ti2v-5b", "flux.1-dev", "qwen-image", "hunyuanvideo")
POLICIES: tuple[Policy, ...] = (
    Resident(),
    FullModel(),
    FullModel(version="pinned"),
    FSDP(),
    SGLangLayerwise(version="v0", prefetch=0),
    SGLangLayerwise(version="v1", prefetch=1),
    SGLangLayerwise(version="v2", prefetch=1),
    SGLangLayerwise(version="v2", prefetch=3),
    SGLangLayerwise(version="v3", prefetch=2, resident_layers=0.25),
)
GPUS = (1, 2, 4, 8, 16, 32, 64)
CHUNK = 50


class Outcome(NamedTuple):
    """What a run came to."""

    seconds: float
    scenarios: int
    refused: int
    """Drawn combinations that no real system would run: drawn again."""


def draw(numbers: random.Random) -> Scenario:
    """A scenario, not checked yet."""
    gpus, model = numbers.choice(GPUS), load_model_once(numbers.choice(MODELS))
    return Scenario(
        model=model,
        node=node_of(gpus, nvlink=numbers.random() < 0.5),
        policy=numbers.choice(POLICIES),
        workload=Workload(
            gpus=gpus,
            tokens=numbers.choice([4096, 16384, 32768, 65536]) * numbers.randint(1, 3),
            steps=numbers.choice([4, 20, 50]),
            sequence_parallel=numbers.choice([d for d in (1, 2, 4, 8) if gpus % d == 0]),
        ),
    )


@cache
def load_model_once(name: str) -> Model:
    """A catalogue model."""
    return load_model(name)


@cache
def node_of(gpus: int, *, nvlink: bool) -> Node:
    """A catalogue node with so many GPUs: two per switch where there are switches, on as many sockets."""
    node = load_node("h100-sxm-x8" if nvlink else "h100-pcie-switch")
    share = max(1, gpus // len(node.wiring.sockets))
    runs = [tuple(range(start, min(gpus, start + share))) for start in range(0, gpus, share)]
    pairs = [tuple(range(start, min(gpus, start + 2))) for start in range(0, gpus, 2)]
    switches = tuple(replace(node.wiring.switches[0], gpus=pair) for pair in pairs) if node.wiring.switches else ()
    return node.rewired(gpus=gpus, sockets=tuple(runs), switches=switches)


def predict_chunk(seed: int, count: int) -> int:
    """Predict so many scenarios drawn with a seed; how many were refused on the way."""
    gc.freeze()
    gc.set_threshold(100_000)
    numbers, done, refused = random.Random(seed), 0, 0
    while done < count:
        try:
            scenario = draw(numbers)
            check_scenario(scenario)
            predict(scenario)
            done += 1
        except ScenarioError:
            refused += 1
    return refused


def run_mixed(count: int, workers: int) -> Outcome:
    """Predict `count` scenarios on so many fresh processes."""
    start = time.perf_counter()
    with Workers(workers) as pool:
        refused = sum(pool.map(predict_chunk, range(count // CHUNK), [CHUNK] * (count // CHUNK)))
    return Outcome(time.perf_counter() - start, count // CHUNK * CHUNK, refused)
