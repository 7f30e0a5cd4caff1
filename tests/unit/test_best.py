"""`offsim best`: what is searched, what is said of it, and what of wrong input."""

import ast
import os
import re
import subprocess
import tomllib
from io import StringIO
from unittest.mock import patch

import pytest
from msgspec.structs import replace
from rich.console import Console

from calibration.validate.diffusers_records import read_forwards
from calibration.validate.intervals import as_toml, by_kind, differences
from calibration.validate.records import read_records
from offsim import cli
from offsim.program.load import load_scenario
from offsim.program.offloading.page import Page
from offsim.program.pages import launch_lines
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.ways import ways
from offsim.results.errors import error_of, kind_of, total_with_error
from offsim.results.layout import render
from offsim.results.predict import predict
from offsim.scenario.load import load_node
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario
from offsim.sweep.best import space
from offsim.sweep.best.answer import best_report, choices_of, sentences
from offsim.sweep.best.plain import best_document
from offsim.sweep.best.run import Answer, best_of, find_best, worth_showing
from offsim.sweep.best.space import RUNGS, Candidate, of_policy, of_way, with_vram
from tests.golden.tiny import tiny_model, tiny_scenario

GIB = 2.0**30


def tiny(blocks: int = 4, **workload) -> Scenario:
    """One GPU with guidance, unless `workload` says otherwise."""
    scenario = tiny_scenario(SGLangLayerwise(), **({"cfg": "sequential"} | workload))
    return replace(scenario, model=tiny_model(blocks), node=load_node("rtx4090-x8"))


def words_of(answer: Answer) -> str:
    """The report, wide enough that words of one cell stand together."""
    with patch.dict(os.environ, {"COLUMNS": "160"}):
        return " ".join(render(*best_report(answer)).split())


# What is searched


def test_a_policy_that_says_nothing_is_searched_as_it_is_by_default_and_was_never_compared():
    page = Page[FSDP]()
    page.parameters = FSDP
    assert list(page.candidates(tiny())) == [(FSDP(),)]
    assert list(page.launch_lines(tiny(), FSDP())) == []
    assert page.replayed_as is None


def test_without_guidance_and_with_one_gpu_there_is_one_way():
    assert [way.change for way in ways(tiny(cfg="none"))] == [""]


def test_two_forwards_run_in_turn_as_a_batch_or_split_over_ranks():
    assert [way.change for way in ways(tiny())] == ["", "cfg batched"]
    assert [way.change for way in ways(tiny(gpus=2))] == [
        "",
        "on 1 of 2 GPUs",
        "cfg batched",
        "cfg split, sequence parallel 1",
    ]


def test_ranks_that_the_heads_do_not_divide_by_are_left_idle():
    """Four heads: three ranks refuse, two don't."""
    (way,) = ways(tiny_refused(3))
    assert way.scenario.workload.gpus == way.scenario.ulysses == 2
    assert way.change == "on 2 of 3 GPUs, 512 tokens after padding"


def tiny_refused(gpus: int) -> Scenario:
    scenario = tiny(cfg="none")
    return replace(scenario, workload=replace(scenario.workload, gpus=gpus))


def test_padding_that_differs_is_said():
    scenario = load_scenario("wan2.2-4xh100-pcie-layerwise")
    split = next(way for way in ways(scenario) if way.change.startswith("cfg split, sequence parallel 2"))
    # 21 latent frames of 3,600 tokens: 24 of them on four ranks, 22 on two.
    assert split.change.endswith("79,200 tokens after padding") and split.scenario.tokens == 22 * 3600


def residents(limit: float, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """(resident layers, fits) of one ladder of 39, on so much memory beyond none resident."""
    ladder = tuple(SGLangLayerwise(version="v3", resident_layers=count) for count in range(1, 40))
    monkeypatch.setattr(space, "ladders", lambda _: iter([ladder]))
    scenario = tiny(40)
    base = of_policy(scenario, "", SGLangLayerwise(version="v3"))[0].memory
    scenario = with_vram(scenario, base + limit + scenario.node.gpu.context.value)
    found = [c for c in of_way(scenario, "") if isinstance(c.scenario.policy, SGLangLayerwise)]
    return [(int(getattr(c.scenario.policy, "resident_layers", 0)), not c.lacks) for c in found]


def test_of_a_ladder_some_rungs_are_tried_and_always_the_last_that_fits(monkeypatch):
    block = 67_136 * 2 + 512
    found = residents(24 * block, monkeypatch)
    fitting = [count for count, fits in found if fits]
    assert RUNGS // 2 <= len(fitting) <= RUNGS + 1
    everything = residents_one_by_one(24 * block)
    assert fitting[0] == 1 and max(fitting) == max(everything) and 1 < max(fitting) < 39


def residents_one_by_one(limit: float) -> list[int]:
    scenario = tiny(40)
    base = of_policy(scenario, "", SGLangLayerwise(version="v3"))[0].memory
    scenario = with_vram(scenario, base + limit + scenario.node.gpu.context.value)
    policies = {count: SGLangLayerwise(version="v3", resident_layers=count) for count in range(1, 40)}
    return [count for count, policy in policies.items() if not of_policy(scenario, "", policy)[0].lacks]


def test_where_everything_fits_the_whole_ladder_is_spanned(monkeypatch):
    counts = [count for count, _ in residents(1e9, monkeypatch)]
    assert counts[0] == 1 and counts[-1] == 39 and len(counts) == RUNGS


# Recipes


def asked(policy: Policy, model: str = "wan2.2-4xh100-pcie-layerwise", **workload) -> list[str]:
    scenario = load_scenario(model)
    scenario = replace(scenario, policy=policy, workload=replace(scenario.workload, **workload))
    return [recipe.text for recipe in launch_lines(scenario)]


def test_layerwise_is_asked_for_with_its_flags():
    policy = SGLangLayerwise(version="v3", prefetch=2, resident_layers=5, residency="strided")
    (text,) = asked(policy, cfg="split", sequence_parallel=2)
    assert text == (
        "--num-gpus 4 --ulysses-degree 2 --enable-cfg-parallel --dit-layerwise-offload true "
        "--dit-offload-prefetch-size 2 --dit-layerwise-resident-layers 5 --dit-layerwise-residency-policy strided "
        "--text-encoder-cpu-offload true --vae-cpu-offload true"
    )


@pytest.mark.parametrize(
    ("policy", "workload"),
    [
        (SGLangLayerwise(), {"cfg": "batched"}),
        (SGLangLayerwise(hook_synchronize=True), {}),
        (SGLangLayerwise(pinned=False), {}),
        (FSDP(prefetch=2), {}),
    ],
)
def test_what_no_system_does_has_no_recipe(policy, workload):
    assert asked(policy, **workload) == []


def test_on_one_gpu_diffusers_keeps_everything_resident():
    assert 'pipe.to("cuda")' in asked(Resident(), "flux.1-dev-rtx4090-layerwise")
    assert 'pipe.to("cuda")' not in asked(Resident(), gpus=2)


def test_group_offload_is_asked_for_with_its_code():
    (text,) = asked(DiffusersGroup(stream=True, record_stream=True), "flux.1-dev-rtx4090-layerwise")
    assert text == (
        'pipe.transformer.enable_group_offload(onload_device=torch.device("cuda"), offload_type="block_level", '
        "num_blocks_per_group=1, use_stream=True, record_stream=True)"
    )


# What is said


@pytest.fixture(scope="module")
def flux() -> Answer:
    return best_of(load_scenario("flux.1-dev-rtx4090-layerwise"))


def test_the_answer_is_faster_than_what_was_asked_and_fits(flux):
    first, prediction = flux.best[0]
    assert flux.asked is not None and prediction.total < flux.asked.total
    assert prediction.out_of_memory is None and first.memory == prediction.peak_allocated
    assert flux.considered == flux.lacking + flux.pruned + flux.timed and flux.pruned > flux.timed


def test_along_the_front_more_memory_buys_time(flux):
    memory, times = [c.memory for c, _ in flux.front], [time for _, time in flux.front]
    assert memory == sorted(memory) and times == sorted(times, reverse=True) and len(times) > 3
    assert min(times) == pytest.approx(flux.best[0][1].total, rel=0.005)
    assert not any(candidate.rounding for candidate, _ in flux.front)


def test_what_rounds_is_marked_and_never_first_where_the_same_model_is_as_fast(flux):
    rounding = [candidate.rounding for candidate, _ in flux.best]
    assert rounding[0] == "" and "rounds weights to int8" in rounding
    assert "(rounds weights to int8)" in words_of(flux) and "are not the same model" in words_of(flux)


def test_of_equals_the_same_model_comes_first_then_what_is_offered_then_the_least_memory():
    scenario = load_scenario("flux.1-dev-rtx4090-layerwise")
    (offered,) = of_policy(scenario, "", SGLangLayerwise(version="v3"))
    (new,) = of_policy(scenario, "", ScheduledLayerwise())
    (rounded,) = of_policy(scenario, "", ScheduledLayerwise(transfer_dtype="int8"))
    offered, new, rounded = offered._replace(memory=3.0), new._replace(memory=2.0), rounded._replace(memory=1.0)
    assert worth_showing([(1.004, offered), (1.0, rounded), (1.003, new)]) == [offered, new, rounded]
    assert worth_showing([(1.1, offered), (1.0, new)]) == [new, offered]
    assert worth_showing([(1.0, offered), (1.1, new._replace(memory=3.0))]) == [offered]
    assert worth_showing([(1.0, new), (1.2, new._replace(memory=2.5))]) == [new]
    assert worth_showing([(1.0, offered), (1.2, offered._replace(memory=3.5))]) == [
        offered,
        offered._replace(memory=3.5),
    ]


def test_the_report_says_what_binds_what_was_pruned_and_what_to_paste(flux):
    said = words_of(flux)
    for part in ("cannot win by their lower bounds", "compute 100%", "--dit-layerwise-resident-layers 11"):
        assert part in said
    assert "values behind this were not measured on rtx4090-x8" in said
    assert "VAE activations" not in said, "those of an image are known"


@pytest.mark.parametrize("width", [40, 60, 100])
def test_a_shell_and_python_take_what_is_to_be_pasted_as_it_stands(flux, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    printed = render(*best_report(flux)).partition("To paste\n")[2].partition("\n\n")[0]
    pasted = [block for block in map(str.strip, re.split("^# .*$", printed, flags=re.MULTILINE)) if block]
    offered = [line.text for candidate, _ in flux.best for line in candidate.launch_lines]
    longest = max(len(word) for text in offered for word in text.split())
    assert len(offered) > 2 and max(map(len, printed.splitlines())) <= max(width, longest + len("   \\"))
    for text, shown in zip(offered, pasted, strict=True):
        if text.startswith("-"):
            words = subprocess.run(
                ["sh", "-c", f"printf '%s\\n' -- {shown}"], capture_output=True, text=True, check=True
            )
            assert words.stdout.split("\n")[1:-1] == text.split()
        else:
            assert ast.dump(ast.parse(shown)) == ast.dump(ast.parse(text))


def answer_of(scenario: Scenario, *policies: Policy) -> Answer:
    """An answer whose best are these, in this order."""
    candidates = [found for policy in policies for found in of_policy(scenario, "", policy)]
    best: list[tuple[Candidate, object]] = [(found, predict(found.scenario)) for found in candidates]
    return Answer(scenario, predict(scenario), "", best, [], len(best), 0, len(best))  # type: ignore[arg-type]


def test_what_differs_by_less_than_the_interval_is_not_told_apart():
    scenario = load_scenario("wan2.2-4xh100-pcie-layerwise")
    answer = answer_of(scenario, Resident(), SGLangLayerwise(version="v3"))
    choices = choices_of(answer)
    assert 0 < choices[1].prediction.total / choices[0].prediction.total - 1 < error_of("several GPUs over PCIe")
    said = list(sentences(answer, choices))
    assert said[0] == (
        "Which of 1, 2 is the fastest cannot be said: their times differ by at most 0.3 %, and predictions may be off "
        "by more. Of these, 2 takes the least GPU memory."
    )
    assert said[1] == "1 takes 0.3 % less time than what was asked, which is within the prediction intervals."


def test_what_differs_by_more_is(flux):
    scenario = load_scenario("flux.1-dev-rtx4090-layerwise")
    answer = answer_of(scenario, Resident(), SGLangLayerwise())
    said = list(sentences(answer, choices_of(answer)))
    assert said == [
        "1 is the fastest: the next takes 67.9 % longer, which is more than predictions may be off.",
        "1 takes 40.5 % less time than what was asked.",
    ]


@pytest.mark.parametrize(
    ("name", "policy", "kind"),
    [
        ("flux.1-dev-rtx4090-layerwise", SGLangLayerwise(), "one GPU"),
        ("wan2.2-4xh100-pcie-layerwise", SGLangLayerwise(), "several GPUs over PCIe"),
        ("wan2.2-8xh100-nvlink-layerwise", FullModel(version="pinned"), "several GPUs over NVLink"),
        ("wan2.2-8xh100-nvlink-layerwise", FullModel(version="pageable"), "pageable copies"),
    ],
)
def test_an_interval_is_as_wide_as_errors_of_such_runs_were(name, policy, kind):
    prediction = predict(replace(load_scenario(name), policy=policy))
    assert kind_of(prediction.scenario, prediction.program) == kind
    low, high = total_with_error(prediction)
    assert low == pytest.approx(prediction.total_interval[0] * (1 - error_of(kind)))
    assert high == pytest.approx(prediction.total_interval[1] * (1 + error_of(kind)))


def test_errors_are_taken_by_kind_and_compared_with_those_that_are_kept():
    records = read_records()[0]
    pageable = [record for record in records if not getattr(record.case.policy, "pinned", True)][:2]
    pinned = [record for record in records if record.case.kind == "x1" and record not in pageable][:1]
    found = by_kind([*pageable, *pinned])
    assert {kind: one.n for kind, one in found.items()} == {"pageable copies": 2, "one GPU": 1}
    kept = tomllib.loads(as_toml(found))
    assert differences(found, kept) == []
    kept["one GPU"]["p95"] += 0.01
    assert len(differences(found, kept)) == 1 and differences(found, {}) != []


def test_streamed_forwards_of_the_library_have_errors_of_their_own_and_pageable_ones_do_not():
    modes = {"leaf-stream": "diffusers library", "block-stream": "pageable copies"}
    for mode, kind in modes.items():
        record = next(record for record in read_forwards()[0] if record.mode == mode)
        found = by_kind([], [record])
        assert list(found) == [kind] and abs(found[kind].worst) == found[kind].p95


def test_json_has_what_the_tables_have(flux):
    found = best_document(flux)
    assert (found["candidates"], found["simulated"]) == (flux.considered, flux.timed)
    assert [choice["policy"] for choice in found["best"]] == [candidate.policy for candidate, _ in flux.best]
    assert any(choice["launch_lines"] for choice in found["best"])
    first = found["best"][0]
    assert first["total_with_error_low_s"] < first["total_s"] < first["total_with_error_high_s"]
    assert len(found["front"]) == len(flux.front)


def test_a_refused_layout_is_answered_with_one_that_runs():
    answer = best_of(tiny_refused(3))
    assert answer.asked is None and answer.refused.startswith("workload.sequence_parallel=3: 4 heads")
    assert answer.best[0][0].scenario.workload.gpus in (1, 2)
    assert "refused: workload.sequence_parallel=3" in words_of(answer)
    assert best_document(answer)["asked"]["refused"] == answer.refused


def test_less_memory_than_any_takes_is_said():
    scenario = tiny()
    answer = best_of(with_vram(scenario, scenario.node.gpu.context.value + 1))
    assert answer.best == [] and answer.lacking == answer.considered
    assert "None of them fits; what was asked lacks 0." in words_of(answer)
    assert best_document(answer)["best"] == []


def test_the_least_memory_that_is_named_is_enough_and_less_is_not():
    scenario = tiny()
    context = scenario.node.gpu.context.value
    least = best_of(with_vram(scenario, context + 1)).least
    assert best_of(with_vram(scenario, context + least)).best
    assert not best_of(with_vram(scenario, context + 0.99 * least)).best


@pytest.mark.parametrize(
    ("vram", "said"),
    [(0.5, "--vram=0.5: expected GiB"), (-1.0, "--vram=-1.0: "), (float("nan"), "--vram=nan: "), (1e6, "=1000000.0: ")],
)
def test_memory_that_no_gpu_has_is_one_sentence(vram, said, capsys):
    assert cli.dispatch(["best", "flux.1-dev-rtx4090-layerwise", f"--vram={vram}"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_less_memory_makes_the_answer_slower_or_as_fast():
    times = []
    for vram in (4, 8, 16, 48):
        answer = find_best("flux.1-dev-rtx4090-layerwise", vram, quiet=True)
        assert all(candidate.memory <= vram * GIB for candidate, _ in answer.best)
        times.append(answer.front[-1][1])
    assert times == sorted(times, reverse=True) and times[0] > 1.3 * times[-1]


def test_progress_shows_how_many_are_settled():
    file = StringIO()
    best_of(tiny(), quiet=False, console=Console(file=file, force_terminal=True, width=100))
    assert "timing or pruning" in file.getvalue() and "candidates/s" in file.getvalue()
