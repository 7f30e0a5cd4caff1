"""A process that is struck by signals: started in a session of its own, struck at a moment, watched to its end.

What it starts is found by a mark in its environment, so nobody can hide by leaving its group.
"""

import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MARK = "OFFSIM_STRUCK"
GONE = 2.0
"""Seconds after a process's end within which all that it started has ended, and its output too."""
POLLING = 0.0005
PATIENCE = 30.0
"""Seconds within which a process that was asked to end has to."""
CODES = {
    signal.SIGKILL: -signal.SIGKILL,
    signal.SIGINT: 128 + signal.SIGINT,
    signal.SIGTERM: 128 + signal.SIGTERM,
    signal.SIGHUP: 128 + signal.SIGHUP,
}
"""What a process ends with that a signal ended."""
SHOWS_CODE = ("Traceback", "Exception ignored", "Fatal Python error", "KeyboardInterrupt")

Process = subprocess.Popen[bytes]
Moment = Callable[[Process], str | None]
"""Waits for the moment to strike, and names it; None if the process ended before."""


class Blow(NamedTuple):
    """What strikes a process."""

    number: signal.Signals
    group: bool
    """Whether it strikes the whole group."""
    again: float | None = None
    """Seconds until it comes again; None: only once."""
    terminal: bool = False
    """Whether the errors go to a terminal, where progress is shown."""

    @property
    def kind(self) -> str:
        """Its column in the table."""
        name = self.number.name.removeprefix("SIG") + (" twice" if self.again is not None else "")
        return f"{name} {'group' if self.group else 'process'}"


class Struck(NamedTuple):
    """How it ended."""

    moment: str | None
    code: int | None
    """None: it didn't, and was killed."""
    errors: str
    left: int
    """Processes that were still there after `GONE`."""
    held: bool
    """Whether somebody still held its output then."""

    before_our_code: bool
    """Whether Python was still starting then, which no program can do anything about."""


def when(process: Process, seconds: float) -> bool:
    """Whether it still runs after so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and process.poll() is None:
        time.sleep(min(left, POLLING))
    return process.poll() is None


def answers(process: Process) -> bool:
    """Whether it has come to answering signals (or to ignoring them, at its end)."""
    with suppress(OSError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigCgt:", "SigIgn:"))]
        return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in masks)
    return True


class Reader(Thread):
    """Reads a descriptor to its end."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self.descriptor, self.content = descriptor, bytearray()
        self.start()

    def run(self) -> None:
        with suppress(OSError):  # how a terminal says that nobody has it open any more
            while some := os.read(self.descriptor, 65536):
                self.content += some
        os.close(self.descriptor)


def strike(words: Sequence[str], blow: Blow, moment: Moment, cwd: Path) -> Struck:
    """Start a command line, strike it and see how it ends."""
    mark = uuid.uuid4().hex
    process, readers = _start(words, blow, {**os.environ, MARK: mark}, cwd)
    try:
        struck = moment(process)
        ours = struck is None or answers(process)
        _hit(process, blow)
        code = _code(process)
        ended = time.monotonic()
        held = [reader for reader in readers if _outlasts(reader, ended)]
        left = _left(mark, ended)
        return Struck(struck, code, readers[1].content.decode(errors="replace"), left, bool(held), not ours)
    finally:
        for pid in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _start(words: Sequence[str], blow: Blow, environment: dict[str, str], cwd: Path) -> tuple[Process, list[Reader]]:
    # What this process ignores those would too, as a shell's background jobs do with Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    output, into = os.pipe()
    errors, errors_into = pty.openpty() if blow.terminal else os.pipe()
    try:
        process = Process(
            words, stdout=into, stderr=errors_into, stdin=subprocess.DEVNULL,
            cwd=cwd, env=environment, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(into)
        os.close(errors_into)
        signal.signal(signal.SIGINT, before)
    return process, [Reader(output), Reader(errors)]


def _hit(process: Process, blow: Blow) -> None:
    send = os.killpg if blow.group else os.kill
    with suppress(ProcessLookupError):
        send(process.pid, blow.number)
        if blow.again is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(blow.again)
            send(process.pid, blow.number)


def _code(process: Process) -> int | None:
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def _outlasts(reader: Reader, ended: float) -> bool:
    reader.join(max(0.0, ended + GONE - time.monotonic()))
    return reader.is_alive()


def _left(mark: str, ended: float) -> int:
    """Processes that are there longer than they may."""
    while (there := len(marked(mark))) and time.monotonic() < ended + GONE:
        time.sleep(0.02)
    return there


def marked(mark: str) -> list[int]:
    """Living processes with this mark; a dead one whose parent hasn't noticed has no environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def faults(seen: Struck, blow: Blow, said: Callable[[str], bool], own: Sequence[int] = (0,)) -> list[str]:
    """What a struck process did that it must not.

    `said` tells which of its lines are fine; `own` is how it may end of itself, since a signal may come too late.
    """
    found = [f"{seen.left} processes left after {GONE:g} s"] if seen.left else []
    found += [f"its output is still held after {GONE:g} s"] if seen.held else []
    if seen.before_our_code:
        return found
    if seen.code not in (CODES[blow.number], *own):
        found.append(f"exit code {seen.code}")
    lines = [line for line in seen.errors.splitlines() if line.strip()]
    if any(word in seen.errors for word in SHOWS_CODE) or not (blow.terminal or all(map(said, lines))):
        found.append("it says " + " | ".join(lines)[-1500:])
    return found


def command(script: bool) -> list[str]:
    """offsim's two entries: the module, or the script that was installed beside this Python."""
    return [str(Path(sys.executable).with_name("offsim"))] if script else [sys.executable, "-m", "offsim"]
