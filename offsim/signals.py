"""Ctrl-C, SIGTERM and SIGHUP: at any moment the process ends quietly, with the exit code 128 + signal.

While modules are being imported there is nothing to put in order, and it ends at once. Else the first signal raises
KeyboardInterrupt, wherever the program is: what has something to finish catches it. Another one ends the process at
once. That loses nothing: what was stored is on disk, and worker processes end with their parent.
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
    """Let signals end the process quietly from here on; those that it was started to ignore (nohup) stay ignored."""
    import signal

    for number in end_requests():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _answer)


def loaded() -> None:
    """Let the first signal raise KeyboardInterrupt from here on."""
    _State.loaded = True


def finished(code: int) -> int:
    """The exit code to end with; signals have no effect any more.

    After a signal it ends here: an interpreter that saw an interrupt pass through `exec` kills itself at its end.
    """
    import signal

    for number in end_requests():
        signal.signal(number, signal.SIG_IGN)
    if _State.received:
        os._exit(128 + _State.received if code else 0)
    return code


def interrupted() -> bool:
    """Whether this process was asked to end: some libraries make another error of that."""
    return _State.received > 0


def _answer(number: int, frame: FrameType | None) -> None:
    if _State.received:
        if time.monotonic() - _State.since > ONE_REQUEST:
            _end_at_once(128 + _State.received)
    elif not _State.loaded or _importing(frame):
        _end_at_once(128 + number)
    else:
        _State.received, _State.since = number, time.monotonic()
        raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is just being imported: compiled ones may abort, or make another error of an interrupt."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_at_once(code: int) -> NoReturn:
    try:
        if _State.loaded and os.isatty(2):
            os.write(2, SHOW_CURSOR)  # a progress bar hides it
    finally:
        os._exit(code)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Nobody takes the last words where the terminal has hung up.
    if issubclass(kind, KeyboardInterrupt) or (_State.received and issubclass(kind, OSError)):
        _end_at_once(128 + _State.received if _State.received else INTERRUPTED)
    sys.__excepthook__(kind, error, trace)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    if issubclass(found.exc_type, KeyboardInterrupt):
        _end_at_once(128 + _State.received if _State.received else INTERRUPTED)
    sys.__unraisablehook__(found)
