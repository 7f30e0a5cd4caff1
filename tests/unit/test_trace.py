"""The Chrome trace: well-formed, complete, and the same whether repeated steps were simulated or skipped."""

import json
from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from offsim.program.commands import Copy
from offsim.program.load import load_scenario
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.results.predict import Prediction, predict
from offsim.results.trace import chrome_trace, write_trace
from offsim.scenario.faults import ScenarioError
from offsim.scenario.scenario import Scenario, Simulation
from tests.golden.tiny import tiny_scenario

POLICIES = [
    SGLangLayerwise(version="v0"),
    SGLangLayerwise(version="v1", prefetch=0.99),
    SGLangLayerwise(version="v2", pinned=False),
    FullModel(),
    FSDP(),
]


def simulated(scenario: Scenario, **switches: bool) -> Prediction:
    return predict(msgspec.structs.replace(scenario, simulation=Simulation(**switches)))


@pytest.fixture(params=POLICIES, ids=lambda policy: f"{type(policy).__name__}-{getattr(policy, 'version', '')}")
def prediction(request):
    return predict(tiny_scenario(request.param, gpus=2, steps=12))


def of_phase(trace, *phases):
    return [event for event in trace["traceEvents"] if event["ph"] in phases]


def end(event):
    return event["ts"] + event["dur"]


def tracks(trace):
    found = {}
    for event in of_phase(trace, "X"):
        found.setdefault((event["pid"], event["tid"]), []).append(event)
    return found


def track_names(trace):
    named = [event for event in of_phase(trace, "M") if event["name"] == "thread_name"]
    return {(event["pid"], event["tid"]): event["args"]["name"] for event in named}


def test_file_is_the_trace_as_json(prediction, tmp_path):
    write_trace(prediction, tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text()) == chrome_trace(prediction)


def test_times_ascend(prediction):
    instants = [event["ts"] for event in of_phase(chrome_trace(prediction), "X", "C", "s", "f")]
    assert instants == sorted(instants)
    assert instants[0] >= 0


def test_slices_of_one_track_do_not_overlap(prediction):
    for slices in tracks(chrome_trace(prediction)).values():
        for one, following in pairwise(slices):
            assert one["dur"] >= 0
            assert end(one) <= following["ts"] + 0.002, (one, following)


def test_every_track_has_a_name(prediction):
    trace = chrome_trace(prediction)
    assert set(tracks(trace)) <= set(track_names(trace))


def test_every_arrow_leads_from_a_copy_or_collective_to_the_start_of_a_later_slice(prediction):
    trace = chrome_trace(prediction)
    starts = {event["id"]: event for event in of_phase(trace, "s")}
    ends = {event["id"]: event for event in of_phase(trace, "f")}
    slices = tracks(trace)
    assert set(starts) == set(ends)
    for number, start in starts.items():
        finish = ends[number]
        source = [e for e in slices[start["pid"], start["tid"]] if e["ts"] <= start["ts"] <= end(e)]
        assert {event["cat"] for event in source} <= {"H2D", "D2H", "collective"} and source
        assert finish["ts"] >= end(source[-1]) - 0.002
        assert finish["ts"] in [event["ts"] for event in slices[finish["pid"], finish["tid"]]]


def test_a_compute_stream_starved_by_copies_has_an_arrow_for_every_wait():
    scenario = load_scenario("flux.1-dev-rtx4090-layerwise")
    short = msgspec.structs.replace(scenario.workload, steps=2)
    trace = chrome_trace(predict(msgspec.structs.replace(scenario, workload=short)))
    (compute,) = [track for track, name in track_names(trace).items() if name == "stream compute"]
    waits = [event for event in tracks(trace)[compute] if event["cat"] == "wait"]
    assert len(waits) >= scenario.model.block_count
    assert len(of_phase(trace, "s")) == len(waits)


def test_all_sections_appear_in_order_at_their_real_length(prediction):
    trace = chrome_trace(prediction)
    (steps,) = [
        slices for track, slices in tracks(trace).items() if track_names(trace)[track] == "steps" and track[0] == 0
    ]
    assert [event["name"] for event in steps] == [section.name for section in prediction.program.sections]
    durations = [event["dur"] / 1e6 for event in steps if event["name"].startswith("step")]
    assert durations == pytest.approx([step.duration for step in prediction.steps], abs=1e-8)


def test_engines_copy_every_byte_of_the_program_once(prediction):
    trace = chrome_trace(prediction)
    names = track_names(trace)
    moved = Counter()
    for track, slices in tracks(trace).items():
        if names[track].endswith("engine"):
            moved[names[track][:3]] += sum(event["args"]["bytes"] for event in slices)
    wanted = Counter()
    for command in prediction.program.commands():
        if isinstance(command, Copy):
            wanted[command.direction] += command.bytes
    simulated_ranks = len(prediction.timeline.represented)
    assert moved == {direction: bytes_ * simulated_ranks for direction, bytes_ in wanted.items()}


def test_engine_rates_stay_within_the_link_and_end_at_zero(prediction):
    counters = [event for event in of_phase(chrome_trace(prediction), "C") if "engine" in event["name"]]
    link = max(prediction.scenario.node.wiring.pcie.h2d.value, prediction.scenario.node.wiring.pcie.d2h.value) / 1e9
    assert all(0 <= event["args"]["value"] <= link + 0.001 for event in counters)
    assert not counters or counters[-1]["args"]["value"] == 0


def test_highest_memory_counter_is_the_predicted_peak(prediction):
    levels = [e["args"]["value"] for e in of_phase(chrome_trace(prediction), "C") if "allocated" in e["name"]]
    assert max(levels) == pytest.approx(prediction.peak_allocated / 2**30, abs=1e-4)


@pytest.mark.parametrize(
    "policy", [SGLangLayerwise(version="v0"), SGLangLayerwise(version="v2"), FullModel()], ids=repr
)
def test_skipped_steps_are_written_as_if_they_had_been_simulated(policy):
    scenario = tiny_scenario(policy, gpus=2, steps=12)
    skipping, stepping = simulated(scenario), simulated(scenario, steady_state=False, block_period=False)
    assert skipping.timeline.repeats and not stepping.timeline.repeats
    short, long = (Counter(map(rough, of_phase(chrome_trace(p), "X"))) for p in (skipping, stepping))
    assert short == long


def rough(event):
    """A slice without what rounding touches."""
    return (event["name"], event["cat"], event["tid"])


def test_each_simulated_rank_is_a_process_that_says_how_many_it_stands_for():
    scenario = tiny_scenario(SGLangLayerwise(), gpus=4)
    folded, full = simulated(scenario), simulated(scenario, fold=False)

    def processes(prediction):
        return [e["args"]["name"] for e in of_phase(chrome_trace(prediction), "M") if e["name"] == "process_name"]

    assert processes(folded) == ["rank 0 (stands for 4 equal ranks)"]
    assert processes(full) == ["rank 0", "rank 1", "rank 2", "rank 3"]


def test_a_trace_of_too_many_commands_is_refused_unwritten(tmp_path, monkeypatch):
    prediction = predict(tiny_scenario(SGLangLayerwise(), steps=3))
    monkeypatch.setattr("offsim.results.trace.MOST_COMMANDS", 10)
    with pytest.raises(ScenarioError, match=r"a trace has at most 10: ask for fewer workload.steps"):
        write_trace(prediction, tmp_path / "trace.json")
    assert not list(tmp_path.iterdir())
