"""Worker processes: started, listened to, given up, started again.

A worker speaks one JSON object per line (see calibration.live.worker). It lives in a process group of its own, which is
killed as a whole, so that nothing is left behind.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from calibration.inventory import Inventory
from calibration.probes import Probe
from calibration.probes.probe import Mode
from calibration.samples import SampleFile, sample_key

Command = Callable[[Path, Sequence[str], str, Inventory], list[str]]
MOST_DEATHS = 2
"""Workers in a row that may end without a new sample."""
LONGEST_MESSAGE = 300


@dataclass
class Outcome:
    """What became of a group of probes."""

    waived: dict[str, str] = field(default_factory=dict)
    """Probe -> why it (or a part of it) was not measured."""
    failure: str = ""


def worker_command(file: Path, probes: Sequence[str], mode: str, inventory: Inventory) -> list[str]:
    """How a worker is started: alone, or one process per GPU."""
    launcher = [sys.executable, "-m"]
    if inventory.gpus > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(inventory.gpus), "-m"]
    arguments = ["--samples", str(file), "--probes", ",".join(probes), "--mode", mode, "--watched"]
    return [*launcher, "calibration.live.worker", *arguments]


def run_workers(
    file: Path,
    probes: Sequence[Probe],
    mode: Mode,
    inventory: Inventory,
    limit_seconds: float,
    command: Command = worker_command,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Measure what the file does not hold yet; returns when all is measured, waived or hopeless."""
    outcome = Outcome()
    left = [probe for probe in probes if not _waive(probe, inventory, outcome)]
    deaths = 0
    with _progress() as progress:
        total = sum(len(probe.configurations(mode, inventory)) for probe in left)
        task = progress.add_task("", total=total, completed=len(_done(file, left, mode, inventory)))
        while left and not outcome.failure:
            before = len(_done(file, left, mode, inventory))
            worker = Worker(command(file, [p.key for p in left], mode, inventory), environment or {})
            ended = _listen(worker, progress, task, limit_seconds, outcome)
            if ended == "done":
                break
            if ended:  # a probe that hung
                outcome.waived[ended] = f"showed nothing for {limit_seconds:g} s"
                left = [probe for probe in left if probe.key != ended]
                continue
            deaths = 0 if len(_done(file, left, mode, inventory)) > before else deaths + 1
            if deaths >= MOST_DEATHS:
                outcome.failure = f"the measuring process ended early twice ({worker.last_words})"
    return outcome


def _waive(probe: Probe, inventory: Inventory, outcome: Outcome) -> bool:
    reason = probe.can_run(inventory)
    if reason:
        outcome.waived[probe.key] = reason
    return bool(reason)


def _done(file: Path, probes: Sequence[Probe], mode: Mode, inventory: Inventory) -> set[tuple[str, str]]:
    """Configurations of these probes that the file holds."""
    wanted = {sample_key(p.key, config) for p in probes for config in p.configurations(mode, inventory)}
    return wanted & SampleFile(file).done()


def _progress() -> Progress:
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    from rich.console import Console

    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _listen(worker: "Worker", progress: Progress, task: Any, limit_seconds: float, outcome: Outcome) -> str:
    """Follow a worker: `done`, the key of the probe in which it hung, or empty if it died."""
    probe = ""
    try:
        while True:
            event = worker.next_event(limit_seconds)
            if event is None:
                worker.process.wait()
                return ""
            if event["event"] == "silence":
                return probe or "start"
            probe = str(event.get("probe", probe))
            progress.update(task, description=probe)
            if event["event"] == "sample":
                progress.advance(task)
            elif event["event"] in ("waived", "failed"):
                outcome.waived[probe] = str(event["reason"])[:LONGEST_MESSAGE]
            elif event["event"] == "done":
                return "done"
    finally:
        worker.end()


class Worker:
    """One measuring process (or several, under a launcher)."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends: the worker then ends too
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            env={**os.environ, **environment},
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
        """The next event; None when the process has ended; `silence` after the limit."""
        while True:
            try:
                line = self._lines.get(timeout=limit_seconds)
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
        self.process.wait()
        self._reader.join()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        code = self.process.returncode
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        self.last_words = f"{lines[-1][:LONGEST_MESSAGE]}; {ended}" if lines else ended
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
