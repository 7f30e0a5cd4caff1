"""The bench inside the simulator: gates, host time, noise, and what it refuses."""

import pytest
from msgspec.structs import replace

from calibration.probes import PROBES
from calibration.probes.bench import ProbeReading, Unsupported, program_of
from calibration.validate.simulated_bench import SimulatedBench, inventory_of, simulated_samples
from offsim.program.commands import (
    COMPUTE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    HostWork,
    Kernel,
    Record,
    Synchronize,
)
from offsim.scenario.node import Node
from tests.strategies import no_overheads, quantity
from tests.unit.probed_nodes import one_gpu, two_gpus

SECOND = Kernel("elementwise", 0.0, 4e12, 1.0, (1, 2 * 10**12))
"""At 4 TB/s."""
TWO_KERNELS: tuple[Command, ...] = (
    Record(COMPUTE, "begin"),
    Compute(COMPUTE, "kernel", (SECOND,)),
    Record(COMPUTE, "middle"),
    Compute(COMPUTE, "kernel", (SECOND,)),
    Record(COMPUTE, "end"),
)


def slow_to_launch(seconds: float) -> Node:
    """A node whose host needs so long for each kernel."""
    return one_gpu().with_overheads(replace(no_overheads(), launch=quantity(seconds)))


def test_leading_allocations_come_before_what_is_probed():
    memory = (Allocate("a", 1.0, COMPUTE), Allocate("b", 1.0, COMPUTE))
    later = (Record(COMPUTE, "begin"), Allocate("c", 1.0, COMPUTE))
    program = program_of((*memory, *later), 2)
    assert [section.commands for section in program.sections] == [memory, later]
    assert program.groups["sequence"] == ((0, 1),)


def test_instants_are_those_of_the_engine():
    reading = SimulatedBench(one_gpu()).run(TWO_KERNELS)
    assert reading.instants == {(0, "begin"): 0.0, (0, "middle"): 1.0, (0, "end"): 2.0}


def test_a_gate_hides_the_time_that_issuing_takes():
    bench = SimulatedBench(slow_to_launch(3.0))
    assert bench.run(TWO_KERNELS).between("begin", "end") == 2.0
    # Ungated, the second launch is done at 6 s and its kernel a second later.
    assert bench.run(TWO_KERNELS, gated=False).between("begin", "end") == 7.0


def test_host_time_is_that_of_issuing_behind_a_gate_or_not():
    bench = SimulatedBench(slow_to_launch(3.0))
    assert bench.run(TWO_KERNELS).host_seconds == 6.0
    assert bench.run(TWO_KERNELS, gated=False).host_seconds == 6.0


def test_ungated_host_time_counts_what_blocks_the_host():
    commands = (*TWO_KERNELS, Synchronize("stream", COMPUTE), HostWork("pause", 4.0))
    assert SimulatedBench(one_gpu()).run(commands, gated=False).host_seconds == 6.0


def test_leading_allocations_cost_no_host_time():
    node = one_gpu().with_overheads(replace(no_overheads(), allocation=quantity(5.0)))
    assert SimulatedBench(node).run((Allocate("a", 1.0, COMPUTE), *TWO_KERNELS)).host_seconds == 0.0


def test_a_gate_is_not_held_up_by_a_full_queue():
    node = one_gpu().with_overheads(replace(no_overheads(), queue_depth=2))
    copies = tuple(Copy("copy", "b", "H2D", 50e9, "pinned", "b") for _ in range(4))
    commands = (Record("copy", "begin"), *copies, *TWO_KERNELS[2:])
    assert SimulatedBench(node).run(commands).instants[0, "end"] == 1.0


def test_settling_changes_nothing():
    bench = SimulatedBench(one_gpu())
    assert bench.run(TWO_KERNELS, settle=9.0) == bench.run(TWO_KERNELS)


COPY: tuple[Command, ...] = (
    Record("copy", "begin"),
    Copy("copy", "b", "H2D", 50e9, "pinned", "b"),
    Record("copy", "end"),
)


def test_a_rank_that_copies_alone_has_host_memory_to_itself():
    bench = SimulatedBench(two_gpus(read=60e9))
    assert bench.run(COPY, only_rank=0).between("begin", "end") == 1.0
    assert bench.run(COPY).between("begin", "end") == pytest.approx(5 / 3)


def test_collectives_while_one_of_two_ranks_copies_are_refused():
    exchange = Collective(COMPUTE, "exchange", "all-to-all", 1e9)
    with pytest.raises(Unsupported, match="ranks all issue the same"):
        SimulatedBench(two_gpus()).run((*COPY, exchange), only_rank=0)


def test_the_only_rank_of_one_may_copy():
    assert SimulatedBench(one_gpu()).run(TWO_KERNELS, only_rank=0).between("begin", "end") == 2.0


def noisy(seed: int) -> ProbeReading:
    return SimulatedBench(one_gpu(), noise=0.05, seed=seed).run(TWO_KERNELS)


def test_noise_repeats_with_its_seed_and_keeps_the_order():
    assert noisy(1) == noisy(1)
    assert noisy(1) != noisy(2)
    for seed in range(50):
        assert 0.0 == noisy(seed).instants[0, "begin"] < noisy(seed).instants[0, "middle"]
        assert noisy(seed).instants[0, "middle"] < noisy(seed).instants[0, "end"]


def test_noise_is_as_large_as_asked_for():
    bench = SimulatedBench(one_gpu(), noise=0.05)
    spread = [bench.run(TWO_KERNELS).between("begin", "end") / 2 - 1 for _ in range(400)]
    assert abs(sum(spread) / 400) < 0.01
    assert 0.04 < (sum(x * x for x in spread) / 400) ** 0.5 < 0.06


def test_the_inventory_says_what_the_profile_does():
    one, two = inventory_of(one_gpu()), inventory_of(two_gpus())
    assert (one.gpus, one.transport) == (1, "none")
    assert (two.gpus, two.transport) == (2, "host-memory")
    assert one.fingerprint == "simulated probed"


def test_what_a_node_cannot_answer_is_waived_with_a_reason():
    probes = tuple(probe for probe in PROBES if probe.key in ("h2d", "all-to-all"))
    samples, waived = simulated_samples(SimulatedBench(one_gpu()), "quick", probes)
    assert {sample.probe for sample in samples} == {"h2d"}
    assert waived == ["all-to-all: needs two GPUs or more"]


def test_what_the_simulator_cannot_run_is_waived_with_a_reason():
    probes = tuple(probe for probe in PROBES if probe.key == "copy-collective")
    samples, waived = simulated_samples(SimulatedBench(two_gpus()), "full", probes)
    assert waived == ["copy-collective: the simulator's ranks all issue the same commands"]
    assert [sample.config["only_rank"] for sample in samples] == [-1] * 9
