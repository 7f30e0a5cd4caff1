"""ChunkFlow: bytes as layerwise moves them, one chunk at most beside a collective, two blocks of buffers."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace

from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.check import problems
from offsim.program.first_order import copy_rate, kernel_seconds
from offsim.program.load import check_scenario
from offsim.program.spans import Span
from offsim.program.systems.chunkflow.gate import GateWindow, as_they_fit, at_host_pace
from offsim.program.systems.chunkflow.parameters import ChunkFlow
from offsim.program.systems.resident import Resident
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.results.predict import predict
from offsim.results.steps import traffic
from offsim.scenario.load import load_model, load_node
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import RefusedScenario, Scenario
from offsim.scenario.workload import Workload
from tests.golden.tiny import tiny_model, tiny_program

WAN, HUNYUAN, FLUX = "wan2.2-ti2v-5b", "hunyuanvideo", "flux.1-dev"
BLOCK = 327_313_408
"""Bytes of a block of Wan2.2-TI2V-5B."""
EVERYWHERE: dict[str, Any] = {"text_encoder": "resident", "vae": "resident"}
ROOT = load_node("h100-pcie-uplink")
"""All GPUs share 55.2 GB/s to the host."""


def scenario(policy: Policy, model: str = WAN, **workload: Any) -> Scenario:
    """Two GPUs of one uplink whose collectives go through host memory; three steps of one forward."""
    assert ROOT.wiring.collectives is not None
    node = ROOT.rewired(collectives=replace(ROOT.wiring.collectives, transport="host-memory"))
    work = Workload(**({"gpus": 2, "tokens": 18_480, "steps": 3, "cfg": "none"} | workload))
    made = Scenario(load_model(model), work, node, policy)
    check_scenario(made)
    return made


def copied(policy: Policy, model: str = WAN) -> float:
    """H2D bytes of a rank's steady step."""
    return traffic(build(scenario(policy, model)).sections[4].commands)[0]


def spans(policy: Policy, kind: str, **workload: Any) -> list[Span]:
    """Of the first rank."""
    made = scenario(policy, **workload)
    made = replace(made, simulation=replace(made.simulation, steady_state=False, block_period=False))
    found = simulate(made, build(made)).spans
    return [span for span in found if span.rank == 0 and span.kind == kind and "engine" not in span.track]


def met(collectives: Sequence[Span], copies: Sequence[Span]) -> list[int]:
    """How many copies were under way during each collective."""
    return [sum(c.start < one.end and one.start < c.end for c in copies) for one in collectives]


@pytest.mark.parametrize(
    "options",
    [
        dict(zip(("gate", "launched_ahead", "resident_fraction"), values, strict=True))
        for values in product(("collective", "none"), (False, True), (0.0, 0.5, 1.0))
    ],
    ids=str,
)
def test_no_timing_lets_a_kernel_read_a_chunk_before_it_is_there_or_a_copy_overwrite_one_in_use(options):
    for chunk, work in product((30e3, 1e9), ({"gpus": 2}, {"gpus": 2, "cfg": "sequential"}, {"gpus": 1})):
        assert problems(tiny_program(ChunkFlow(chunk=chunk, **options), **work)) == []


@pytest.mark.parametrize("model", [WAN, HUNYUAN, FLUX])
def test_a_step_moves_the_bytes_that_layerwise_moves(model):
    layerwise = copied(SGLangLayerwise(version="v2"), model)
    assert copied(ChunkFlow(), model) == pytest.approx(layerwise)
    assert copied(ChunkFlow(launched_ahead=True), model) == pytest.approx(layerwise)
    assert copied(ChunkFlow(chunk=64e6, gate="none"), model) == pytest.approx(layerwise)


def test_of_21_chunks_13_stay_at_sixty_percent_and_the_rest_is_moved():
    assert copied(ChunkFlow(resident_fraction=0.6)) == pytest.approx(30 * (BLOCK - 13 * 16e6))


def test_where_all_chunks_stay_nothing_is_moved_and_a_step_takes_as_long_as_resident():
    whole, resident = (predict(scenario(policy)) for policy in (ChunkFlow(resident_fraction=1.0), Resident()))
    assert copied(ChunkFlow(resident_fraction=1.0)) == 0
    assert whole.steady == pytest.approx(resident.steady, rel=2e-3)


def test_no_chunk_starts_during_a_collective_so_that_each_meets_one_at_most():
    copies, exchanges = spans(ChunkFlow(), "H2D"), spans(ChunkFlow(), "collective")
    assert len(exchanges) == 3 * 30 * 4
    assert not [c for c in copies for one in exchanges if one.start < c.start < one.end - 1e-9]
    assert max(met(exchanges, copies)) == 1


def test_nor_does_one_where_short_collectives_of_cross_attention_stand_between():
    """But at a step's begin: the host is not ahead then, and issues the second chunk when the window has passed."""
    copies, exchanges = (spans(ChunkFlow(), kind, all_to_all_calls=8) for kind in ("H2D", "collective"))
    assert len(exchanges) == 3 * 30 * 8
    begun = [one for c in copies for one in exchanges if one.start < c.start < one.end - 1e-9]
    assert len(begun) <= 3


def test_without_a_gate_collectives_meet_many_chunks():
    policy = ChunkFlow(gate="none")
    assert max(met(spans(policy, "collective"), spans(policy, "H2D"))) > 5


def test_a_chunk_waits_for_the_collective_that_it_found_under_way():
    """Launched ahead, the host is through with a block's collectives before the first has begun."""
    copies, exchanges = (spans(ChunkFlow(launched_ahead=True), kind) for kind in ("H2D", "collective"))
    last_end = exchanges[3].end
    within = [c for c in copies if exchanges[0].start < c.start < last_end]
    after = [c for c in copies if last_end <= c.start < exchanges[4].start]
    assert len(after) > len(within)


def test_two_blocks_of_chunk_buffers_are_on_the_device_and_residents_beside_them():
    """21 chunks of 16 MB a block; at 60 % there are 13 of each block, and 8 come."""
    peak = {r: predict(scenario(ChunkFlow(resident_fraction=r, **EVERYWHERE))).peak_allocated for r in (0.0, 0.6)}
    assert peak[0.6] - peak[0.0] == pytest.approx(16e6 * (30 * 13 + 2 * 8 - 2 * 21))


def test_chunks_that_cost_the_host_time_slow_a_step_where_they_are_small():
    times = {
        (chunk, cost): predict(scenario(ChunkFlow(chunk=chunk, chunk_cost=cost), tokens=9680)).steady
        for chunk, cost in product((4e6, 64e6), (0.0, 1e-4))
    }
    small, large = (times[chunk, 1e-4] / times[chunk, 0.0] for chunk in (4e6, 64e6))
    assert small > 1.2 and large < 1.05


def test_a_last_chunk_of_a_window_may_run_into_the_collective_and_the_rest_follows_the_last_one():
    windows = [GateWindow(0, 0, 1.0), GateWindow(2, 1.0, 0.01), GateWindow(4, 1.0, 0.0), GateWindow(5, 1.0, 2.5)]
    assert as_they_fit(2, windows, 0.6) == [0, 0]
    assert as_they_fit(6, windows, 0.6) == [0, 0, 2, 5, 5, 5]


def test_a_chunk_may_outlast_a_short_collective_and_take_of_the_window_after_it():
    """Two chunks to 1.2 s; the collective ends at 1.1, the window at 1.15: nothing starts there."""
    windows = [GateWindow(0, 0, 1.0), GateWindow(2, 0.1, 0.05), GateWindow(4, 1.0, 1.0)]
    assert as_they_fit(3, windows, 0.6) == [0, 0, 4]


def test_a_worker_issues_beside_the_thread_that_launches_kernels():
    """Commands are through after 1, 2 and 6 ms; a chunk is issued every 2 ms."""
    assert at_host_pace(5, [1.0, 2.0, 6.0], 2.0) == [0, 2, 2, 3, 3]


def test_copies_get_their_share_of_the_uplink():
    assert copy_rate(scenario(ChunkFlow())) == pytest.approx(55.2e9 / 2)
    assert copy_rate(scenario(ChunkFlow(), gpus=4)) == pytest.approx(55.2e9 / 4)
    assert copy_rate(replace(scenario(ChunkFlow()), node=load_node("h100-pcie"))) == 55.2e9


def test_kernels_of_a_slower_scenario_take_longer():
    program = build(scenario(ChunkFlow()))
    kernels = next(c.kernels for c in program.sections[2].commands if "ffn" in getattr(c, "name", ""))
    whole, half = (kernel_seconds(scenario(ChunkFlow(), compute_efficiency=e), kernels) for e in (1.0, 0.5))
    assert half == 2 * whole > 0


def test_a_block_of_thousands_of_chunks_is_refused():
    with pytest.raises(RefusedScenario, match="at most 1,000"):
        scenario(ChunkFlow(chunk=1e5))


def test_a_chain_of_one_block_has_nobody_to_bring_it_ahead():
    made = replace(scenario(Resident()), model=tiny_model(1, 1), policy=ChunkFlow(chunk=30e3))
    program = build(made)
    assert problems(program) == []
    assert traffic(program.sections[3].commands)[0] == 2 * made.model.block_parameters
