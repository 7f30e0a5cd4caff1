"""wan27 as a SimGrid task graph, run in a process of its own: SimGrid has one engine per process.

    python -m experiments.speed.simgrid_tasks GPUS STEPS [distinct] [finishes]

One layer of each rank is a few tasks in a ring that fire as often as there are layers; everything then happens inside
SimGrid's C++ core. Prints JSON: seconds of building the graph and running it, the instant at which the last kernel
ended, peak memory, and with `finishes` the end of every layer on every rank. Sharing is plain max-min with
`network/model:raw`, links have no latency.
"""

import json
import resource
import sys
import time
from itertools import pairwise
from typing import Any

from .workload import (
    FORWARDS,
    KERNELS,
    LAYER_BYTES,
    LAYERS,
    LINK,
    MEMORY,
    gpus_per_switch,
    pair_bytes,
    uplink_rate,
)

SPEED = 1e12
"""FLOP/s of a GPU: kernels have as many FLOPs as they need for their seconds."""


def build_platform(simgrid: Any, engine: Any, gpus: int, *, distinct: bool) -> tuple[Any, list[Any]]:
    """Host memory and GPUs, with the routes between them."""
    zone = engine.netzone_root.add_netzone_full("node")

    def link(name: str, rate: float) -> Any:
        made = zone.add_link(name, rate)
        made.set_latency(0)
        made.seal()
        return simgrid.LinkInRoute(made)

    memory, hosts = zone.add_host("memory", SPEED), [zone.add_host(f"gpu {i}", SPEED) for i in range(gpus)]
    read, write = link("host read", MEMORY), link("host write", MEMORY)
    size = gpus_per_switch(distinct=distinct)
    switches = range((gpus + size - 1) // size)
    rates = [uplink_rate(i, distinct=distinct) for i in switches]
    down = [link(f"H2D uplink {i}", rates[i]) for i in switches]
    up = [link(f"D2H uplink {i}", rates[i]) for i in switches]
    own_down = [link(f"H2D link {i}", LINK) for i in range(gpus)]
    own_up = [link(f"D2H link {i}", LINK) for i in range(gpus)]
    for i in range(gpus):
        zone.add_route(memory, hosts[i], [read, down[i // size], own_down[i]], False)
        for j in range(gpus):
            if i != j:
                there = [own_up[i], up[i // size], write, read, down[j // size], own_down[j]]
                zone.add_route(hosts[i], hosts[j], there, False)
    zone.seal()
    return memory, hosts


def build_tasks(simgrid: Any, memory: Any, hosts: list[Any], layers: int) -> list[Any]:
    """The ring of one layer on every rank: all tasks (they must live on), each rank's last kernel first."""
    ranks = range(len(hosts))

    def kernel(name: str, rank: int, seconds: float) -> Any:
        return simgrid.ExecTask.init(f"{name} {rank}", seconds * SPEED, hosts[rank])

    gates = [kernel("gate", i, 0.0) for i in ranks]
    begins = [kernel("begin", i, 0.0) for i in ranks]
    stages = [[kernel(name, i, seconds) for i in ranks] for name, seconds in KERNELS.items()]
    copies = [simgrid.CommTask.init(f"copy {i}", LAYER_BYTES, memory, hosts[i]) for i in ranks]
    for i in ranks:
        for before in (gates[i], copies[i], stages[-1][i]):
            before.add_successor(begins[i])
        begins[i].add_successor(stages[0][i])
        begins[i].add_successor(copies[i])
    flows = [
        flow
        for number, (before, after) in enumerate(pairwise(stages))
        for flow in exchange(simgrid, hosts, before, after, f"all-to-all {number}")
    ]
    for i in ranks:
        gates[i].enqueue_firings(layers)
        copies[i].enqueue_firings(1)
        stages[-1][i].enqueue_firings(1)
    return [*stages[-1], *gates, *begins, *copies, *stages[0], *stages[1], *flows]


def exchange(simgrid: Any, hosts: list[Any], before: list[Any], after: list[Any], name: str) -> list[Any]:
    """An all-to-all: a flow starts when both its ranks have come to it, a rank goes on after all of its own."""
    flows = []
    ranks, bytes_ = range(len(hosts)), pair_bytes(len(hosts))
    if len(hosts) == 1:
        before[0].add_successor(after[0])
    for i in ranks:
        for j in ranks:
            if i != j:
                flow = simgrid.CommTask.init(f"{name} {i} {j}", bytes_, hosts[i], hosts[j])
                flows.append(flow)
                for rank in (i, j):
                    before[rank].add_successor(flow)
                    flow.add_successor(after[rank])
    return flows


def main(arguments: list[str]) -> None:
    """Build, run, report."""
    import simgrid

    gpus, steps = int(arguments[0]), int(arguments[1])
    finishes: dict[str, list[float]] = {}
    start = time.perf_counter()
    options = ["--cfg=network/model:raw", "--log=root.thres:critical", "--cfg=network/crosstraffic:0"]
    engine = simgrid.Engine(["wan27", *options])
    memory, hosts = build_platform(simgrid, engine, gpus, distinct="distinct" in arguments)
    tasks = build_tasks(simgrid, memory, hosts, steps * FORWARDS * LAYERS)
    if "finishes" in arguments:
        for rank, end in enumerate(tasks[:gpus]):
            own = finishes[str(rank)] = []
            end.on_this_completion_cb(lambda _, own=own: own.append(engine.clock))
    engine.run()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "end_s": engine.clock, "peak_bytes": peak, "finishes": finishes}))


if __name__ == "__main__":
    main(sys.argv[1:])
