"""A worker process: does one piece of work after the other, and ends with its parent, however that ends.

Pieces come through its standard input and what comes of them leaves through its standard output, pipes that only its
parent holds at the other end: when the parent is gone the input ends, and so does the worker. It is started with the
signals blocked that ask for an end; those, which may reach a whole group, are the parent's to answer.
"""

import contextlib
import gc
import os
import pickle
import sys
from queue import SimpleQueue
from threading import Thread
from traceback import format_exception
from typing import Any

GARBAGE = 100_000
"""Objects between two collections: a simulation makes many and leaves few, so the usual 700 cost a tenth."""
KILLED_WITH_PARENT = 1
"""prctl's PR_SET_PDEATHSIG."""
SIGKILL = 9


def work() -> None:
    """Do what comes as a worker process; never returns."""
    pieces: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_receive, args=(pieces,), daemon=True).start()
    _end_amid_compiled_code()
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is printed must not be taken for a result
    gc.freeze()
    gc.set_threshold(GARBAGE)
    with contextlib.suppress(OSError):
        while True:
            results.write(_done(pieces.get()))
            results.flush()
    os._exit(0)


def _receive(pieces: SimpleQueue[bytes]) -> None:
    """Everything that the parent sends, until it ends or closes the pipe."""
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError), os.fdopen(0, "rb", closefd=False) as source:
        while True:
            pieces.put(pickle.load(source))
    os._exit(0)


def _end_amid_compiled_code() -> None:
    """Where the kernel can do it: a thread waits for its turn while compiled code runs that keeps the others out."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(KILLED_WITH_PARENT, SIGKILL)


def _done(piece: bytes) -> bytes:
    """What a piece comes to, or the error that it raised, as the parent reads it."""
    try:
        function, arguments, named = pickle.loads(piece)
        return pickle.dumps((True, function(*arguments, **named)))
    except Exception as error:
        return pickle.dumps((False, _portable(error)))


def _portable(error: Exception) -> Any:
    """The error with its traceback as a note, or its words if it cannot travel."""
    error.add_note("in a worker process:\n" + "".join(format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
