"""`offsim validate` on measurements that the engine made itself."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from calibration.replays.cases import ReplayCase, load_cases
from calibration.validate.command import validate_command
from calibration.validate.errors import (
    all_errors,
    case_error,
    cases_read_beside,
    summary_of_cases,
    winners,
    with_host_read,
)
from calibration.validate.readings import (
    STEADY_STEP_RULES,
    Predicted,
    all_pairs,
    memory_rows,
    reading_error,
    steady_rows,
    table_of,
)
from calibration.validate.records import NODES, NODES_BEFORE_RULE, ReplayRecord, read_records
from calibration.validate.thresholds import judge
from offsim.results.layout import render
from offsim.results.predict import predict
from offsim.scenario.catalogue import path_of
from offsim.scenario.faults import ScenarioError

NAMES = ("x1-wan-14b-2000-layerwise-p1", "x1-wan-14b-8190-residents-4-leading", "x1-wan-14b-8190-layerwise-v0")


def line(case: ReplayCase, slower: float = 1.0, memory: float = 1.0) -> dict[str, object]:
    """What a replay would show if the policy were slower, and its peak larger, than the engine says."""
    own, resident = predict(case.scenario("h200-x1")), case.resident("h200-x1")
    steps = [slower * step.duration for step in own.steps]
    workload = structs.replace(resident.workload, steps=3 * len(steps))
    calm = [step.duration for step in predict(structs.replace(resident, workload=workload)).steps]
    return {
        "case": case.name,
        "scenario": msgspec.to_builtins(case),
        "policy_steps": [steps, steps],
        "resident_steps": [calm, calm],
        "peak_allocated": memory * own.peak_allocated,
    }


def write(root: Path, lines: list[dict[str, object]]) -> Path:
    """A node's folder with these replays."""
    folder = root / "h200-x1"
    folder.mkdir(parents=True)
    found = path_of("nodes", "h200-x1")
    assert found is not None
    (folder / "profile.toml").write_text(Path(found).read_text())
    (folder / "replays.jsonl").write_text("".join(json.dumps(item) + "\n" for item in lines))
    return root


@pytest.fixture(scope="module")
def cases() -> list[ReplayCase]:
    return [case for case in load_cases("x1") if case.name in NAMES]


def test_a_policy_that_ran_two_percent_slower_is_an_error_of_minus_two_percent(cases, tmp_path):
    root = write(tmp_path, [line(cases[0], slower=1.02), line(cases[1]), line(cases[2], memory=1.01)])
    errors = {e.name: e for e in all_errors(read_records(root)[0])}
    assert errors[cases[0].name].error == pytest.approx(1 / 1.02 - 1)
    assert errors[cases[0].name].first_steps == pytest.approx([1 / 1.02 - 1] * 4)
    assert errors[cases[1].name].error == pytest.approx(0.0, abs=1e-9)
    assert errors[cases[2].name].memory_error == pytest.approx(1 / 1.01 - 1)
    assert errors[cases[0].name].kind == "copy-bound"


def test_kept_thresholds_are_exit_code_0_and_broken_ones_1(cases, tmp_path, capsys):
    good = write(tmp_path / "good", [line(case) for case in cases])
    assert validate_command(json=False, root=good) == 0
    assert "thresholds kept" in capsys.readouterr().out
    bad = write(tmp_path / "bad", [line(case, slower=1.04) for case in cases])
    assert validate_command(json=False, root=bad) == 1
    assert "broken: one GPU: median |error| 3.85 %, at most 0.80 % allowed" in capsys.readouterr().out


def test_the_heads_of_columns_are_explained_below_the_tables(cases, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    validate_command(json=False, root=write(tmp_path, [line(case) for case in cases]))
    tables, _, rest = capsys.readouterr().out.partition("\nn: cases.")
    heads = re.split(r" {2,}", next(row for row in tables.splitlines() if row.startswith("class ")))
    assert {"p95", "<=1/3/5 %", "max", "alone", "equal", "noise"} <= set(heads)
    explained = " ".join(f"n: cases.{rest}".split())
    assert [head for head in heads if f"{head}:" not in explained and f"{head}," not in explained] == []
    assert "measured, predicted: the case's steady step" in explained


def thresholds(path: Path, *bounds: tuple[str, str, float]) -> Path:
    """A file of bounds: (group, statistic, limit)."""
    tables = (f'[[threshold]]\ngroup = "{group}"\nstatistic = "{s}"\nlimit = {limit}\n' for group, s, limit in bounds)
    path.write_text("".join(tables))
    return path


def test_a_threshold_without_data_is_neither_kept_nor_broken_and_says_so(cases, tmp_path, capsys):
    root = write(tmp_path / "nodes", [line(cases[0])])
    bounds = thresholds(
        tmp_path / "t.toml", ("all", "median", 0.01), ("contended", "median", 0.01), ("winners", "wrong", 0)
    )
    assert validate_command(json=False, root=root, thresholds=bounds) == 0
    out = capsys.readouterr().out
    assert "no data for a threshold: contended: median (nothing measured)\n" in out
    assert "no data for a threshold: winners: wrong (no pair of policies)\n" in out
    assert out.endswith("1 of 1 thresholds kept; 2 without data\n")
    assert validate_command(json=True, root=root, thresholds=bounds) == 0
    verdicts = json.loads(capsys.readouterr().out)["thresholds"]
    assert [verdict["kept"] for verdict in verdicts] == [True, None, None]


def test_a_target_above_which_an_error_stays_is_told_and_breaks_nothing(cases, tmp_path, capsys):
    root = write(tmp_path / "nodes", [line(cases[0], slower=1.02)])
    bounds = tmp_path / "t.toml"
    bounds.write_text('[[threshold]]\ngroup = "one GPU"\nstatistic = "median"\nlimit = 0.03\ntarget = 0.01\n')
    assert validate_command(json=False, root=root, thresholds=bounds) == 0
    out = capsys.readouterr().out
    assert "not reached: one GPU: median |error| 1.96 %, at most 1.00 % aimed for" in out
    assert "1 of 1 thresholds kept; 1 of them only as far as measured, their target is not reached" in out


def test_with_the_rate_read_beside_it_a_contended_case_is_predicted_on_the_host_memory_of_that_moment(tmp_path):
    """Two GPUs that read 80 GB/s together copy at less than 40 each."""
    case = next(c for c in load_cases("x2-host-memory") if c.name.endswith("wan-14b-4096-layerwise-p1"))
    scenario, resident = case.scenario("h200-x2-host-memory"), case.resident("h200-x2-host-memory")
    slower = predict(with_host_read(scenario, 80e9)).steps[-2].duration
    copies = sum(2 * blocks.parameters * blocks.count for blocks in scenario.model.blocks) / 40e9
    assert copies < slower < 1.1 * copies  # small all-to-alls read there too
    steps = [predict(resident).steps[-1].duration] * 30
    record = ReplayRecord(
        "node", path_of("nodes", "h200-x2-host-memory"), case, [[slower] * 12], [steps], host_read=80e9
    )
    found = case_error(record)
    assert found.predicted_beside == pytest.approx(slower / predict(with_host_read(resident, 80e9)).steps[-1].duration)
    assert abs(cases_read_beside([found])[0].error) < 1e-3 < abs(found.error)


def test_a_threshold_on_a_group_that_does_not_exist_is_refused(cases, tmp_path):
    bounds = thresholds(tmp_path / "t.toml", ("copy bound", "median", 0.01))
    with pytest.raises(ScenarioError, match="'copy bound': one of copy-bound, "):
        judge([], bounds)


def test_steps_are_also_held_to_in_seconds(cases, tmp_path):
    """Both runs 10 % slower than predicted: their ratio is right."""
    both = line(cases[0], slower=1.1)
    both["resident_steps"] = [[1.1 * step for step in run] for run in both["resident_steps"]]  # type: ignore[attr-defined]
    errors = all_errors(read_records(write(tmp_path, [both]))[0])
    bounds = tmp_path / "bounds.toml"
    bounds.write_text(
        "".join(
            f'[[threshold]]\ngroup = "{group}"\nstatistic = "median"\nlimit = 0.05\n'
            for group in ("one GPU", "one GPU, in seconds")
        )
    )
    ratio, seconds = judge(errors, bounds)
    assert (ratio.kept, seconds.kept) == (True, False)
    assert seconds.value == pytest.approx(1 - 1 / 1.1)


def test_pageable_cases_are_left_out_by_what_they_copy_and_not_by_their_names(cases, tmp_path):
    renamed = structs.replace(cases[0], name="x1-slow", policy=structs.replace(cases[0].policy, pinned=False))
    errors = all_errors(read_records(write(tmp_path, [line(renamed, slower=1.5), line(cases[1])]))[0])
    bounds = thresholds(tmp_path / "t.toml", ("one GPU", "worst", 0.01), ("one GPU but pageable", "worst", 0.01))
    assert [verdict.kept for verdict in judge(errors, bounds)] == [False, True]


def test_json_has_every_case_with_the_simpler_models(cases, tmp_path, capsys):
    assert validate_command(json=True, root=write(tmp_path, [line(cases[0])])) == 0
    found = json.loads(capsys.readouterr().out)
    assert [case["name"] for case in found["cases"]] == [cases[0].name]
    assert set(found["cases"][0]["simpler"]) == {"max", "alone", "equal", "first-order"}
    assert {threshold["kept"] for threshold in found["thresholds"]} == {True, None}


def test_json_has_the_statistics_of_every_class_and_the_winners(cases, tmp_path, capsys):
    chosen = [line(cases[0], slower=1.25), line(cases[1]), line(cases[2])]
    root = write(tmp_path, chosen)
    validate_command(json=True, root=root)
    found = json.loads(capsys.readouterr().out)
    classes = {error.name: error.kind for error in all_errors(read_records(root)[0])}
    own = found["classes"][classes[cases[0].name]]
    assert own["worst"] == pytest.approx(-0.2)
    assert (found["classes"]["all"]["n"], found["classes"]["all"]["median"]) == (3, pytest.approx(0.0, abs=1e-9))
    assert set(found["classes"]["all"]["simpler_medians"]) == {"max", "alone", "equal", "first-order"}
    assert set(found["winners"]) == {"right", "wrong"}


def test_nodes_measured_after_the_rule_have_a_table_of_their_own(cases, tmp_path, capsys):
    root = write(tmp_path, [line(cases[0])])
    (root / "h200-x1").rename(root / NODES_BEFORE_RULE[0])
    write(tmp_path, [line(cases[0], slower=1.02)])
    validate_command(json=True, root=root)
    found = json.loads(capsys.readouterr().out)
    assert (found["classes"]["all"]["n"], found["classes_since_the_rule"]["all"]["n"]) == (2, 1)
    assert found["classes_since_the_rule"]["all"]["worst"] == pytest.approx(1 / 1.02 - 1)
    validate_command(json=False, root=root)
    assert "the same, of nodes that were measured after the rule was settled" in capsys.readouterr().out


def test_a_case_that_failed_and_one_that_never_settled_are_listed_and_not_scored(cases, tmp_path):
    short = line(cases[1]) | {"resident_steps": [[0.01, 0.01]]}
    records, failures = read_records(write(tmp_path, [{"case": "x", "error": "out of memory"}, short]))
    assert records == []
    assert [failure.error.split(":")[0] for failure in failures] == ["out of memory", "not scored"]


def test_no_measurements_are_one_sentence(tmp_path, capsys):
    assert validate_command(json=False, root=tmp_path) == 0
    assert capsys.readouterr().out.startswith("no measurements to validate")


def test_a_wrong_order_of_two_policies_is_found(cases, tmp_path):
    same = [case for case in load_cases("x1") if "-4096-" in case.name and case.shape == "wan-14b"]
    layerwise, fsdp = same
    lines = [line(layerwise, slower=2.0), line(fsdp)]
    found = winners(all_errors(read_records(write(tmp_path, lines))[0]))
    assert found.right == 0
    assert found.wrong == ((layerwise.name, fsdp.name),)


def test_the_smallest_error_that_95_percent_keep_is_the_19th_of_20(cases, tmp_path):
    one = all_errors(read_records(write(tmp_path, [line(cases[0])]))[0])[0]
    group = [one._replace(predicted=one.measured * (1 + i / 1000)) for i in range(1, 21)]
    found = summary_of_cases(group)
    assert found is not None
    assert (found.median, found.p95, found.worst) == pytest.approx((0.0105, 0.019, 0.020))


def test_a_committed_node_is_predicted_as_well_as_is_kept():
    """A sample of `python -m offsim validate`, which predicts all; the worst on one GPU is -4.1 %."""
    records, _ = read_records(NODES)
    chosen = [record for record in records if record.node == "h100-x1-b"]
    errors = [error for error in all_errors(chosen) if "pageable" not in error.name]
    assert len(errors) >= 12
    assert max(abs(error.error) for error in errors) <= 0.041


def test_a_steady_step_read_otherwise_has_the_error_of_that_reading(cases):
    """Policy steps of 2, 2 and 5 s are 3 s in the mean; resident steps of 1, 1 and 4 s settle after the first."""
    policy = [9.0, 9.0, *[2.0, 2.0, 5.0] * 3, 2.0]
    record = ReplayRecord("n", Path(), cases[0], [policy[:11]], [[1.0, 1.0, 4.0]])
    told = Predicted([2.0] * 12, 1.0, 0.0)
    case = record._replace(case=structs.replace(record.case, steps=11))
    errors = {reading.name: reading_error(case, told, reading) for reading in STEADY_STEP_RULES}
    # Mean 3 / mean of 1 and 4 is 1.2, median 2 / 2.5 is 0.8; predicted is 2.
    assert errors["mean, settled"] == pytest.approx(2 / 1.2 - 1)
    assert errors["median, settled: scored"] == pytest.approx(2 / 0.8 - 1)


def test_readings_tell_nodes_before_the_rule_from_those_since_and_peaks_that_count_from_all(cases, tmp_path):
    root = write(tmp_path, [line(cases[0])])
    (root / "h200-x1").rename(root / NODES_BEFORE_RULE[0])
    dropped = line(cases[1], memory=2.0) | {"memory_not_scored": "a reason"}
    short = line(cases[2]) | {"resident_steps": [[0.01, 0.01]]}
    write(tmp_path, [dropped, short])
    pairs = all_pairs(root)
    counts = {(row.reading, row.nodes): len(row.errors) for row in (*steady_rows(pairs), *memory_rows(pairs))}
    assert [counts["median, settled: scored", nodes] for nodes in ("before the rule", "since", "all")] == [1, 1, 2]
    assert [counts["median, step 1 on, every run", nodes] for nodes in ("before the rule", "since", "all")] == [1, 2, 3]
    assert [counts[peaks, "since"] for peaks in ("every peak", "scored")] == [2, 1]
    worst = next(row for row in memory_rows(pairs) if row.nodes == "since").errors
    assert sorted(error for error, _ in worst) == pytest.approx([-0.5, 0.0], abs=1e-9)
    assert "-50.00 %" in render(table_of("memory", memory_rows(pairs)))
