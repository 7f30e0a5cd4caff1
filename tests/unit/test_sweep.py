"""Sweeps: grids and their errors, execution in any order, what is stored, what is said."""

import csv
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from offsim.scenario import catalogue
from offsim.scenario.faults import ScenarioError
from offsim.sweep import execute
from offsim.sweep.answer import answer_text
from offsim.sweep.findings import cause, findings
from offsim.sweep.grid import Combination, Grid, load_grid, parse_grid
from offsim.sweep.opening import opened
from offsim.sweep.overlay import overlay
from offsim.sweep.panels import Case, Panel, PanelLine, TimeRange, order, panels
from offsim.sweep.progress import progress_bar
from offsim.sweep.row import Result, Row, result_of, row_of
from offsim.sweep.run import sweep_command

MODEL = """
name = "tiny"
title = "A tiny Wan"
experts = 2
boundary_ratio = 0.5
other_parameters = 1000
source = "made up"

[[scenario.model.blocks]]
name = "blocks"
count = 4
architecture = "wan"
parameters = 67136
hidden = 64
heads = 4
head_dim = 16
ffn = 256
tensors = 27
"""
GRID = f"""
schema = 2
name = "tiny"
title = "Tiny"

[scenario]
node = "h100-pcie"
workload = {{ tokens = 512, steps = 2, cfg = "none" }}

[scenario.model]
{MODEL}

[axes.gpus]
key = "workload.gpus"
values = [1, 2, 3]

[[axes.policy]]
label = "layerwise"
policy = {{ name = "sglang-layerwise", version = "v1", prefetch = 1 }}

[[axes.policy]]
label = "full-model"
policy = "full-model"
"""


def grid_of(text: str = GRID) -> Grid:
    return parse_grid(tomllib.loads(text), Path("tiny.toml"))


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(GRID)
    return path


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_last_axis_varies_fastest():
    labels = [combination.labels for combination in grid_of().combinations]
    assert labels[:3] == [("1", "layerwise"), ("1", "full-model"), ("2", "layerwise")]
    assert len(labels) == 6


def test_overrides_reach_the_scenario():
    last = grid_of().combinations[3].scenario
    assert (last.workload.gpus, last.workload.tokens, type(last.policy).__name__) == (2, 512, "FullModel")


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"node": "a"}, {"node": "b"}, {"node": "b"}),
        ({"node": "a"}, {"node": {"gpus": 2}}, {"node": {"extends": "a", "gpus": 2}}),
        ({"node": {"extends": "a", "gpus": 2}}, {"node": {"extends": "b"}}, {"node": {"extends": "b"}}),
        ({"policy": "fsdp"}, {"policy": {"prefetch": 2}}, {"policy": {"name": "fsdp", "prefetch": 2}}),
        ({"policy": {"name": "fsdp", "prefetch": 2}}, {"policy": "resident"}, {"policy": "resident"}),
        ({"model": {"a": 1, "b": {"c": 2}}}, {"model": {"b": {"c": 3}}}, {"model": {"a": 1, "b": {"c": 3}}}),
        ({"node": {"switches": [1, 2]}}, {"node": {"switches": [3]}}, {"node": {"switches": [3]}}),
    ],
)
def test_tables_merge_and_everything_else_replaces(base, over, merged):
    assert overlay(base, over) == merged


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "Tiny"', "titel = 1", "titel: unknown key"),
        ('name = "tiny"\ntitle = "Tiny"', 'name = "Two words"', "name='Two words'"),
        ("schema = 2", "schema = 3", "schema=3"),
        ("values = [1, 2, 3]", "values = []", "axes.gpus.values"),
        ("values = [1, 2, 3]", "values = [1, 1]", "axes.gpus: label '1' is given twice"),
        ("values = [1, 2, 3]", 'values = [1, "two"]', "workload.gpus='two'"),
        ("values = [1, 2, 3]", "value = 1", "axes.gpus.value: unknown key"),
        ("values = [1, 2, 3]", "", "axes.gpus.values: missing"),
        ('key = "workload.gpus"', 'key = "gpus"', "axes.gpus.key='gpus'"),
        ('key = "workload.gpus"', 'key = "workload.gpu"', "workload.gpu: unknown key"),
        ('key = "workload.gpus"', 'key = "policy.name"', "policy.name is set by axes.gpus too"),
        ('label = "full-model"\n', "", "axes.policy[1].label: missing"),
        ('label = "full-model"', "label = 3", "axes.policy[1].label=3"),
        ('policy = "full-model"', 'polcy = "fsdp"', "axes.policy[1].polcy: unknown key"),
        ('policy = "full-model"', 'policy = "half-model"', "half-model"),
        ('node = "h100-pcie"', 'node = "h100-pice"', "did you mean h100-pcie"),
        ('node = "h100-pcie"', 'nodes = "h100-pcie"', "scenario.nodes: unknown key"),
        ("steps = 2", "steps = 2, height = 10", "no combination can run"),
    ],
)
def test_a_wrong_grid_is_an_error_that_names_file_and_key(old, new, said):
    assert old in GRID
    with pytest.raises(ScenarioError) as caught:
        grid_of(GRID.replace(old, new, 1))
    assert said in str(caught.value)
    assert str(caught.value).startswith("tiny.toml: ")
    assert "\n" not in str(caught.value)


def test_a_grid_without_axes_is_an_error():
    with pytest.raises(ScenarioError, match="axes: missing"):
        grid_of('name = "empty"')


def test_an_explosion_of_combinations_is_an_error():
    values = list(range(100))
    axes = "".join(f'axes.a{i} = {{ key = "node.k{i}", values = {values} }}\n' for i in range(3))
    with pytest.raises(ScenarioError, match="1,000,000 combinations"):
        grid_of(f'name = "many"\n{axes}')


def test_what_no_system_would_run_is_a_row_with_its_reason():
    refused = [combination for combination in grid_of().combinations if combination.refused]
    assert [combination.labels for combination in refused] == [("3", "layerwise"), ("3", "full-model")]
    row = result_of(refused[0]).row
    assert (row.status, row.number("gpus"), row.text("total_s")) == ("invalid", 3, "")
    assert "do not divide by 3" in row.reason
    assert "tiny.toml" not in row.reason


def test_the_hash_depends_on_what_is_asked_alone():
    assert grid_of().hash == grid_of(GRID.replace("schema = 2\n", "# a remark\n")).hash
    others = [GRID.replace("steps = 2", "steps = 3"), GRID.replace('"layerwise"', '"other"')]
    assert len({grid_of(text).hash for text in [GRID, *others]}) == 3


def test_an_answer_is_printed_as_wide_as_the_terminal_and_kept_as_ever(grid_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert sweep_command(str(grid_file), tmp_path / "out", 1, True) == 0
    said, kept = capsys.readouterr().out, (tmp_path / "out" / "answer.txt").read_text()
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 70
    assert max(map(len, kept.splitlines())) > 70


def test_a_sweep_writes_rows_grid_and_answer(grid_file, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    out = tmp_path / "out"
    assert sweep_command(str(grid_file), out, 1, True) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {".lock", "answer.txt", "grid.toml", "results.csv", "results.sqlite"}
    assert (out / "grid.toml").read_text() == GRID
    assert (out / "answer.txt").read_text() == capsys.readouterr().out
    rows = rows_of(out)
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["invalid"] * 2
    assert all(float(row["lower_bound_s"]) <= float(row["total_s"]) for row in rows[:4])
    assert rows[0]["axis_policy"] == "layerwise"
    connection = sqlite3.connect(out / "results.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    stored = connection.execute("SELECT axis_gpus, total_s FROM rows WHERE status = 'ok'").fetchall()
    connection.close()
    assert stored == [(row["axis_gpus"], float(row["total_s"])) for row in rows[:4]]


def test_one_and_two_workers_write_the_same_bytes(grid_file, tmp_path):
    for workers in (1, 2):
        assert sweep_command(str(grid_file), tmp_path / str(workers), workers, True) == 0
    assert (tmp_path / "1/results.csv").read_bytes() == (tmp_path / "2/results.csv").read_bytes()


def test_no_results_are_overwritten(grid_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        sweep_command(str(grid_file), None, 1, True)
    name = f"tiny-{load_grid(str(grid_file)).hash}"
    assert sorted(path.name for path in Path("offsim-results").iterdir()) == [name, f"{name}-2", f"{name}-3"]
    with pytest.raises(ScenarioError, match=r"folder is not empty.*--out"):
        sweep_command(str(grid_file), Path("offsim-results"), 1, True)


@pytest.mark.parametrize("out", ["tiny.toml", "tiny.toml/below"])
def test_a_folder_that_cannot_be_written_is_an_error(grid_file, out):
    with pytest.raises(ScenarioError, match="--out"):
        sweep_command(str(grid_file), grid_file.parent / out, 1, True)


def test_workers_must_be_at_least_one():
    with pytest.raises(ScenarioError, match="--workers=0"):
        sweep_command(None, None, 0, True)


def stopping(error: BaseException, after: int):
    """`result_of` that raises once it has worked `after` times."""
    calls = 0

    def result(combination: Combination) -> Result:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        return result_of(combination)

    return result


def test_what_is_finished_is_written_when_a_run_is_interrupted_and_resumed_from_there(
    grid_file, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(execute, "result_of", stopping(KeyboardInterrupt(), after=3))
        assert sweep_command(str(grid_file), out, 1, True) == 130
    assert [row["axis_gpus"] for row in rows_of(out)] == ["1", "1", "2"]
    printed = capsys.readouterr()
    assert "interrupted; go on with --resume" in printed.err
    assert "Not complete (3 of 6 combinations)" in printed.out
    monkeypatch.setattr(execute, "result_of", stopping(KeyboardInterrupt(), after=3))
    assert sweep_command(str(grid_file), out, 1, True, resume=True) == 0
    assert sweep_command(str(grid_file), tmp_path / "undisturbed", 1, True) == 130
    assert len(rows_of(out)) == 6


def test_a_combination_that_fails_is_a_row_with_its_error_and_is_tried_again(grid_file, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(execute, "result_of", stopping(ValueError("odd"), after=3))
        assert sweep_command(str(grid_file), out, 1, True) == 1
    assert [row["status"] for row in rows_of(out)] == ["ok"] * 3 + ["error"] * 3
    assert rows_of(out)[3]["reason"] == "2 / full-model: ValueError: odd"
    assert "3 failed, the first: 2 / full-model: ValueError: odd" in capsys.readouterr().err
    assert sweep_command(str(grid_file), out, 1, True, resume=True) == 0
    assert sweep_command(str(grid_file), tmp_path / "undisturbed", 1, True) == 0
    assert rows_of(out) == rows_of(tmp_path / "undisturbed")


def test_what_cannot_be_resumed_is_an_error_that_says_why(grid_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScenarioError, match=r"no sweep to resume in offsim-results.tiny-"):
        sweep_command(str(grid_file), None, 1, True, resume=True)
    assert sweep_command(str(grid_file), tmp_path / "out", 1, True) == 0
    with pytest.raises(ScenarioError, match="it has a sweep; go on with it with --resume"):
        sweep_command(str(grid_file), tmp_path / "out", 1, True)
    grid_file.write_text(GRID.replace("steps = 2", "steps = 3"))
    with pytest.raises(ScenarioError, match="cannot be resumed: its grid_hash is"):
        sweep_command(str(grid_file), tmp_path / "out", 1, True, resume=True)


def test_without_a_folder_the_latest_sweep_of_the_grid_is_resumed(grid_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sweep_command(str(grid_file), None, 1, True) == 0
    with monkeypatch.context() as patched:
        patched.setattr(execute, "result_of", stopping(KeyboardInterrupt(), after=1))
        assert sweep_command(str(grid_file), None, 1, True) == 130
    assert sweep_command(str(grid_file), None, 1, True, resume=True) == 0
    first, second = sorted(Path("offsim-results").iterdir())
    assert rows_of(first) == rows_of(second)


def test_two_sweeps_do_not_write_one_folder(grid_file, tmp_path):
    grid = load_grid(str(grid_file))
    with opened(grid, tmp_path / "out", resume=False):
        for resume in (True, False):
            with pytest.raises(ScenarioError, match="another sweep is writing here"):
                sweep_command(str(grid_file), tmp_path / "out", 1, True, resume)


def test_combinations_that_ask_the_same_are_simulated_once(tmp_path, monkeypatch):
    same = GRID + '\n[[axes.policy]]\nlabel = "again"\npolicy = { name = "full-model" }\n'
    path = tmp_path / "tiny.toml"
    path.write_text(same)
    monkeypatch.setattr(execute, "result_of", stopping(AssertionError("once more"), after=6))
    assert sweep_command(str(path), tmp_path / "out", 1, True) == 0
    rows = {(row["axis_gpus"], row["axis_policy"]): row["total_s"] for row in rows_of(tmp_path / "out")}
    assert rows["1", "again"] == rows["1", "full-model"] and len(rows) == 9


def test_a_full_disk_is_an_error_and_what_was_stored_stays_readable(grid_file, tmp_path):
    """Files may not grow beyond 64 KiB: the operating system's own way to have no room."""
    tokens = ", ".join(str(64 * i) for i in range(1, 61))
    axis = f'\n[axes.tokens]\nkey = "workload.tokens"\nvalues = [{tokens}]\n'
    grid_file.write_text(GRID.replace("values = [1, 2, 3]", "values = [1, 2]").replace("tokens = 512, ", "") + axis)
    out = tmp_path / "out"
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16)); import signal; "
    limited += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from offsim.cli import main; main(sys.argv[1:])"
    words = ["sweep", str(grid_file), "--out", str(out), "--workers", "1", "--quiet"]
    ended = subprocess.run([sys.executable, "-c", limited, *words], capture_output=True, text=True)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    connection = sqlite3.connect(out / "results.sqlite")
    (stored,) = connection.execute("SELECT count(*) FROM rows").fetchone()
    connection.close()
    assert 0 < stored < 240
    assert f"{out / 'results.sqlite'}: cannot be written" in ended.stderr
    assert f"what was stored is kept ({stored} rows): make room and go on with --resume" in ended.stderr
    assert sweep_command(str(grid_file), out, 1, True, resume=True) == 0
    assert len(rows_of(out)) == 240


KILLS, ALL = 15, 180


def test_killed_at_15_random_moments_nothing_is_lost_and_nothing_done_twice(tmp_path):
    grid = tmp_path / "tiny.toml"
    tokens = ", ".join(str(64 * i) for i in range(1, 31))
    grid.write_text(
        GRID.replace("tokens = 512, ", "") + f'\n[axes.tokens]\nkey = "workload.tokens"\nvalues = [{tokens}]\n'
    )
    assert sweep_command(str(grid), tmp_path / "undisturbed", 1, True) == 0
    expected, numbers = (tmp_path / "undisturbed/results.csv").read_bytes(), random.Random(0)
    kills = rounds = 0
    while kills < KILLS:
        out, before = tmp_path / f"killed {rounds}", 0
        rounds += 1
        while True:
            process = start_sweep(grid, out, resume=before > 0)
            wanted = before + numbers.randint(1, 12)
            stored = kill_at(process, out, wanted)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL
            assert before < stored
            # In mid-sweep: some rows were there before, some came since, some are missing.
            kills, before = kills + (stored < ALL), stored
        assert (out / "results.csv").read_bytes() == expected
    assert kills >= KILLS


def start_sweep(grid: Path, out: Path, *, resume: bool) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "offsim", "sweep", str(grid), "--out", str(out), "--workers", "1", "--quiet"]
    words += ["--resume"] if resume else []
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def kill_at(process: "subprocess.Popen[bytes]", out: Path, wanted: int) -> int:
    """Kill a sweep once so many rows are stored, unless it ends before; how many there are then."""
    while process.poll() is None:
        if stored_rows(out) >= wanted:
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.001)
    process.communicate()
    return stored_rows(out)


def stored_rows(out: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{out / 'results.sqlite'}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return 0
    try:
        return int(connection.execute("SELECT count(*) FROM rows").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def test_nothing_is_left_behind_when_nothing_was_finished(grid_file, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "result_of", stopping(KeyboardInterrupt(), after=0))
    assert sweep_command(str(grid_file), tmp_path / "out", 1, True) == 130
    assert not (tmp_path / "out").exists()


def die(_: Combination) -> Result:
    os._exit(9)


def test_a_worker_that_dies_is_named_as_the_cause(grid_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(execute, "result_of", die)
    assert sweep_command(str(grid_file), tmp_path / "out", 2, True) == 1
    assert "a worker process died at or after 1 / layerwise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ours", "other", "expected"),
    [
        (TimeRange(1, 1, 1), TimeRange(2, 2, 2), -1),
        (TimeRange(2, 2, 2), TimeRange(1, 1, 1), 1),
        (TimeRange(1, 0.9, 1.2), TimeRange(1.1, 1.1, 1.1), 0),
        (TimeRange(1, 1, 1), TimeRange(1.004, 1.004, 1.004), 0),
    ],
)
def test_times_are_told_apart_only_outside_their_intervals(ours, other, expected):
    assert order(ours, other) == expected


def test_panels_put_policies_against_each_other_by_gpu_count():
    grid = grid_of()
    (panel,) = panels(grid.axes, [result_of(combination).row for combination in grid.combinations])
    assert [line.label for line in panel.lines] == ["1", "2", "3"]
    assert set(panel.lines[1].best()) <= set(panel.lines[1].fitting()) == {"layerwise", "full-model"}
    assert panel.lines[2].best() == []


def test_the_seeds_grid_asks_what_the_seeds_ask():
    assert catalogue.names("grids") == ("seeds",)
    grid = load_grid("seeds")
    assert grid.name == "seeds"
    assert [axis.name for axis in grid.axes] == ["topology", "gpus", "policy"]
    refused = {combination.scenario.workload.gpus for combination in grid.combinations if combination.refused}
    assert (len(grid.combinations), refused) == (175, {6})


def test_the_progress_bar_shows_rows_a_second_and_the_time_left():
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    with progress_bar("rows", quiet=False, console=console) as progress:
        task = progress.add_task("tiny", total=1000, completed=600)
        for _ in range(3):
            time.sleep(0.01)
            progress.advance(task, 100)
    shown = file.getvalue()
    assert "900/1000" in shown and "- rows/s" in shown and "left" in shown
    rates = [float(rate) for rate in re.findall(r"([\d.]+) rows/s", shown.replace(",", ""))]
    # 100 in at least 10 ms each; the 600 that were there before would make it thousands more.
    assert 100 < rates[-1] <= 10_000


@pytest.mark.parametrize(
    ("ours", "other", "said"),
    [
        ({"contention_s": 1.0}, {}, "contention (1.00 s)"),
        ({"contention_s": 0.8, "exposed_copy_s": 0.2}, {}, "mostly contention (0.80 of 1.00 s)"),
        (
            {"contention_s": 1.2},
            {"exposed_copy_s": 0.2},
            "contention (1.20 s, of which other causes take back 0.20 s)",
        ),
    ],
)
def test_the_largest_cause_is_a_part_of_the_difference_or_says_what_takes_some_back(ours, other, said):
    def row(losses: dict[str, float]) -> Row:
        step = 10 + sum(losses.values())
        times = dict.fromkeys(("steady_step_s", "steady_step_low_s", "steady_step_high_s"), step)
        return row_of((), {"status": "ok", **times, **{f"steady_{name}": value for name, value in losses.items()}})

    assert cause(Case("here", row(ours), row(other))) == said


COMPARED = GRID.replace('title = "Tiny"', 'title = "Tiny"\ncompare = ["layerwise", "full-model"]')


def answer_of(grid: Grid) -> str:
    return answer_text(grid, [result_of(combination) for combination in grid.combinations], "", "out")


def test_two_policies_are_compared_where_the_grid_asks_for_it_and_nowhere_else():
    asked, unasked = answer_of(grid_of(COMPARED)), answer_of(grid_of())
    for words in ("step %", "total %", "layerwise over full-model in %", "Total: layerwise beats full-model in"):
        assert words in asked and words not in unasked
    assert "Fastest of what fits" in unasked and " over " not in unasked


@pytest.mark.parametrize(
    ("compare", "said"),
    [
        ('["layerwise", "half-model"]', "compare[1]='half-model': did you mean full-model?"),
        ('["layerwise", "layerwise"]', "compare: expected two different policies"),
        ('["layerwise"]', "compare=['layerwise']: expected an array of 2"),
    ],
)
def test_a_comparison_of_what_a_grid_does_not_have_is_an_error(compare, said):
    with pytest.raises(ScenarioError) as caught:
        grid_of(COMPARED.replace('["layerwise", "full-model"]', compare))
    assert said in str(caught.value)


def test_without_an_axis_of_policies_there_is_nothing_to_compare():
    text = COMPARED.partition("[[axes.policy]]")[0].replace("node =", 'policy = "fsdp"\nnode =')
    with pytest.raises(ScenarioError, match="no axis sets the policy"):
        grid_of(text)


def run_of(policy: str, total: float, step: float, blocks: int | None = None) -> Row:
    """Four steps of so many seconds, and what the total takes besides them."""
    times = dict.fromkeys(("total_s", "total_low_s", "total_high_s"), total)
    times |= {f"steady_step_{name}": step for name in ("s", "low_s", "high_s")}
    return row_of((), {"status": "ok", "policy": policy, "steps": 4, "prefetch_blocks": blocks, **times})


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (5.0, "ours beats other in the only place, by 20.0 %: other takes 1.0 s more besides its steady steps."),
        (4.03, "ours beats other in the only place, by 0.7 %."),
    ],
)
def test_what_a_policy_takes_besides_its_steps_is_said_where_it_is_something(total, said):
    rows = {"ours": run_of("a", 4.0, 1.0), "other": run_of("b", total, 1.0)}
    sentences = findings([Panel("", "gpus", [PanelLine("1", rows)])], ("ours", "other"))
    assert any(sentence.endswith(said) for sentence in sentences)


def compared_in(*times: tuple[tuple[float, float], tuple[float, float]]) -> list[str]:
    """What is said of two policies by their (total, steady step) in each place."""
    lines = [PanelLine(str(i), {"ours": run_of("a", *a), "other": run_of("b", *b)}) for i, (a, b) in enumerate(times)]
    return findings([Panel("", "gpus", lines)], ("ours", "other"))


def test_who_never_wins_is_said_to_lose():
    said = compared_in(((8.0, 2.0), (4.0, 1.0)), ((8.0, 2.0), (4.0, 1.0)))
    assert "Total: ours loses to other in both places (gpus=0: +100.0 %; gpus=1: +100.0 %)." in said
    assert not [sentence for sentence in said if " 0 of " in sentence]
    assert "Steady step: ours is as fast as other (within 0.5 %) in the only place." in compared_in(((4, 1), (5, 1)))


def test_what_wins_with_any_number_of_steps_has_no_number_from_which_on_it_does():
    """Steps of 2 and 1 s; besides, the other takes nothing, and 2.5 s more."""
    said = compared_in(((8.0, 2.0), (4.0, 1.0)), ((8.0, 2.0), (6.5, 1.0)))
    wins = "other wins in total with any number of steps at gpus=0; from 3 steps on at gpus=1."
    assert f"Where its steady step is faster, {wins}" in said


def test_nothing_costs_minus_zero_seconds():
    rows = {"ours": run_of("a", 3.9, 0.95), "other": run_of("b", 4.0 - 0.02, 1.0)}
    sentences = findings([Panel("", "gpus", [PanelLine("1", rows)])], ("ours", "other"))
    assert sentences and not [sentence for sentence in sentences if "-0.0" in sentence]


def test_a_longer_prefetch_is_held_against_the_shortest_of_its_own_policy():
    rows = {
        "short": run_of("a", 8.0, 2.0, blocks=1),
        "long": run_of("a", 6.0, 1.5, blocks=3),
        "another": run_of("b", 4.0, 1.0, blocks=2),
    }
    (sentence,) = [one for one in findings([Panel("", "gpus", [PanelLine("1", rows)])]) if "prefetch" in one]
    assert "steady step by at most 25.0 %" in sentence
