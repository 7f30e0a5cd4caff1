"""wan27 as a SimGrid task graph, run in a process of its own: SimGrid has one engine per process.

    python -m experiments.speed.simgrid_tasks GPUS STEPS [distinct] [finishes]

One layer of each rank is a few tasks in a ring that fire as often as there are layers; everything then happens inside
SimGrid's C++ core. Prints JSON: seconds of building the graph and running it (by the clock and of CPU time), the
instant at which the last kernel ended, peak memory, and with `finishes` the end of every layer on every rank. Sharing
is plain max-min with `network/model:raw`, links have no latency.
"""

import json
import resource
import sys
import time
from itertools import pairwise
from typing import Any

from .routes import HOST_MEMORY, gpu_name, links, routes
from .workload import FORWARDS, KERNELS, LAYER_BYTES, LAYERS, pair_bytes

SPEED = 1e12
"""FLOP/s of a GPU: kernels have as many FLOPs as they need for their seconds."""


def build_platform(simgrid: Any, engine: Any, gpus: int, *, distinct: bool) -> tuple[Any, list[Any]]:
    """Host memory and GPUs, with the routes between them."""
    zone = engine.netzone_root.add_netzone_full("node")
    names = [HOST_MEMORY, *map(gpu_name, range(gpus))]
    hosts = {name: zone.add_host(name, SPEED) for name in names}

    def link(name: str, rate: float) -> Any:
        made = zone.add_link(name, rate)
        made.set_latency(0)
        made.seal()
        return simgrid.LinkInRoute(made)

    made = {name: link(name, rate) for name, rate in links(gpus, distinct=distinct).items()}
    for (start, end), route in routes(gpus, distinct=distinct).items():
        zone.add_route(hosts[start], hosts[end], [made[name] for name in route], False)
    zone.seal()
    return hosts[HOST_MEMORY], [hosts[name] for name in names[1:]]


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
    start, cpu_start = time.perf_counter(), time.process_time()
    options = ["--cfg=network/model:raw", "--log=root.thres:critical", "--cfg=network/crosstraffic:0"]
    engine = simgrid.Engine(["wan27", *options])
    memory, hosts = build_platform(simgrid, engine, gpus, distinct="distinct" in arguments)
    tasks = build_tasks(simgrid, memory, hosts, steps * FORWARDS * LAYERS)
    if "finishes" in arguments:
        for rank, end in enumerate(tasks[:gpus]):
            own = finishes[str(rank)] = []
            end.on_this_completion_cb(lambda _, own=own: own.append(engine.clock))
    engine.run()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "end_s": engine.clock, "peak_bytes": peak}
    print(json.dumps({**found, "finishes": finishes}))


if __name__ == "__main__":
    main(sys.argv[1:])
