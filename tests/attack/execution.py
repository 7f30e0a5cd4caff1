"""One case in this process: its folder, its limits, and what it answered.

Output is taken from the descriptors, so that of child processes is seen too. Time is this process's own processor
time, since others may be busy beside it; a case that waits is given up by the clock.
"""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from .case import ELSEWHERE, PRECIOUS, WORK, Case, File
from .sessions import is_busy, members

LIMIT = 10.0
"""Seconds of processor time."""
SAYS_SO = 1.5
"""Seconds within which a case that takes longer must have said how long it takes."""
SAYS_SO_AT_MOST = 5.0
"""The same on the clock, beside others that are busy."""
PATIENCE = 60.0
"""Seconds on the clock after which a case hangs."""
AGAIN = 0.5
"""Seconds between two looks: the exception of one may be lost in a destructor or the like."""
STATUS, RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Answer(NamedTuple):
    """What a case came to."""

    code: int | None
    """None: it was stopped."""
    stdout: bytes
    stderr: bytes
    seconds: float
    """Of processor time."""
    peak: int
    """Resident bytes at most."""
    early: bytes = b""
    """What stood on stderr when a longer time had to be announced; empty if it ended before."""
    stopped: str = ""


class Stop(BaseException):
    """The limit is reached: no `except Exception` may catch it."""


def offsim(arguments: list[str]) -> None:
    """The command line."""
    from offsim.cli import main

    main(arguments)


def fit(arguments: list[str]) -> None:
    """python -m calibration.fit."""
    from calibration.fit.__main__ import fit_folder
    from calibration.samples.script import run_script

    run_script(lambda: [fit_folder(Path(name)) for name in arguments] and None)


def config(arguments: list[str]) -> None:
    """What a script does with from_diffusers_config."""
    from calibration.samples.script import run_script
    from offsim.scenario.diffusers import from_diffusers_config

    run_script(lambda: print(from_diffusers_config(arguments[0]).parameters))


def validate(arguments: list[str]) -> None:
    """`offsim validate` of another folder of nodes."""
    from calibration.samples.script import run_script
    from calibration.validate.command import validate_command

    run_script(lambda: validate_command(json="--json" in arguments, root=Path(arguments[0])) and None)


ENTRIES: dict[str, Callable[[list[str]], None]] = {"offsim": offsim, "fit": fit, "config": config, "validate": validate}


def lay_out(case: Case, root: Path) -> None:
    """The case's folders and all that stands in them."""
    (root / WORK).mkdir(parents=True)
    (root / ELSEWHERE).mkdir()
    (root / ELSEWHERE / "precious").write_bytes(PRECIOUS)
    for name, content in case.contents:
        path = root / WORK / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content.make(path)


def harm(case: Case, root: Path) -> Iterator[str]:
    """What a case changed that it must not."""
    if sorted(path.name for path in root.iterdir()) != sorted((WORK, ELSEWHERE)):
        yield f"files beside its folder: {[path.name for path in root.iterdir()]}"
    found = {path.name: path.read_bytes() for path in (root / ELSEWHERE).iterdir() if path.is_file()}
    if found != {"precious": PRECIOUS}:
        yield f"files elsewhere: {sorted(found)}, {found.get('precious', b'')[:40]!r}"
    known = {Path(name).parts[0] for name, _ in case.contents} | set(case.outputs)
    new = sorted(path.name for path in (root / WORK).iterdir() if path.name not in known)
    if new:
        yield f"unasked files: {new}"
    for name, content in case.contents:
        path = root / WORK / name
        if isinstance(content, File) and not content.size and Path(name).parts[0] not in case.outputs:
            with suppress(OSError):
                if not path.is_file() or path.read_bytes() != content.content:
                    yield f"changed file: {name}"


def attempt(case: Case, root: Path) -> Answer:
    """Run a laid-out case in its folder."""
    before = Path.cwd()
    os.chdir(root / WORK)
    out, err = root.parent / f"{root.name}.out", root.parent / f"{root.name}.err"
    try:
        with _output_to(out, err):
            code, seconds, peak, early, stopped = _within_limits(case, err)
        return Answer(code, out.read_bytes(), err.read_bytes(), seconds, peak, early, stopped)
    finally:
        os.chdir(before)
        out.unlink(missing_ok=True)
        err.unlink(missing_ok=True)


def _within_limits(case: Case, err: Path) -> tuple[int | None, float, int, bytes, str]:
    early, over, raised_at = b"", False, -AGAIN

    def on_time(number: int, frame: FrameType | None) -> None:
        nonlocal early, raised_at
        passed = time.monotonic() - begun_at
        # Two timers end here: one that follows the other's exception at once would be raised in its `except`.
        if over or passed - raised_at < AGAIN / 2:
            return
        early = early or err.read_bytes() or b"-"
        if passed > PATIENCE or _processor_seconds() - begun > LIMIT:
            raised_at = passed
            hangs = passed > PATIENCE and not is_busy(os.getsid(0), before + LIMIT)
            raise Stop("hangs" if hangs else "takes long")

    stopped, code = "", None
    begun, begun_at = _processor_seconds(), time.monotonic()
    before = sum(member.seconds for member in members(os.getsid(0)))
    RESET_PEAK.write_text("5")
    with _timers(on_time):
        try:
            code = _exit_code(case)
            over = True
        except Stop as stop:
            over = True
            stopped = str(stop)
    return code, _processor_seconds() - begun, _peak(), early, stopped


def _exit_code(case: Case) -> int:
    """As the interpreter would end."""
    try:
        ENTRIES[case.entry](list(case.arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return -signal.SIGINT
    except Exception:
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def _timers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, handler)
    signal.setitimer(signal.ITIMER_REAL, SAYS_SO_AT_MOST, AGAIN)
    signal.setitimer(signal.ITIMER_PROF, SAYS_SO, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def _output_to(out: Path, err: Path) -> Iterator[None]:
    """Descriptors 1 and 2, and Python's streams over them as it opens them in a UTF-8 locale."""
    streams, kept = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = streams
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


def _processor_seconds() -> float:
    return time.process_time()


def _peak() -> int:
    """Resident bytes at most since the last reset."""
    line = next((line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")), "")
    return int(line.split()[1]) * 1024 if line else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
