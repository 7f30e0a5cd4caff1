"""`offsim replay`: one scenario on the live devices, predicted beside measured, per step, kind of wait and memory.

Steps are timed in a run without instruments; where their time went is read off a second run with an event around every
command, which costs the host a little. Both, and the prediction, are kept.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.table import Table

from calibration.samples.inventory import refuse_busy_gpus
from offsim.cli_catalogue import emit, write
from offsim.program.load import load_scenario_on
from offsim.results.document import SCHEMA_VERSION, run_document
from offsim.results.layout import gib, new_table, seconds, spaced
from offsim.results.metrics import LOSSES, STEP_METRICS, UNIT_FACTORS, TimedStep, values
from offsim.results.predict import Prediction, predict
from offsim.results.steps import UseRow, step_rows
from offsim.results.tables import LOSS_NAMES
from offsim.scenario.faults import ScenarioError
from offsim.scenario.files import replacing
from offsim.scenario.scenario import Scenario
from offsim.scenario.wording import file_name, shown

from .session import Session, close_session, merged, open_session

MEASURED = (*(metric for metric in STEP_METRICS if metric.name in ("index", "phase", "step_s")), *LOSSES)
"""What a replay says of each step, by the names that predictions have for it."""


class ReplayedRun(NamedTuple):
    """What the devices did in a replay: its steps, and its peak of memory."""

    rows: list[UseRow]
    """Durations without instruments, losses from the instrumented run."""
    peak_allocated: int


def replay_command(scenario: str, node: str, out: Path | None, *, cpu: bool) -> int:
    """Replay a scenario, print predicted beside measured and save both; returns the exit code."""
    question = load_scenario_on(scenario, node)
    _check_ranks(question)
    if out is not None:
        _check_folder(out)
    if cpu:
        _check_memory(question)
    session = _open(cpu)
    replayed = replay_scenario(session, question)
    code = _report(question, replayed, out) if session.communicator.rank == 0 else 0
    close_session(session)
    return code


def _check_folder(folder: Path) -> None:
    """Say before a replay, not after it, that its results could not be kept there."""
    present = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not present.is_dir():
        raise ScenarioError(f"--out {file_name(folder)}: {file_name(present)} is no directory")
    if not os.access(present, os.W_OK):
        raise ScenarioError(f"--out {file_name(folder)}: permission denied")


def _check_ranks(scenario: Scenario) -> None:
    world, wanted = os.environ.get("WORLD_SIZE", "1"), scenario.workload.gpus
    if not world.isdecimal() or len(world) > 4:
        raise ScenarioError(f"WORLD_SIZE={shown(world)}: expected the number of processes, as torchrun sets it")
    started = int(world)
    if started != wanted:
        command = f"torchrun --nproc_per_node {wanted} -m offsim replay ..."
        raise ScenarioError(f"workload.gpus={wanted}: {started} process{'es' if started > 1 else ''}; use {command}")


def _check_memory(scenario: Scenario) -> None:
    """On a CPU all ranks' host and device memory is this machine's."""
    phases = predict(scenario).phases
    needed = scenario.workload.gpus * max(peak.allocated + peak.pinned + peak.pageable for peak in phases)
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > has:
        raise ScenarioError(
            f"replay --cpu: needs {gib(needed)} GiB, weights of the text encoder included, and this machine has "
            f"{gib(has)}; take a tiny model"
        )


def _open(cpu: bool) -> Session:
    import torch

    if not cpu and not torch.cuda.is_available():
        raise ScenarioError("replay: no CUDA GPU here; --cpu runs tiny scenarios without one")
    if not cpu:
        refuse_busy_gpus("replay")
    return open_session(cpu=cpu)


def replay_scenario(session: Session, scenario: Scenario) -> ReplayedRun:
    """Run the scenario's program twice, without and with instruments, after a first run that warms up."""
    timed, traced = session.executor(scenario), session.executor(scenario, spans=True)
    timed.run()
    timed.memory.clear()
    level = session.begin_peak()
    rows = step_rows(timed.program, merged(session, timed.run()))
    peak = max(session.communicator.gathered(session.peak_since(level)))
    timed.memory.clear()
    seen = step_rows(traced.program, merged(session, traced.run()))
    paired = zip(rows, seen, strict=True)
    return ReplayedRun(
        [
            UseRow(row.use, row.duration, other.losses, row.h2d_bytes, row.d2h_bytes, row.collective_bytes)
            for row, other in paired
        ],
        peak,
    )


def _report(scenario: Scenario, replayed: ReplayedRun, out: Path | None) -> int:
    prediction = predict(scenario)
    emit(*spaced([_steps(prediction, replayed), _waits(prediction, replayed), _memory(prediction, replayed)]))
    path = _save(prediction, replayed, out)
    return write(f"\nkept in {path}\n")


def _error(predicted: float, measured: float) -> str:
    return f"{100 * (predicted / measured - 1):+.1f} %" if measured else "-"


def _steps(prediction: Prediction, replayed: ReplayedRun) -> Table:
    table = new_table("steps", "step", "predicted", "measured", "error")
    for ours, theirs in zip(prediction.steps, replayed.rows, strict=True):
        error = _error(ours.duration, theirs.duration)
        table.add_row(f"{ours.index} {ours.use.kind}", seconds(ours.duration), seconds(theirs.duration), error)
    return table


def _waits(prediction: Prediction, replayed: ReplayedRun) -> Table:
    """Where a steady step's time went."""
    index = prediction.steady_index
    ours, theirs = prediction.steps[index], replayed.rows[index]
    table = new_table(f"where step {index} went", "kind", "predicted", "measured")
    for field, name in LOSS_NAMES.items():
        measured = getattr(theirs.losses, field)
        # What others cost a kernel or a copy cannot be seen in a measured span: it is part of it.
        shown = "in the others" if field == "contention" else seconds(measured)
        table.add_row(name, seconds(getattr(ours.losses, field)), shown)
    return table


def _memory(prediction: Prediction, replayed: ReplayedRun) -> Table:
    table = new_table("memory", "", "predicted GiB", "measured GiB", "error")
    ours, theirs = prediction.peak_allocated, replayed.peak_allocated
    table.add_row("peak allocated", gib(ours), gib(theirs), _error(ours, theirs))
    return table


def _save(prediction: Prediction, replayed: ReplayedRun, out: Path | None) -> Path:
    """Predicted and measured as JSON, under a name that is not taken."""
    folder = out or Path("offsim-results") / f"replay-{prediction.scenario.name or 'scenario'}"
    path, number = folder, 1
    while path.exists() and any(path.iterdir()):
        number += 1
        path = folder.with_name(f"{folder.name}-{number}")
    path.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "steps": [values(MEASURED, TimedStep(row, row.duration, row.duration)) for row in replayed.rows],
        "peak_allocated_GiB": replayed.peak_allocated / UNIT_FACTORS["GiB"],
    }
    for name, content in (("predicted.json", run_document(prediction)), ("measured.json", measured)):
        with replacing(path / name) as file:
            file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    return path
