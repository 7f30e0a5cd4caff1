"""Worker processes: started, listened to, given up, started again.

A worker speaks one JSON object per line (see calibration.live.worker). It lives in a process group of its own, which is
killed as a whole; a launcher's ranks leave that group, so they are found by a mark in their environment.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from calibration.probes import Probe
from calibration.probes.probe import CalibrationMode
from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import SampleFile, sample_key

WorkerCommand = Callable[[Path, Sequence[str], str, Inventory], list[str]]
MOST_DEATHS = 2
"""How many workers in a row may end without a new sample before a calibration gives up."""
LONGEST_WORKER_MESSAGE = 300
MARK = "OFFSIM_WORKER"
"""Environment variable with a value of its own for each worker and what it starts."""
EXIT_TIMEOUT = 10.0
"""Seconds that a process whose output has ended may take to end."""
DONE, SILENT = "done", "silent"


@dataclass
class MeasuringOutcome:
    """What became of a group of probes: why some were not measured, and what ended it early."""

    waived: dict[str, str] = field(default_factory=dict)
    """Key of a probe -> why it, or a part of it, was not measured."""
    failure: str = ""


def worker_command(file: Path, probes: Sequence[str], mode: str, inventory: Inventory) -> list[str]:
    """The command line that starts a worker: one process alone, or one per GPU."""
    tied = ["-m", "calibration.calibrate.tied"]
    launcher = [sys.executable, *tied]
    if inventory.gpus > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(inventory.gpus), *tied]
    return [*launcher, "calibration.live.worker", "--samples", str(file), "--probes", ",".join(probes), "--mode", mode]


def run_workers(
    file: Path,
    probes: Sequence[Probe],
    mode: CalibrationMode,
    inventory: Inventory,
    limit_seconds: float,
    command: WorkerCommand = worker_command,
    environment: dict[str, str] | None = None,
) -> MeasuringOutcome:
    """Measure what the file does not hold yet; returns when every probe is measured, waived or given up."""
    outcome = MeasuringOutcome()
    left = [probe for probe in probes if not _waive(probe, inventory, outcome)]
    deaths = 0
    with _progress() as progress:
        total = sum(len(probe.configurations(mode, inventory)) for probe in left)
        task = progress.add_task("", total=total, completed=len(_done(file, left, mode, inventory)))
        while left and not outcome.failure:
            _mend(file)
            before = len(_done(file, left, mode, inventory))
            progress.update(task, completed=before)
            worker = Worker(command(file, [p.key for p in left], mode, inventory), environment or {})
            ended = _listen(worker, progress, task, limit_seconds, outcome)
            if ended == DONE:
                break
            if ended in {probe.key for probe in left}:  # it hung
                outcome.waived[ended] = f"showed nothing for {limit_seconds:g} s"
                left = [probe for probe in left if probe.key != ended]
                continue
            deaths = 0 if len(_done(file, left, mode, inventory)) > before else deaths + 1
            if deaths >= MOST_DEATHS:
                how = f"showed nothing for {limit_seconds:g} s" if ended == SILENT else "ended early"
                outcome.failure = f"the measuring process {how} twice ({worker.last_words})"
    return outcome


def _mend(file: Path) -> None:
    """Drop what a worker that was ended, or a full disk, left of a line: the next worker appends to it."""
    samples = SampleFile(file)
    samples.begin(samples.header())


def _waive(probe: Probe, inventory: Inventory, outcome: MeasuringOutcome) -> bool:
    reason = probe.can_run(inventory)
    if reason:
        outcome.waived[probe.key] = reason
    return bool(reason)


def _done(file: Path, probes: Sequence[Probe], mode: CalibrationMode, inventory: Inventory) -> set[tuple[str, str]]:
    """Keys of the probes' configurations that the file holds already."""
    wanted = {sample_key(p.key, config) for p in probes for config in p.configurations(mode, inventory)}
    return wanted & SampleFile(file).done()


def _progress() -> Progress:
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    from rich.console import Console

    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _listen(worker: "Worker", progress: Progress, task: Any, limit_seconds: float, outcome: MeasuringOutcome) -> str:
    """Follow a worker: DONE, the key of the probe in which it hung, SILENT before any probe, or empty if it died."""
    probe = ""
    try:
        while True:
            event = worker.next_event(limit_seconds)
            if event is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(EXIT_TIMEOUT)
                return ""
            if event["event"] == "silence":
                return probe or SILENT
            probe = str(event.get("probe", probe))
            progress.update(task, description=probe)
            if event["event"] == "sample":
                progress.advance(task)
            elif event["event"] in ("waived", "failed"):
                outcome.waived[probe] = str(event["reason"])[:LONGEST_WORKER_MESSAGE]
            elif event["event"] == "done":
                return DONE
    finally:
        worker.end()


class Worker:
    """One measuring process, or several under a launcher."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._mark = f"{MARK}={uuid.uuid4().hex}"
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends: see calibration.calibrate.tied
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            env={**os.environ, **environment, MARK: self._mark.partition("=")[2]},
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self.last_words = ""
        """The last line that it wrote to standard error, and how it ended."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def next_event(self, limit_seconds: float) -> dict[str, Any] | None:
        """The worker's next event; None when it has ended, and an event `silence` after the limit."""
        deadline = time.monotonic() + limit_seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return {"event": "silence"}
            if line is None:
                return None
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a library that prints
            if isinstance(event, dict) and "event" in event:
                return event

    def end(self) -> None:
        """End the process and everything that it started; what it said last stays known."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in _marked(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        code = self.process.returncode
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        self.last_words = f"{lines[-1][:LONGEST_WORKER_MESSAGE]}; {ended}" if lines else ended
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _marked(mark: str) -> list[int]:
    """Ids of processes that have this mark in their environment; none where there is no /proc."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found
