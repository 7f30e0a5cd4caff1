"""Schedules that no system offers: bytes by formula, what gating forbids, what priority and streams don't change."""

from typing import Any

import pytest
from msgspec.structs import replace

from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.commands import Collective, Compute, Kernel
from offsim.program.load import check_scenario
from offsim.program.passages import Template
from offsim.program.spans import Span
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import Placing, ScheduledLayerwise
from offsim.program.systems.scheduled_layerwise.places import collectives, place_of, shares, windows
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.timeline import Timeline
from offsim.results.predict import Prediction, predict
from offsim.results.steps import traffic
from offsim.scenario.load import load_model, load_node
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import RefusedScenario, Scenario, Simulation
from offsim.scenario.workload import Workload

BLOCK = 702_788_608
"""Bytes of a Wan-14B block."""


def wan(policy: Policy, gpus: int = 2, node: str = "h200-x2-host-memory", **workload: Any) -> Scenario:
    """Wan2.2 with both experts and six steps, three each."""
    work = Workload(**({"gpus": gpus, "tokens": 24_000, "steps": 6, "cfg": "none", "flow_shift": 7.0} | workload))
    scenario = Scenario(load_model("wan2.2-t2v-a14b"), work, load_node(node), policy)
    check_scenario(scenario)
    return scenario


def steady(policy: Policy, **workload: Any) -> Prediction:
    return predict(wan(policy, **workload))


def moved(policy: Policy, **workload: Any) -> tuple[float, float]:
    """H2D and gathered bytes of a rank in a steady step of one forward."""
    commands = build(wan(policy, **workload)).sections[4].commands
    gathers = sum(c.bytes for c in commands if isinstance(c, Collective) and c.kind == "all-gather")
    return traffic(commands)[0], gathers


def test_without_options_it_takes_as_long_as_sglangs_v2():
    ours, theirs = steady(ScheduledLayerwise()), steady(SGLangLayerwise(version="v2"))
    assert ours.steady == pytest.approx(theirs.steady, rel=1e-4)
    assert (ours.peak_allocated, ours.pinned_per_rank) == (theirs.peak_allocated, theirs.pinned_per_rank)


@pytest.mark.parametrize(
    ("options", "h2d", "gathered"),
    [
        ({}, 40, 0),
        ({"chunks": 8, "placement": "gated"}, 40, 0),
        ({"chunks": 4, "copy_streams": 3}, 40, 0),
        ({"resident_layers": 30}, 10, 0),
        ({"transfer_dtype": "int8"}, 20, 0),
        ({"transfer_dtype": "fp8"}, 20, 0),
        ({"transfer_dtype": "int4"}, 10, 0),
        ({"sharded": True}, 20, 20),
        ({"sharded": True, "chunks": 8}, 20, 20),
        ({"sharded": True, "gather": "compute-stream"}, 20, 20),
        ({"sharded": True, "transfer_dtype": "int8", "resident_layers": 20}, 5, 5),
    ],
)
def test_a_forward_moves_what_the_formula_says(options, h2d, gathered):
    assert moved(ScheduledLayerwise(**options)) == pytest.approx((h2d * BLOCK, gathered * BLOCK))


def test_of_four_ranks_each_copies_a_quarter_and_sends_three():
    found = moved(ScheduledLayerwise(sharded=True), gpus=4, node="h100-pcie")
    assert found == pytest.approx((10 * BLOCK, 30 * BLOCK))


def test_a_gathering_on_the_compute_stream_is_exposed_whole():
    """40 blocks a step, 527 MB of each from three others at 25.2 GB/s: 40 x 20.9 ms."""
    late = ScheduledLayerwise(sharded=True, gather="compute-stream")
    issued = build(wan(late, gpus=4, node="h100-pcie")).commands()
    assert {command.stream for command in issued if isinstance(command, Collective)} == {"compute"}
    alone, gathered = (steady(policy, gpus=4, node="h100-pcie").steady for policy in (Resident(), late))
    assert gathered - alone == pytest.approx(40 * 0.75 * BLOCK / 25.2e9, rel=0.03)


def test_the_last_kernels_of_a_block_are_its_feed_forward():
    issued = build(wan(ScheduledLayerwise(placement="last-kernels"))).commands()
    copied = next(i for i, command in enumerate(issued) if getattr(command, "name", "") == "transformer.blocks.2")
    assert next(command.name for command in issued[copied:] if isinstance(command, Compute)) == "blocks.1 ffn"


def test_weights_that_kernels_read_as_they_come_are_moved_so():
    assert moved(ScheduledLayerwise(), weight_dtype="int4") == pytest.approx((10 * BLOCK, 0))


def test_copy_engines_ignore_the_priority_of_streams():
    """Exactly equal: the programs are, but for how the streams are made, and copies are all that is on them."""
    normal, high = (ScheduledLayerwise(copy_priority=priority) for priority in ("normal", "high"))
    one, other = build(wan(normal)), build(wan(high))
    assert one.commands() == other.commands() and (one.high_priority, len(other.high_priority)) == ((), 2)
    on_them = {type(c).__name__ for c in other.commands() if getattr(c, "stream", "") in other.high_priority}
    assert on_them == {"Copy", "Record", "Wait"}
    assert [s.duration for s in steady(normal).steps] == [s.duration for s in steady(high).steps]


def test_a_second_copy_stream_adds_no_bandwidth():
    one, two = (steady(ScheduledLayerwise(chunks=8, copy_streams=n), tokens=6000).steady for n in (1, 2))
    assert two == pytest.approx(one, rel=0.01)


def spans(policy: Policy, **workload: Any) -> Timeline:
    """Every block of every step."""
    scenario = replace(wan(policy, **workload), simulation=Simulation(steady_state=False, block_period=False))
    return simulate(scenario, build(scenario))


def beside_collectives(timeline: Timeline) -> list[Span]:
    """Copies on the engine of rank 0 that run while an exchange of its does."""
    mine = [span for span in timeline.spans if span.rank == 0]
    calls = [s for s in mine if s.kind == "collective" and s.track == "compute"]
    copies = [s for s in mine if s.track == "H2D engine"]
    return [c for c in copies if any(c.start < s.end - 1e-9 and s.start < c.end - 1e-9 for s in calls)]


@pytest.mark.parametrize("tokens", [6000, 24_000])
@pytest.mark.parametrize("options", [{}, {"copy_streams": 2}, {"prefetch": 2}])
def test_gated_copies_never_run_beside_an_exchange(tokens, options):
    gated = ScheduledLayerwise(placement="gated", chunks=8, **options)
    assert beside_collectives(spans(gated, tokens=tokens)) == []
    assert beside_collectives(spans(ScheduledLayerwise(chunks=8, **options), tokens=tokens)) != []


def test_chunks_spread_over_long_windows_meet_no_exchange_either():
    assert beside_collectives(spans(ScheduledLayerwise(placement="spread", chunks=8), tokens=33_000)) == []


@pytest.mark.parametrize("placing", ["after-first-all-to-all", "after-attention", "after-all-to-alls"])
def test_a_late_copy_begins_when_the_place_in_its_block_is_reached(placing):
    timeline = spans(ScheduledLayerwise(placement=placing), tokens=33_000)
    mine = [span for span in timeline.spans if span.rank == 0]
    copy = next(s for s in mine if s.track == "H2D engine" and s.name == "transformer.blocks.3")
    done = [s for s in mine if s.track == "compute" and s.end <= copy.start + 1e-9]
    before = [span for span in done if span.kind in ("compute", "collective")]
    last = max(before, key=lambda span: span.end)
    expected = {"after-first-all-to-all": " q", "after-attention": "self-attention", "after-all-to-alls": " out"}
    assert last.name.startswith("blocks.2 ") and last.name.endswith(expected[placing])


@pytest.mark.parametrize("cfg", ["none", "sequential"])
def test_a_switch_costs_the_first_blocks_copy_only_where_it_is_fetched_then(cfg):
    held, prefetched, fetched = (
        steady(ScheduledLayerwise(across_switch=way), cfg=cfg) for way in ("held", "prefetched", "fetched")
    )
    copy = BLOCK / 55.2e9
    assert held.switch.duration == pytest.approx(held.steady, rel=1e-3)
    assert prefetched.switch.duration == pytest.approx(held.steady, rel=1e-3)
    assert fetched.switch.duration - fetched.steady == pytest.approx(copy, rel=0.1)
    assert held.peak_allocated - prefetched.peak_allocated == pytest.approx(BLOCK, rel=1e-3)


def denoising(prediction: Prediction) -> float:
    return max(peak.allocated for peak in prediction.phases if peak.phase in ("denoise", "switch"))


@pytest.mark.parametrize("resident", [10, 38, 39, 40])
def test_the_device_holds_the_residents_and_two_blocks_more(resident):
    none, some = (steady(ScheduledLayerwise(resident_layers=r, across_switch="fetched")) for r in (0, resident))
    assert denoising(some) - denoising(none) == pytest.approx(min(resident, 38) * BLOCK, rel=1e-6)


def test_packed_blocks_stand_beside_the_unpacked_one():
    """Before a block: its own two forms; in it: what it reads and the next one packed."""
    plain, packed = steady(ScheduledLayerwise()), steady(ScheduledLayerwise(transfer_dtype="int4"))
    assert denoising(plain) - denoising(packed) == pytest.approx(1.5 * BLOCK, rel=1e-3)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (ScheduledLayerwise(prefetch=41), "has 40 blocks"),
        (ScheduledLayerwise(resident_layers=41), "has 40 blocks"),
        (ScheduledLayerwise(transfer_dtype="int8"), "must be smaller than weight_dtype"),
    ],
)
def test_what_cannot_be_is_refused(policy, words):
    with pytest.raises(RefusedScenario, match=words):
        wan(policy, weight_dtype="fp8")


def test_one_rank_has_nothing_to_gather_from():
    with pytest.raises(RefusedScenario, match="more than one GPU"):
        wan(ScheduledLayerwise(sharded=True), gpus=1)


def template(*kinds: str) -> Template:
    """g: a product of 1 FLOP. a: attention of 6 FLOP. c: a collective."""
    kernels = {"g": Kernel("gemm", 1.0, 0.0, 1.0), "a": Kernel("attention", 6.0, 0.0, 1.0)}
    call = Collective("compute", "exchange", "all-to-all", 1.0)
    return Template(tuple(call if k == "c" else Compute("compute", k, (kernels[k],)) for k in kinds))


@pytest.mark.parametrize(
    ("kinds", "places"),
    [
        ("gcgcaccgg", (0, 2, 5, 7)),
        ("gagg", (0, 0, 2, 0)),
        ("a", (0, 0, 0, 0)),
        ("gca", (0, 2, 2, 2)),
    ],
)
def test_places_are_found_by_what_commands_are(kinds, places):
    names: tuple[Placing, ...] = ("block-start", "after-first-all-to-all", "after-attention", "after-all-to-alls")
    assert tuple(place_of(name, template(*kinds)) for name in names) == places


def test_chunks_go_where_the_flops_are():
    block = template(*"gcaccgg")
    assert collectives(block) == [1, 3, 4]
    assert [(w.place, w.flops) for w in windows(block)] == [(0, 1.0), (2, 6.0), (5, 2.0)]
    assert shares(9, windows(block)) == [0, 2, 2, 2, 2, 2, 2, 5, 5]
    assert shares(1, windows(block)) == [2]
    assert shares(3, windows(template(*"gg"))) == [0, 0, 0]


def test_over_the_last_steps_before_the_switch_the_next_expert_comes_in_the_background():
    """The switch costs nothing then, and one more expert of memory; all bytes are still moved once."""
    at_once, background = (steady(FullModel(version="pinned", background_steps=k)) for k in (0, 2))
    copy = 28_576_424_960 / 53.7e9  # both GPUs at once
    unlimited = predict(replace(wan(FullModel(version="pinned")), simulation=Simulation(clock=False)))
    assert unlimited.switch.duration - unlimited.steady == pytest.approx(copy, rel=0.02)
    # The chip idles meanwhile and may draw more than its limit for a moment after it: the step itself is 15 ms shorter.
    assert at_once.switch.duration - at_once.steady == pytest.approx(copy - 0.015, rel=0.02)
    assert background.switch.duration == pytest.approx(at_once.steady, rel=1e-3)
    assert sum(s.h2d_bytes for s in at_once.steps) == pytest.approx(sum(s.h2d_bytes for s in background.steps))
    assert background.total < at_once.total
    assert background.peak_allocated - at_once.peak_allocated == pytest.approx(28_576_424_960, rel=0.01)


def test_only_pinned_experts_come_in_the_background():
    with pytest.raises(RefusedScenario, match="needs version = 'pinned'"):
        wan(FullModel(version="pageable", background_steps=2))


def test_a_warmed_up_communicator_starts_while_the_model_is_loaded():
    cold, warm = (steady(SGLangLayerwise(), communicator_start=2.0, communicator_warm_up=w) for w in (False, True))
    assert cold.steps[0].duration - warm.steps[0].duration == pytest.approx(2.0)
    assert cold.steps[1].duration == pytest.approx(warm.steps[1].duration)


def exchanges(**workload: Any) -> tuple[list[tuple[int, ...]], int, float, float]:
    """Groups, all-to-alls and their bytes, and H2D bytes of a rank in a steady step on four GPUs of one uplink."""
    scenario = wan(
        SGLangLayerwise(), gpus=4, node="h100-pcie-uplink", cfg=workload.pop("cfg", "sequential"), **workload
    )
    commands = build(scenario).sections[4].commands
    calls = [c for c in commands if isinstance(c, Collective) and c.kind == "all-to-all"]
    return scenario.groups(), len(calls), sum(c.bytes for c in calls), traffic(commands)[0]


def test_cfg_split_runs_one_forward_a_rank_in_two_groups():
    """A call of two ranks sends S d / 2 each, of four 3 S d / 8: with half the calls, two thirds of the bytes."""
    groups, calls, sent, copied = exchanges()
    assert (groups, calls) == ([(0, 1, 2, 3)], 2 * 40 * 4)
    halves, fewer, less, half = exchanges(cfg="split")
    assert (halves, fewer) == ([(0, 1), (2, 3)], 40 * 4)
    assert less / sent == pytest.approx(2 / 3)
    assert half / copied == pytest.approx(1 / 2)


def test_a_smaller_ulysses_degree_runs_two_requests_at_once():
    """Each group does all of a step's forwards on half of the GPUs."""
    groups, calls, sent, copied = exchanges(sequence_parallel=2)
    assert (groups, calls) == ([(0, 1), (2, 3)], 2 * 40 * 4)
    assert sent == pytest.approx(2 * exchanges(cfg="split")[2])
    assert copied == exchanges()[3]
