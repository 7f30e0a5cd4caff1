"""Cases as processes of their own: with environments, locales, and outputs that nobody takes."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import BinaryIO

from .case import WORK, Case
from .execution import LIMIT, PATIENCE, SAYS_SO_AT_MOST, Answer, lay_out
from .kinds import KINDS
from .sessions import is_busy, lives
from .trial import Verdict, all_faults

ROOT = Path(__file__).parents[2]
COMMANDS = {"offsim": ("-m", "offsim"), "fit": ("-m", "calibration.fit")}
ENVIRONMENTS: tuple[tuple[str, str], ...] = (
    *(("COLUMNS", value) for value in ("1", "0", "-5", "text", "20", "100000", "")),
    *(("LINES", value) for value in ("0", "text")),
    *(("LC_ALL", value) for value in ("C", "POSIX", "nonsense")),
    *(("PYTHONIOENCODING", value) for value in ("ascii", "latin-1", "ascii:ignore")),
    ("PYTHONUTF8", "0"),
    ("TERM", "dumb"),
    ("TERM", ""),
    ("HOME", "/nonexistent"),
    ("TMPDIR", "/nonexistent"),
    ("PYTHONWARNINGS", "error"),
    ("WORLD_SIZE", "text"),
    ("PATH", ""),
)
OUTPUTS = ("pipe", "pipe", "pipe", "pipe", "closed", "full", "gone")
LONGEST_ARGUMENT = 100_000
LEAVES_WITHIN = 2.0
"""Seconds after a command's end in which what it started ends too."""


def process_case(seed: int, number: int) -> tuple[str, Case]:
    """A case of any kind that a shell can start, in an environment of its own."""
    random = Random(f"{seed}/process {number}")
    while True:
        kind = random.choice(sorted(KINDS))
        case = KINDS[kind](random)
        if case.entry in COMMANDS and not any("\0" in word or len(word) > LONGEST_ARGUMENT for word in case.arguments):
            break
    environment = tuple(random.sample(ENVIRONMENTS, random.choice((0, 1, 2))))
    stdout = random.choice(OUTPUTS)
    names = case.names if stdout == "pipe" else ()
    return kind, case._replace(environment=environment, stdout=stdout, names=names)


def process_trial(seed: int, number: int, keep: Path | None = None) -> tuple[Verdict, Answer]:
    """Try a case as a process, in a new folder, which stays if it is named."""
    kind, case = process_case(seed, number)
    with tempfile.TemporaryDirectory(prefix="attack-") as new:
        root = (keep or Path(new)) / "case"
        lay_out(case, root)
        answer, left = _run(case, root)
        found = (*all_faults(case, answer, root), *(["processes left behind"] if left else []))
    end = answer.stderr.decode("utf-8", "replace")[-1500:]
    kind = f"{kind} process"
    return Verdict(number, kind, answer.code, answer.seconds, answer.peak, found, case.arguments, end), answer


def _run(case: Case, root: Path) -> tuple[Answer, bool]:
    """What the process answers, and whether anything that it started outlives it."""
    out, err = root.parent / "out", root.parent / "err"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict(case.environment)}
    environment.pop("COLUMNS", None) if "COLUMNS" not in dict(case.environment) else None
    command = [sys.executable, *COMMANDS[case.entry], *case.arguments]
    with _output(case.stdout, out) as stdout, err.open("wb") as stderr:
        begun = time.monotonic()
        process = subprocess.Popen(
            _closing(command) if case.stdout == "closed" else command,
            cwd=root / WORK,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    code, usage, early, stopped = _waited(process.pid, err, begun)
    process.returncode = code
    left = _outlives(process.pid)
    seconds = min(time.monotonic() - begun, usage.ru_utime + usage.ru_stime)
    stdout_bytes = out.read_bytes() if out.is_file() else b""
    answer = Answer(None if stopped else code, stdout_bytes, err.read_bytes(), seconds, usage.ru_maxrss * 1024, early)
    return answer._replace(stopped=stopped), left


def _closing(command: list[str]) -> list[str]:
    return ["/bin/sh", "-c", 'exec "$0" "$@" >&-', *command]


def _output(kind: str, path: Path) -> BinaryIO:
    """Where a process's standard output goes."""
    if kind == "full":
        return Path("/dev/full").open("wb")
    if kind == "gone":
        reader, writer = os.pipe()
        os.close(reader)
        return os.fdopen(writer, "wb")
    return path.open("wb")


def _waited(pid: int, err: Path, begun: float) -> tuple[int, "os._Rusage", bytes, str]:
    """Exit code, usage, what stood on stderr early, and why it was stopped."""
    early, stopped = b"", ""
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage, early, stopped
        passed = time.monotonic() - begun
        if passed > SAYS_SO_AT_MOST and not early:
            early = err.read_bytes() or b"-"
        if passed > PATIENCE and not stopped:
            stopped = "takes long" if is_busy(pid, LIMIT) else "hangs"
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.02)


def _outlives(pid: int) -> bool:
    """Whether the session still has a process after a while; ends it."""
    deadline = time.monotonic() + LEAVES_WITHIN
    while time.monotonic() < deadline:
        if not lives(pid):
            return False
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return True
