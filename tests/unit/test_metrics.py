"""One table of metrics: every edge has its names, each name has its unit, and old names are written down."""

import re
from pathlib import Path

import pytest

from offsim.program.load import load_scenario
from offsim.results.document import run_document
from offsim.results.memory import OutOfMemory
from offsim.results.metrics import (
    DURATION,
    LOSSES,
    MOVED,
    PHASE_METRICS,
    PREDICTION_METRICS,
    SCENARIO_METRICS,
    STALL_METRICS,
    STEP_METRICS,
    UNIT_FACTORS,
    Metric,
    metrics_of,
    timed_steps,
    values,
)
from offsim.results.predict import Prediction, predict
from offsim.sweep.best.plain import WITH_ERROR
from offsim.sweep.column import columns_of
from offsim.sweep.row import WRITTEN, result_of

from .test_sweep import grid_of

SCHEMA = Path(__file__).parents[2] / "docs/schema_2.md"
ALL = (*SCENARIO_METRICS, *PREDICTION_METRICS, *STEP_METRICS, *PHASE_METRICS, *STALL_METRICS)


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    return predict(load_scenario("wan2.2-4xh100-pcie-layerwise"))


def test_a_value_is_given_in_the_unit_at_the_end_of_its_name():
    for name, expected in {"it_s": 3e9, "it_GB": 3.0, "it_GiB": 3e9 / 2**30, "it": 3e9, "s": 3e9}.items():
        assert Metric(name, "It", lambda _: 3e9).of(None) == expected
    assert Metric("it_GB", "It", lambda _: None).of(None) is None


def test_numbers_without_a_unit_are_counts():
    assert {metric.kind for metric in ALL if not metric.unit} <= {int, str, bool}
    assert all(metric.kind is float for metric in ALL if metric.unit)


@pytest.mark.parametrize("metrics", [SCENARIO_METRICS, PREDICTION_METRICS, STEP_METRICS, PHASE_METRICS, STALL_METRICS])
def test_no_name_stands_for_two_quantities(metrics):
    names = [metric.name for metric in metrics]
    assert len(set(names)) == len(names)
    assert all(metric.meaning and not metric.meaning.endswith(".") for metric in metrics)


def test_what_is_said_of_the_steady_step_is_what_is_said_of_any_step(prediction):
    found, steps = metrics_of(prediction), timed_steps(prediction)
    steady = values(STEP_METRICS, steps[prediction.steady_index])
    assert {f"steady_{m.name}": found[f"steady_{m.name}"] for m in (*DURATION, *LOSSES, *MOVED)} == {
        f"steady_{name}": value for name, value in steady.items() if name not in ("index", "phase")
    }
    assert found["total_h2d_GB"] == pytest.approx(sum(values(MOVED, step)["h2d_GB"] for step in steps))
    assert found["total_node_h2d_GB"] == 4 * found["total_h2d_GB"]
    assert found["total_s"] == pytest.approx(sum(values(STEP_METRICS, step)["step_s"] for step in steps))


def test_losses_add_up_to_the_step(prediction):
    for step in timed_steps(prediction):
        assert sum(values(LOSSES, step).values()) == pytest.approx(step.row.duration)


def test_what_lacks_memory_says_where_and_how_much_and_what_fits_says_nothing(prediction):
    assert metrics_of(prediction)["fits"] is True and metrics_of(prediction)["oom_where"] is None
    short = prediction._replace(out_of_memory=OutOfMemory("host", "load", 0, 3 * 2.0**30, 2.0**30))
    found = metrics_of(short)
    assert (found["fits"], found["oom_where"], found["oom_phase"], found["oom_rank"]) == (False, "host", "load", 0)
    assert (found["oom_needed_GiB"], found["oom_available_GiB"], found["oom_shortfall_GiB"]) == (3.0, 1.0, 2.0)


def test_a_document_and_a_sweep_call_the_same_thing_the_same():
    combination = grid_of().combinations[0]
    document = run_document(predict(combination.scenario))
    row = result_of(combination).row
    for metric in SCENARIO_METRICS:
        assert document["scenario"][metric.name] == row.cells[list(WRITTEN).index(metric.name)], metric.name
    for metric in PREDICTION_METRICS:
        found, expected = row.cells[list(WRITTEN).index(metric.name)], document[metric.name]
        assert found == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected), metric.name


def test_a_sweeps_columns_are_the_metrics_with_their_kinds():
    columns = {column.name: column for column in columns_of(grid_of().axes)}
    assert list(columns) == ["axis_gpus", "axis_policy", *WRITTEN]
    assert all(columns[metric.name].kind is metric.kind for metric in WRITTEN.values())
    assert all(columns[metric.name].optional for metric in PREDICTION_METRICS)
    assert not columns["status"].optional and not columns["model"].optional


def test_a_prediction_is_shown_on_one_line(prediction):
    assert repr(prediction) == "<Prediction of wan2.2-4xh100-pcie-layerwise: 27 steps, 536.014 s>"


def test_every_new_name_that_the_documentation_gives_exists():
    known = {metric.name for metric in ALL} | EXTRA
    rows = [line for line in SCHEMA.read_text().splitlines() if line.startswith("| `")]
    new = [name for line in rows for name in re.findall(r"`([^`]+)`", line.split("|")[2])]
    assert len(rows) > 25
    assert [name for name in new if re.split(r"[.\]]", name)[-1] not in known] == []


def test_no_old_name_of_another_unit_is_left():
    assert not [metric.name for metric in ALL if "bytes" in metric.name or "interval" in metric.name]
    assert all(metric.unit in UNIT_FACTORS for metric in ALL if metric.kind is float)


EXTRA = {
    *(metric.name for metric in WITH_ERROR),
    "device_GiB",
    "policy_words",
    "policy_parameters",
    "launch_lines",
    "compared_as",
    "uncalibrated",
    "key",
    "provenance",
}
"""Names that only `best --json` and lists have."""
