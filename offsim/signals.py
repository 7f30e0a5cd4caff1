"""Ctrl-C, SIGTERM and SIGHUP: at any moment the process ends quietly, with the exit code 128 + signal.

While the program is still being loaded there is nothing to put in order, and it ends at once. After that the first
signal raises KeyboardInterrupt, wherever the program is: what has something to finish catches it. Another one ends the
process at once. That loses nothing: what was stored is on disk, and worker processes end with their parent.
Left out: the interpreter's own start, before any of this is imported.
"""

# Imports nothing that isn't loaded anyway: a signal in mid-import would find nobody to answer it.
from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import Signals
    from types import FrameType, TracebackType
    from typing import NoReturn

INTERRUPTED = 130
"""The exit code that stands for an interruption, until it is known by which signal."""
ONE_REQUEST = 0.5
"""Seconds within which signals are one request to end: `timeout` sends its own to a process and then to its group."""
SHOW_CURSOR = b"\x1b[?25h"


class _State:
    """What is known about signals in this process."""

    loaded = False
    received = 0
    """The first signal that asked this process to end."""
    since = 0.0


def end_requests() -> list[Signals]:
    """The signals that ask a process to end, of those that this system has."""
    import signal

    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def hide_interrupts() -> None:
    """An interrupt that nobody catches, or can catch (in a finalizer; C code that prints it), ends the process."""
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable


def answer_signals() -> None:
    """From here on signals end the process quietly; those that it was started to ignore (nohup) stay ignored."""
    import signal

    for number in end_requests():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _answer)


def loaded() -> None:
    """From here on the first signal raises KeyboardInterrupt."""
    _State.loaded = True


def finished(code: int) -> int:
    """The exit code to end with; signals have no effect any more."""
    import signal

    for number in end_requests():
        signal.signal(number, signal.SIG_IGN)
    return 128 + _State.received if code == INTERRUPTED and _State.received else code


def _answer(number: int, _: FrameType | None) -> None:
    if not _State.loaded:
        _end_at_once(128 + number)
    if not _State.received:
        _State.received, _State.since = number, time.monotonic()
        raise KeyboardInterrupt
    if time.monotonic() - _State.since > ONE_REQUEST:
        _end_at_once(128 + _State.received)


def _end_at_once(code: int) -> NoReturn:
    if _State.loaded and sys.stderr is not None and sys.stderr.isatty():
        os.write(sys.stderr.fileno(), SHOW_CURSOR)  # a progress bar hides it
    os._exit(code)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _end_at_once(128 + _State.received if _State.received else INTERRUPTED)
    sys.__excepthook__(kind, error, trace)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    if issubclass(found.exc_type, KeyboardInterrupt):
        _end_at_once(128 + _State.received if _State.received else INTERRUPTED)
    sys.__unraisablehook__(found)
