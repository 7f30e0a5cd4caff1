"""Which values of a node count as in use: those that are read for something that the program really issues."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from offsim.engine.host_costs import HostCosts
from offsim.engine.prepared import Prepared
from offsim.engine.simulate import simulate
from offsim.engine.values_in_use import ValuesInUse
from offsim.program.commands import (
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    HostWork,
    Kernel,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.groups import SEQUENCE, ParallelGroups
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.uses import Use
from offsim.results.predict import predict
from offsim.scenario import catalogue
from offsim.scenario.load import load_model, load_node
from offsim.scenario.node import Node
from offsim.scenario.node_values import node_values
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario, Simulation
from offsim.scenario.workload import Workload
from tests.changed_nodes import changed_node, times, with_own_values
from tests.golden.tiny import tiny_model, tiny_scenario
from tests.strategies import curve
from tests.unit.probed_nodes import link, one_gpu, slowed, two_gpus

SLOWED_EXCHANGE = "wiring.collectives.all_to_all.interference.h2d"
LINK = {"wiring.pcie.h2d", "wiring.pcie.duplex", "wiring.pcie.latency", "host.sockets[0].read", "host.sockets[0].total"}
PRODUCT = Kernel("gemm", 1e12, 1e9, 1000.0, (1000, 512, 256))
ATTENTION = Kernel("attention", 1e12, 1e9, 1000.0, (1, 40, 1000, 1000, 128))
TRAFFIC = Kernel("elementwise", 0.0, 1e9, 1.0)
PROFILES = sorted((Path(__file__).parents[2] / "calibration" / "nodes").glob("*/profile.toml"))


def in_use(*commands: Command, node: Node | None = None, ranks: int = 1, **options: object) -> set[str]:
    """Keys of what a program of one step reads, on a node none of whose values is in two places."""
    node = with_own_values(node or one_gpu())
    groups = ParallelGroups(ranks, {SEQUENCE: (tuple(range(ranks)),)})
    program = StreamProgram("by hand", (Section("step", Use("denoise", step=0), commands),), groups)
    workload = Workload(gpus=ranks, tokens=64, attention_backend=str(options.pop("backend", "default")))
    simulation = Simulation(**options)  # type: ignore[arg-type]
    scenario = Scenario(load_model("wan2.2-t2v-a14b"), workload, node, Resident(), simulation=simulation)
    prepared = Prepared(scenario, program)
    simulate(scenario, prepared=prepared)
    return {key for key, _ in prepared.values.of(node)}


def predicted(
    policy: Policy, node: str | Node = "h100-sxm-x8", simulation: Simulation | None = None, **work: int
) -> set[str]:
    """Keys of what a prediction for a tiny model rests on."""
    machine = load_node(node) if isinstance(node, str) else node
    workload = Workload(**({"tokens": 512, "steps": 4, "cfg": "none"} | work))  # type: ignore[arg-type]
    scenario = Scenario(tiny_model(), workload, machine, policy, simulation=simulation or Simulation())
    return {key for key, _ in predict(scenario).in_use}


def kernels(*found: Kernel, stream: str = "compute") -> Compute:
    return Compute(stream, "kernels", found or (TRAFFIC,))


def copy(memory: str = "pinned", direction: str = "H2D", stream: str = "copy", calls: int = 1) -> Copy:
    """A second at 50 GB/s."""
    return Copy(stream, "copy", direction, 50e9, memory, "buffer", calls)  # type: ignore[arg-type]


def exchange(kind: str = "all-to-all", stream: str = "compute") -> Collective:
    return Collective(stream, "exchange", kind, 1e9, "sequence")  # type: ignore[arg-type]


def test_a_resident_run_on_one_gpu_rests_on_no_copy_rate():
    found = predicted(Resident())
    assert not [
        key for key in found if key.startswith(("wiring.pcie", "host.sockets", "host.pageable", "host.overheads.copy"))
    ]
    assert "gpu.memory_bandwidth" in found


def test_a_pinned_copy_to_the_device_rests_on_its_link_and_on_what_the_host_can_read():
    assert in_use(copy()) == {*LINK, "host.overheads.copy"}


@pytest.mark.parametrize(
    ("memory", "direction", "key"),
    [("pageable", "H2D", "pageable_h2d"), ("pageable", "D2H", "pageable_d2h"), ("fresh", "D2H", "fresh_d2h")],
)
def test_of_the_pageable_rates_a_copy_rests_on_that_of_its_direction_and_of_its_memory(memory, direction, key):
    found = in_use(copy(memory, direction))
    assert [key for key in found if key.startswith(("host.pageable", "host.fresh"))] == [f"host.{key}"]


def test_a_pageable_copy_rests_on_its_rate_beside_kernels_too():
    assert "host.pageable_h2d" in in_use(kernels(), copy("pageable"), kernels())


def test_what_a_further_call_takes_counts_only_of_copies_that_have_one():
    node = one_gpu(link(further_call=1e-6))
    assert "wiring.pcie.further_call" in in_use(copy(calls=2), node=node)
    assert "wiring.pcie.further_call" not in in_use(copy(), node=node)


@pytest.mark.parametrize(
    ("command", "cost"),
    [
        (kernels(), "launch"),
        (copy(), "copy"),
        (Record("compute", "event"), "event"),
        (Wait("compute", "event"), "event"),
        (Allocate("buffer", 512, "compute"), "allocation"),
        (Synchronize("device"), "synchronize"),
    ],
)
def test_the_host_costs_of_the_commands_that_are_issued_count(command, cost):
    assert [key for key in in_use(command) if key.startswith("host.overheads")] == [f"host.overheads.{cost}"]


def test_a_collective_costs_the_host_only_where_one_is_issued():
    assert "host.overheads.collective" in predicted(Resident(), gpus=2)
    assert "host.overheads.collective" not in predicted(Resident(), gpus=1)


def test_an_attention_rests_on_the_backend_that_runs_it():
    gpu = one_gpu().gpu
    node = replace(one_gpu(), gpu=replace(gpu, attention={**gpu.attention, "sage": curve((1.0, 1e14))}))
    assert {"gpu.attention.sage", "gpu.memory_bandwidth"} <= in_use(kernels(ATTENTION), node=node, backend="sage")
    assert "gpu.attention.default" not in in_use(kernels(ATTENTION), node=node, backend="sage")
    assert not any("attention" in key for key in in_use(kernels(PRODUCT), node=node, backend="sage"))


def test_a_product_of_a_measured_shape_rests_on_its_own_curve_alone():
    shapes = {"512x256": curve((1.0, 1e14)), "256x512": curve((1.0, 1e14))}
    node = replace(one_gpu(), gpu=replace(one_gpu().gpu, gemm_shapes=shapes))
    assert {key for key in in_use(kernels(PRODUCT), node=node) if key.startswith("gpu")} == {"gpu.gemm_shapes.512x256"}


def test_a_measured_table_of_elementwise_kernels_stands_for_the_single_rate():
    node = replace(one_gpu(), gpu=replace(one_gpu().gpu, elementwise=curve((1.0, 1e12))))
    assert {key for key in in_use(kernels(), node=node) if key.startswith("gpu")} == {"gpu.elementwise"}


@pytest.mark.parametrize(("dtype", "unpacks"), [("int8", True), ("stored", False)])
def test_the_rate_of_unpacking_counts_where_weights_are_unpacked(dtype, unpacks):
    assert ("gpu.unpack" in predicted(ScheduledLayerwise(transfer_dtype=dtype))) == unpacks


def test_what_slows_kernels_counts_once_one_has_run_beside_it():
    node = one_gpu(interference=slowed("elementwise", "H2D", 0.1))
    waits = Synchronize("device")
    assert "gpu.interference.elementwise.h2d" in in_use(kernels(), copy(), node=node)
    assert "gpu.interference.elementwise.h2d" not in in_use(kernels(), waits, copy(), waits, kernels(), node=node)
    assert "gpu.interference.elementwise.h2d" not in in_use(kernels(PRODUCT), copy(), node=node)
    assert "gpu.interference.elementwise.h2d" not in in_use(kernels(), copy(), node=node, contention=False)


def test_what_slows_collectives_counts_once_one_has_run_beside_it():
    node = two_gpus(nvlink=True, interference=slowed("all-to-all", "H2D", 0.1))
    waits = Synchronize("device")
    assert SLOWED_EXCHANGE in in_use(exchange(), copy(), node=node, ranks=2)
    assert SLOWED_EXCHANGE not in in_use(exchange(), waits, copy(), node=node, ranks=2)
    assert SLOWED_EXCHANGE not in in_use(exchange("all-gather"), copy(), node=node, ranks=2)
    assert SLOWED_EXCHANGE not in in_use(exchange(), copy(), node=node, ranks=2, contention=False)


def test_of_two_collectives_that_meet_the_one_that_is_slowed_counts():
    both = (*slowed("all-to-all", "all-gather", 0.1), *slowed("gemm", "collective", 0.1))
    found = in_use(exchange(), exchange("all-gather", "other"), node=two_gpus(nvlink=True, interference=both), ranks=2)
    assert [key for key in found if "interference" in key] == ["wiring.collectives.all_to_all.interference.collective"]


def test_a_kind_of_collective_counts_where_it_occurs():
    found = in_use(exchange(), node=two_gpus(), ranks=2)
    kinds = {key for key in found if key.startswith("wiring.collectives")}
    assert kinds == {f"wiring.collectives.all_to_all.{name}" for name in ("rate", "latency", "weight", "link_cost")}


def test_over_nvlink_nothing_of_the_way_to_the_host_counts():
    found = in_use(exchange(), node=two_gpus(nvlink=True), ranks=2)
    assert {"wiring.nvlink.send", "wiring.nvlink.receive"} <= found
    assert not [key for key in found if key.startswith(("wiring.pcie", "host.sockets")) or key.endswith("link_cost")]


@pytest.mark.parametrize("fold", [True, False])
def test_the_sockets_and_switches_of_ranks_that_are_not_simulated_count_too(fold):
    found = predicted(SGLangLayerwise(), "h100-pcie-switch", Simulation(fold=fold), gpus=4)
    assert {f"wiring.switches[{i}].{way}" for i in (0, 1) for way in ("h2d", "d2h")} <= found
    assert not [key for key in found if key.startswith(("wiring.switches[2]", "wiring.switches[3]"))]


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("gpus", [4, 8])
def test_the_memory_of_a_socket_counts_where_any_rank_is_on_it(gpus, fold):
    node = load_node("h100-sxm-x8")
    (memory,) = node.host.sockets
    node = with_own_values(replace(node, host=replace(node.host, sockets=(memory, memory))))
    found = predicted(SGLangLayerwise(), node, Simulation(fold=fold), gpus=gpus, sequence_parallel=4)
    sockets = ["host.sockets[0].read", "host.sockets[1].read"]
    assert sorted(key for key in found if key.endswith(".read")) == sockets[: gpus // 4]


def test_of_the_clock_what_never_runs_does_not_count():
    found = predicted(Resident(), "h200-x1")
    assert {"gpu.clock.limit", "gpu.clock.window", "gpu.clock.knee.gemm", "gpu.clock.energy.byte"} <= found
    absent = ("copy", "collective", "knee.relayout", "energy.relayout")
    assert not found.intersection(f"gpu.clock.{key}" for key in absent)
    assert "gpu.clock.copy" in predicted(SGLangLayerwise(), "h200-x1")


def test_without_the_clock_model_nothing_of_the_clock_counts():
    assert not [key for key in predicted(Resident(), "h200-x1", Simulation(clock=False)) if "clock" in key]


def test_memory_that_is_checked_counts():
    assert {"gpu.memory", "gpu.context", "host.memory"} <= predicted(Resident())


def test_the_value_that_a_host_work_comes_from_counts():
    node, values = with_own_values(one_gpu()), ValuesInUse()
    assert HostCosts(node.host.overheads, values).of(HostWork("pin", 2.0, node.host.pageable_h2d)) == 2
    assert [key for key, _ in values.of(node)] == ["host.pageable_h2d"]


def test_a_curve_is_listed_with_its_largest_value_and_where_it_is_from():
    values, node = ValuesInUse(), replace(one_gpu(), gpu=replace(one_gpu().gpu, gemm=curve((1, 5.0), (100, 7.0))))
    assert values.at(node.gpu.gemm, 10) == pytest.approx(6)
    [(key, value)] = values.of(node)
    assert (key, value.value, value.provenance) == ("gpu.gemm", 7, "guess")


def test_a_value_that_stands_in_two_places_counts_in_both():
    values, node = ValuesInUse(), one_gpu()
    assert values.number(node.wiring.pcie.h2d) == 50e9
    assert [key for key, _ in values.of(node)] == ["wiring.pcie.h2d", "wiring.pcie.d2h"]


@pytest.mark.parametrize("name", [*catalogue.names("nodes"), *map(str, PROFILES)])
def test_no_value_of_a_node_that_was_loaded_stands_in_two_places(name):
    found = [id(value) for _, value in node_values(load_node(name))]
    assert len(found) == len(set(found)) > 20


@pytest.mark.parametrize(
    ("policy", "key", "factor"),
    [
        (SGLangLayerwise(pinned=False), "host.pageable_h2d", 0.5),
        (FullModel(), "host.fresh_d2h", 0.5),
        (Resident(), "gpu.memory_bandwidth", 1e-3),
        (Resident(), "host.overheads.launch", 2),
    ],
)
def test_what_a_run_rests_on_changes_it(policy, key, factor):
    """Slow pages, slow memory and slow launches make all steps of a launch-bound tiny model longer."""
    scenario = tiny_scenario(policy)
    slower = changed_node(scenario.node, lambda k, value: times(value, factor) if k == key else value)
    assert predict(replace(scenario, node=slower)).total > 1.01 * predict(scenario).total
