"""A sweep on a cluster: a real scheduler and real worker processes, on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from offsim.scenario.faults import ScenarioError
from offsim.sweep import cluster as cluster_module
from offsim.sweep.run import sweep_command

from .test_sweep import GRID, rows_of, stored_rows

ROWS = 120
TOKENS = f'\n[axes.tokens]\nkey = "workload.tokens"\nfrom = 64\nto = {64 * 30}\nstep = 64\n'
MANY = GRID.replace("tokens = 512, ", "").replace("values = [1, 2, 3]", "values = [1, 2]") + TOKENS

Process = subprocess.Popen[bytes]


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "many.toml"
    path.write_text(MANY)
    return path


@contextmanager
def running(program: str, *words: str, **environment: str) -> Iterator[Process]:
    """A process of dask's, killed at the end."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *words, "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, Process]]:
    """A scheduler's HOST:PORT and its process."""
    file = folder / "scheduler.json"
    with running("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)) as process:
        until(lambda: file.exists() and file.read_text().endswith("}"))
        yield json.loads(file.read_text())["address"].removeprefix("tcp://"), process


def worker(address: str, folder: Path, **environment: str) -> AbstractContextManager[Process]:
    words = (address, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder))
    return running("worker", *words, **environment)


def until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def begin(grid: Path, address: str, out: Path, *more: str) -> Process:
    words = ["sweep", str(grid), "--engine", f"dask://{address}", "--out", str(out), "--quiet", *more]
    return subprocess.Popen([sys.executable, "-m", "offsim", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def end(process: Process) -> tuple[int, str]:
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors.decode()


def test_a_cluster_finds_the_rows_that_this_machine_finds_though_a_worker_is_killed_in_mid_sweep(grid, tmp_path):
    assert sweep_command(str(grid), tmp_path / "here", 1, True) == 0
    with scheduler(tmp_path) as (address, _), worker(address, tmp_path) as first, worker(address, tmp_path):
        assert end(begin(grid, address, tmp_path / "there")) == (0, "")
        process = begin(grid, address, tmp_path / "killed")
        until(lambda: stored_rows(tmp_path / "killed") >= 10)
        first.kill()
        assert stored_rows(tmp_path / "killed") < ROWS
        assert end(process) == (0, "")
    expected = (tmp_path / "here/results.csv").read_bytes()
    assert len(rows_of(tmp_path / "here")) == ROWS
    assert (tmp_path / "there/results.csv").read_bytes() == expected
    assert (tmp_path / "killed/results.csv").read_bytes() == expected


def test_when_the_scheduler_dies_what_is_stored_stays_and_is_resumed_from_here(grid, tmp_path):
    out = tmp_path / "out"
    with scheduler(tmp_path) as (address, leader), worker(address, tmp_path):
        process = begin(grid, address, out)
        until(lambda: stored_rows(out) >= 10)
        leader.send_signal(signal.SIGKILL)
        code, said = end(process)
    assert code == 1 and "Traceback" not in said
    assert "the scheduler is gone" in said and "--resume goes on" in said
    assert 10 <= stored_rows(out) < ROWS
    assert sweep_command(str(grid), out, 1, True, resume=True) == 0
    assert len(rows_of(out)) == ROWS


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "CONNECTING", 0.5)


def refusal(grid: Path, engine: str, workers: int | None = None) -> str:
    with pytest.raises(ScenarioError) as caught:
        sweep_command(str(grid), grid.parent / "out", workers, True, engine=engine)
    assert not (grid.parent / "out").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_when_no_worker_is_left_that_is_said_and_what_is_stored_stays(grid, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster_module, "CONNECT_PATIENCE", 0.5)
    out = tmp_path / "out"
    with scheduler(tmp_path) as (address, _), worker(address, tmp_path) as only:
        Thread(target=kill_once_stored, args=(only, out)).start()
        assert sweep_command(str(grid), out, None, True, engine=f"dask://{address}") == 1
    assert "the cluster has had no workers for 0.5 s; --resume goes on" in capsys.readouterr().err
    assert 10 <= stored_rows(out) < ROWS


def kill_once_stored(process: Process, out: Path) -> None:
    until(lambda: stored_rows(out) >= 10)
    process.kill()


def test_an_unreachable_scheduler_is_one_sentence(grid, hurried):
    with socket.socket() as taken:  # Bound, but not listening.
        taken.bind(("127.0.0.1", 0))
        address = f"dask://127.0.0.1:{taken.getsockname()[1]}"
        assert f"--engine {address}: no scheduler answers there within 0.5 s" in refusal(grid, address)


def test_a_scheduler_without_workers_is_one_sentence(grid, tmp_path, hurried):
    with scheduler(tmp_path) as (address, _):
        assert "the scheduler has no workers; `dask worker" in refusal(grid, f"dask://{address}")


def version_by_place() -> str:
    return os.environ.get("OTHER_OFFSIM", "1.0.0")


def test_a_worker_with_another_offsim_is_one_sentence(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "offsim_version", version_by_place)
    with scheduler(tmp_path) as (address, _), worker(address, tmp_path, OTHER_OFFSIM="0.9.0"):
        assert "has offsim 0.9.0; install 1.0.0 there" in refusal(grid, f"dask://{address}")


def test_without_the_extra_the_sentence_names_it(grid, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'offsim[cluster]'" in refusal(grid, "dask://127.0.0.1:1")


@pytest.mark.parametrize("engine", ["dask", "dask://", "dask://host", "dask://host:port", "ray://host:1", ""])
def test_an_engine_is_local_or_an_address(grid, engine):
    assert refusal(grid, engine) == (
        f"--engine {engine}: expected local or dask://HOST:PORT, as in dask://10.0.0.1:8786"
    )


def test_a_cluster_has_its_own_workers(grid):
    assert "--workers=2: the workers of --engine dask://h:1 are the cluster's" in refusal(grid, "dask://h:1", 2)
