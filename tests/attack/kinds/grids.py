"""Grids: axes of all kinds, good and changed."""

from collections.abc import Callable
from random import Random
from typing import Any

from tests.attack.case import Case, chance, text
from tests.attack.documents import scenario
from tests.attack.pools import hostile_text
from tests.malformed.mutations import Table, toml

from .edited import change, surely_wrong

Maker = Callable[[Random, Table, Table], None]
"""Adds an axis to a grid."""
POLICIES: tuple[Any, ...] = (
    "resident",
    "full-model",
    "fsdp",
    "accelerate-model",
    {"name": "sglang-layerwise", "version": "v3", "prefetch": 1},
    {"name": "scheduled-layerwise", "chunks": 4},
    {"name": "diffusers-group"},
    {"name": "sglang-layerwise", "prefetch": 1000},
)


def grids(random: Random) -> Case:
    """A sweep over a small grid, at times with changes or hostile labels."""
    names: tuple[str, ...] = ("case.toml",)
    if chance(random, 0.1):
        document = _grid(random, [_gpus, _booleans])
        names = (*names, surely_wrong(random, document))
    else:
        document = good_grid(random)
        for _ in range(random.choice((0, 0, 1, 2))):
            change(random, document)
    arguments = ["sweep", "case.toml", "--workers", "2" if chance(random, 0.01) else "1"]
    arguments += ["--quiet"] if chance(random, 0.3) else []
    out = ["--out", "out"] if chance(random, 0.5) else []
    return Case((*arguments, *out), (("case.toml", text(toml(document))),), names, ("offsim-results", "out"))


def good_grid(random: Random) -> Table:
    """A grid of a few combinations of the tiny scenario, rarely of very many."""
    document = _grid(random, random.sample(MAKERS, random.randint(1, 3)))
    if chance(random, 0.3):
        document["title"], document["notes"] = hostile_text(random), hostile_text(random)
    return document


def _grid(random: Random, makers: list[Maker]) -> Table:
    base = scenario()
    base["workload"]["sequence_parallel"] = 1
    document: Table = {"schema": 2, "name": "small", "scenario": {key: base[key] for key in _sections(base)}}
    axes = document["axes"] = {}
    for maker in makers:
        maker(random, document, axes)
    return document


def _sections(base: Table) -> list[str]:
    return [key for key in base if key in ("model", "workload", "node", "policy", "simulation")]


def _gpus(random: Random, document: Table, axes: Table) -> None:
    axes["gpus"] = {"key": "workload.gpus", "values": random.choice(([1], [1, 2], [2, 1, 3], [2]))}


def _policies(random: Random, document: Table, axes: Table) -> None:
    chosen = random.sample(POLICIES, random.randint(1, 3))
    axes["policy"] = [{"label": f"policy {i}", "policy": policy} for i, policy in enumerate(chosen)]
    if chance(random, 0.3):
        axes["policy"][0]["when"] = {"workload": {"gpus": random.choice((1, 2, [1, 2]))}}


def _steps(random: Random, document: Table, axes: Table) -> None:
    few, many = {"from": 1, "to": 3, "step": 1}, {"from": 1, "to": random.choice((10_000, 10**9)), "step": 1}
    axes["steps"] = {"key": "workload.steps", **(many if chance(random, 0.02) else few)}


def _tokens(random: Random, document: Table, axes: Table) -> None:
    for key in ("width", "height", "frames"):
        document["scenario"]["workload"].pop(key, None)
    spread = {"from": 1.5, "to": 9.5} if chance(random, 0.1) else {"from": 16, "to": 10**6}
    axes["tokens"] = {"key": "workload.tokens", **spread, "count": 3, "scale": random.choice(("log", "linear"))}


def _range(random: Random, document: Table, axes: Table) -> None:
    step = random.choice((0.1, 0.25, 1e-9, 1e-300)) if chance(random, 0.1) else 0.25
    axes["efficiency"] = {"key": "workload.compute_efficiency", "from": 0.5, "to": 1.0, "step": step}


def _drawn(random: Random, document: Table, axes: Table) -> None:
    axes["rate"] = {
        "key": "node.wiring.pcie.h2d_GBps",
        "from": 1.0,
        "to": 100.0,
        "scale": random.choice(("log", "linear")),
    }
    kind = random.choice(("random", "sobol"))
    count = random.choice((100_000, 100_001)) if chance(random, 0.02) else 3
    document["sample"] = {"kind": kind, "count": count, "seed": random.choice((0, 1, 2**63 - 1))}


def _booleans(random: Random, document: Table, axes: Table) -> None:
    key = random.choice(("fold", "steady_state", "block_period", "contention", "clock"))
    axes["switch"] = {"key": f"simulation.{key}", "values": [True, False]}


def _texts(random: Random, document: Table, axes: Table) -> None:
    """Labels and values that a table, a terminal or a spreadsheet could take for something else."""
    if chance(random, 0.5):
        labels = dict.fromkeys(hostile_text(random) for _ in range(3))
        axes["text"] = [{"label": label, "workload": {"compile_s": i}} for i, label in enumerate(labels)]
    else:
        axes["text"] = {"key": "model.title", "values": [hostile_text(random), "second"]}


MAKERS: tuple[Maker, ...] = (_gpus, _policies, _steps, _tokens, _range, _drawn, _booleans, _texts)
