"""Scenarios that are legal, field by field: near bounds, with every value of every option."""

from math import gcd
from random import Random
from typing import Any

from offsim.scenario import catalogue
from offsim.scenario.gpu import GPU
from offsim.scenario.host import Host, Overheads, Socket
from offsim.scenario.interference import Interference, KernelInterference
from offsim.scenario.model import Component, Model
from offsim.scenario.scenario import Simulation
from offsim.scenario.wiring import CollectiveKind, NVLink, PCIe
from offsim.scenario.workload import Workload
from tests.attack.case import Case, chance, text
from tests.attack.documents import scenario
from tests.malformed.mutations import Table, toml

from .edited import verb
from .policies import policies
from .values import settings, vary

HEADS = 4
BY_MODULE = ("wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.2-t2v-a14b")
"""Models whose modules are known one by one."""
MACHINE: tuple[tuple[tuple[str | int, ...], type], ...] = (
    (("gpu",), GPU),
    (("wiring", "pcie"), PCIe),
    (("host",), Host),
    (("host", "sockets", 0), Socket),
    (("wiring", "nvlink"), NVLink),
    (("host", "overheads"), Overheads),
    (("wiring", "collectives", "all_to_all"), CollectiveKind),
    (("wiring", "collectives", "all_gather"), CollectiveKind),
)


def legal(random: Random) -> Case:
    """A scenario of legal values: mostly one that runs."""
    policy = policies(random)
    by_module = policy["name"] == "accelerate-sequential" or policy.get("level") == "leaf"
    document = _listed(random, by_module) if by_module or chance(random, 0.4) else _tiny(random)
    vary(random, document["workload"], Workload, random.choice((0.0, 0.1, 0.4)))
    if chance(random, 0.5):
        document["workload"]["step_end"] = random.choice(("stream", "device", "none"))
    document["policy"] = policy
    if by_module and chance(random, 0.9):
        document["workload"]["kernels"] = "eager"
        document["workload"].pop("compiled", None)
    if chance(random, 0.5):
        document["simulation"] = settings(random, Simulation, 0.5)
    return Case(verb(random), (("case.toml", text(toml(document))),), ("case.toml",))


def _tiny(random: Random) -> Table:
    """The tiny scenario with its machine and model varied."""
    document = scenario()
    document["simulation"] = {}
    vary(random, document["model"], Model, random.choice((0.0, 0.1)))
    document["model"]["blocks"][0]["count"] = random.choice((1, 2, 4, 7, 40, 100, rarely(random, 1000)))
    for name in ("text_encoder", "vae"):
        vary(random, document["model"][name], Component, random.choice((0.0, 0.3)))
        if chance(random, 0.1):
            del document["model"][name]
    gpus = random.choice((1, 1, 2, 2, 3, 4, 8, 16, rarely(random, random.choice((64, 1024)))))
    document["node"] = _machine(random, document["node"], gpus)
    document["workload"] = _layout(random, gpus) | _size(random)
    return document


def rarely(random: Random, many: int) -> int:
    """A number that takes long, one time in five; else two."""
    return many if chance(random, 0.2) else 2


def _size(random: Random) -> Table:
    steps = random.choice((1, 2, 3, 5, 10, 30, rarely(random, random.choice((1000, 10_000)))))
    if chance(random, 0.5):
        return {"tokens": random.choice((1, 2, 17, 4096, 100_000, 10**9)), "steps": steps}
    sides = [16 * random.choice((1, 2, 45, 1000, 6250)) for _ in range(2)]
    return {"width": sides[0], "height": sides[1], "frames": random.choice((1, 5, 81, 99_997)), "steps": steps}


def _layout(random: Random, gpus: int) -> Table:
    """GPUs and sequence parallel degree that go together."""
    layout: Table = {"gpus": gpus}
    if gpus % 2 == 0 and chance(random, 0.3):
        return layout | {"cfg": "split", "sequence_parallel": gpus // 2}
    if HEADS % gpus or chance(random, 0.3):
        layout["sequence_parallel"] = random.choice((1, gcd(HEADS, gpus)))
    return layout


def _machine(random: Random, node: Table, gpus: int) -> Table:
    """The node for so many GPUs, in sockets and behind switches, with varied values."""
    for steps, struct in MACHINE:
        table: Any = node
        for step in steps:
            table = table[step]
        vary(random, table, struct, random.choice((0.0, 0.0, 0.1, 0.3)))
    wiring = node["wiring"]
    wiring["gpus"] = gpus
    wiring["collectives"]["transport"] = random.choice(("nvlink", "pcie", "host-memory"))
    half = random.randrange(gpus)
    runs = [list(range(half)), list(range(half, gpus))] if half and chance(random, 0.4) else [list(range(gpus))]
    wiring["sockets"] = runs
    node["host"]["sockets"] *= random.choice((1, len(runs)))
    rates = {key: wiring["switches"][0][key] for key in ("h2d_GBps", "d2h_GBps")}
    behind = [run for run in _behind(random, gpus) if run]
    wiring["switches"] = [{"gpus": run, **rates} for run in behind]
    node["gpu"]["interference"] = {kind: _interference(random) for kind in KernelInterference.__struct_fields__}
    for kind in ("all_to_all", "all_gather"):
        wiring["collectives"][kind]["interference"] = _interference(random)
    return node


def _behind(random: Random, gpus: int) -> list[list[int]]:
    """GPUs by switch: none, pairs, one for all, or unlike groups."""
    size = random.choice((0, 1, 2, gpus))
    if not size:
        return []
    runs = [list(range(start, min(start + size, gpus))) for start in range(0, gpus, size)]
    return [run[: random.randint(0, len(run))] for run in runs] if chance(random, 0.2) else runs


def _interference(random: Random) -> Table:
    """What one thing suffers from others beside it: nothing, something, or everything."""
    names = [name for name in Interference.__struct_fields__ if chance(random, 0.3)]
    return settings(random, Interference, 1.0, tuple(names)) if names else {}


def _listed(random: Random, by_module: bool) -> Table:
    """A model and a node of the catalogue."""
    model = random.choice(sorted(BY_MODULE if by_module else catalogue.names("models")))
    node = random.choice(sorted(catalogue.names("nodes")))
    work = {"tokens": random.choice((256, 4096, 30_000)), "steps": random.choice((1, 2, 4, 10, 30))}
    gpus = random.choice((1, 1, 1, 2, 2, 4, 8))
    return {"model": model, "node": node, "workload": {"gpus": gpus, **work}}
