"""The front door: `import offsim`, its three functions, and what they give back."""

import json
import pickle
import pydoc
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import offsim
from offsim.cli import dispatch
from offsim.program.load import load_scenario
from offsim.results.metrics import PREDICTION_METRICS, STEP_METRICS
from offsim.scenario.documents import toml_text
from offsim.scenario.faults import one_message
from offsim.sweep import execute
from offsim.sweep.grid import load_grid

from .test_sweep import GRID, rows_of, stopping

SMALL = 'name = "small"\nnode = "h100-pcie"\nmodel = "wan2.1-t2v-1.3b"\npolicy = "sglang-layerwise"\n'
SMALL += "workload = { gpus = 2, tokens = 512, steps = 4 }\n"
LINES = 20


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def run(small: Path) -> offsim.RunResult:
    return offsim.predict(small)


@pytest.fixture(scope="module")
def best(small: Path) -> offsim.BestResult:
    return offsim.find_best(str(small), vram_gib=40)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert dispatch(list(words)) == 0
    return json.loads(capsys.readouterr().out)


def imported(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_offsim_imports_nothing():
    loaded = "[m for m in sys.modules if m not in before]"
    assert imported(f"import sys; before = set(sys.modules); import offsim; print({loaded})") == "['offsim']"


def test_pandas_is_imported_when_a_frame_is_asked_for_and_not_before():
    code = 'run = offsim.predict("flux.1-dev-rtx4090-layerwise"); run.to_dict(); run.report(); repr(run)'
    shown = "print('pandas' in sys.modules)"
    assert imported(f"import sys, offsim; {code}; {shown}; run.frame(); {shown}") == "False\nTrue"


def test_the_version_is_the_one_that_is_installed():
    assert offsim.__version__ == version("offsim")


def test_what_offsim_has_is_listed_and_nothing_else_is_there():
    assert set(offsim.__all__) <= set(dir(offsim))
    assert all(getattr(offsim, name).__doc__ for name in offsim.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'simulate'"):
        offsim.simulate  # noqa: B018


def test_a_prediction_is_what_run_prints_as_json(run, small, capsys):
    assert json.loads(json.dumps(run.to_dict())) == printed(capsys, "run", str(small), "--json")
    assert run.metrics == {metric.name: run.to_dict()[metric.name] for metric in PREDICTION_METRICS}


def test_a_scenario_is_a_name_a_path_a_mapping_or_itself(run, small):
    mapping = tomllib.loads(SMALL)
    for source in (str(small), mapping, load_scenario(small)):
        assert offsim.predict(source).to_dict() == run.to_dict()
    named = offsim.predict("flux.1-dev-rtx4090-layerwise").to_dict()
    assert offsim.predict({"extends": "flux.1-dev-rtx4090-layerwise"}).metrics["total_s"] == named["total_s"]


def test_a_mapping_may_hold_what_counts_as_a_number(run):
    mapping = tomllib.loads(SMALL)
    mapping["workload"] |= {"tokens": np.int64(512), "compute_efficiency": np.float32(1.0)}
    assert offsim.predict(mapping).metrics == run.metrics


CIRCLE: dict[str, Any] = {}
CIRCLE["workload"] = CIRCLE


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({}, "mapping: model: missing"),
        ({"extends": "nope"}, "mapping: extends='nope': not in the catalogue of scenarios"),
        ({"workload": {"gpu": 1}}, "mapping: workload.gpu: unknown key"),
        ({"workload": {1: 2}}, "mapping: workload=1: keys are text"),
        ({"workload": {"gpus": {1, 2}}}, "mapping: workload.gpus={1, 2}: expected text, a number"),
        (CIRCLE, "nested too deeply; expected at most 12"),
    ],
)
def test_a_mapping_that_says_no_scenario_is_an_error_that_names_its_key(mapping, said):
    with pytest.raises(offsim.ScenarioError) as caught:
        offsim.predict(mapping)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["nope", "nope.toml", "", "x" * 1000, "\x1b[2J", "a\0b.toml"])
def test_an_error_says_what_the_command_line_says(name, capsys):
    calls = {"run": offsim.predict, "best": offsim.find_best, "sweep": offsim.run_sweep}
    for verb, call in calls.items():
        with pytest.raises(offsim.ScenarioError) as caught:
            call(name)
        assert dispatch([verb, name]) == 2
        assert capsys.readouterr().err == f"offsim: {one_message(caught.value)}\n"


def test_a_frame_of_a_prediction_has_a_row_for_each_step(run):
    frame = run.frame()
    assert list(frame.columns) == [metric.name for metric in STEP_METRICS]
    assert frame["step_s"].sum() == pytest.approx(run.metrics["total_s"])
    assert frame.to_dict("records") == run.to_dict()["steps"]


def test_results_are_shown_in_few_lines(run, best, tmp_path):
    grid = {**tomllib.loads(GRID), "name": "x" * 300}
    for result in (run, best, offsim.run_sweep(grid, out=tmp_path / "out", workers=1)):
        lines = repr(result).splitlines()
        assert len(lines) <= LINES and max(map(len, lines)) <= 115
    assert "total_s" in repr(run) and repr(best).startswith("<BestResult of small: ")


def test_reports_are_what_the_command_line_prints(run, small, capsys):
    assert dispatch(["run", str(small)]) == 0
    assert run.report() == capsys.readouterr().out


def test_the_best_are_what_best_prints_as_json_and_their_frame_has_the_same_numbers(best, small, capsys):
    document = best.to_dict()
    assert json.loads(json.dumps(document)) == printed(capsys, "best", str(small), "--vram", "40", "--json", "--quiet")
    frame = best.frame()
    assert list(frame["total_s"]) == [choice["total_s"] for choice in document["best"]]
    assert list(frame["policy_words"]) == [choice["policy_words"] for choice in document["best"]]
    assert "1" in best.report()


def test_the_best_are_found_for_a_mapping_too(best):
    assert offsim.find_best(tomllib.loads(SMALL), vram_gib=40).to_dict() == best.to_dict()


def test_too_little_memory_is_the_same_sentence_everywhere(small, capsys):
    with pytest.raises(offsim.ScenarioError) as caught:
        offsim.find_best(small, vram_gib=0.1)
    assert dispatch(["best", str(small), "--vram", "0.1"]) == 2
    assert capsys.readouterr().err == f"offsim: {caught.value}\n"


def test_a_sweep_gives_the_rows_that_it_stores(tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(GRID)
    result = offsim.run_sweep(tmp_path / "tiny.toml", out=tmp_path / "out", workers=1)
    assert (result.folder, result.stopped, capsys.readouterr().out) == (tmp_path / "out", "", "")
    frame, stored = result.frame(), rows_of(tmp_path / "out")
    assert list(frame.columns) == list(stored[0])
    assert [f"{total}" for total in frame["total_s"][:4]] == [row["total_s"] for row in stored[:4]]
    assert frame["total_s"].isna().tolist() == [False] * 4 + [True] * 2
    assert [row["status"] for row in result.to_dict()["rows"]] == ["ok"] * 4 + ["invalid"] * 2
    assert result.report() == (tmp_path / "out/answer.txt").read_text()


def test_a_grid_that_is_a_mapping_is_stored_as_a_file_that_the_sweep_can_go_on_with(tmp_path):
    mapping = tomllib.loads(GRID)
    result = offsim.run_sweep(mapping, out=tmp_path / "out", workers=1)
    assert load_grid(tmp_path / "out/grid.toml").hash == result.to_dict()["grid_hash"] == load_grid(mapping).hash
    again = offsim.run_sweep(tmp_path / "out/grid.toml", out=tmp_path / "out", workers=1, resume=True)
    assert again.to_dict() == result.to_dict()


def test_an_interrupt_is_raised_and_what_was_finished_is_gone_on_with(tmp_path, monkeypatch):
    mapping = tomllib.loads(GRID)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(execute, "result_of", stopping(KeyboardInterrupt(), after=3))
        offsim.run_sweep(mapping, out=tmp_path / "out", workers=1)
    assert len(rows_of(tmp_path / "out")) == 3
    assert len(offsim.run_sweep(mapping, out=tmp_path / "out", workers=1, resume=True).frame()) == 6


def test_a_combination_that_fails_is_a_row_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "result_of", stopping(ValueError("odd"), after=5))
    result = offsim.run_sweep(tomllib.loads(GRID), out=tmp_path / "out", workers=1)
    assert result.stopped.startswith("1 failed, the first: 3 / full-model: ValueError: odd")
    assert "stopped: 1 failed" in repr(result) and result.frame()["status"].iloc[-1] == "error"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"a": 1, "b c": -0.5, "": True, "d": {"e": [1, [2.0, False]], "f": {}}, "g": []},
        {"text": 'quo"te\\ \n\t\x00\x1f\x7f \u2028 é 😀', "large": 1e300, "long": 10**30, "none": float("inf")},
    ],
)
def test_a_document_as_toml_is_read_as_it_was(document):
    assert tomllib.loads(toml_text(document)) == document


def test_help_and_dir_show_the_front_door_by_the_names_that_it_has():
    shown = pydoc.plain(pydoc.render_doc(offsim))
    for line in ("predict(scenario", "find_best(scenario", "class RunResult(", "class ScenarioError("):
        assert line in shown, line
    for inner in ("predict_scenario", "find_best_policies", "offsim.api.", "TYPE_CHECKING", "_PLACES"):
        assert inner not in shown, inner
    assert {name for name in dir(offsim) if not name.startswith("__")} == {*offsim.__all__} - {"__version__"}


@pytest.mark.parametrize("name", [name for name in offsim.__all__ if name != "__version__"])
def test_what_is_offered_goes_to_other_processes_by_its_name(name):
    assert pickle.loads(pickle.dumps(getattr(offsim, name))) is getattr(offsim, name)
