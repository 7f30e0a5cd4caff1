"""An executor whose processes end with this one, however it ends, and hold nothing of it meanwhile.

Not ProcessPoolExecutor: its workers hold both ends of their queues, so they wait for ever once the parent is killed;
its semaphores stay behind; and one that is interrupted while it starts shows a traceback.
"""

import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from os import cpu_count
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from offsim.signals import end_requests

Process = subprocess.Popen[bytes]
P = ParamSpec("P")
T = TypeVar("T")


class WorkerDied(Exception):
    """A worker process ended while it had something to do."""


class Workers(Executor):
    """Processes (default: one per processor) that do what is submitted, in that order.

    Functions, arguments and results are pickled; what a function raises carries its traceback as a note.
    """

    def __init__(self, count: int | None = None) -> None:
        self._pieces: SimpleQueue[tuple[Future[Any], bytes] | None] = SimpleQueue()
        with _signals_kept():
            self._processes = [_start() for _ in range(count or cpu_count() or 1)]
            self._threads = [Thread(target=self._serve, args=(one,), daemon=True) for one in self._processes]
            for thread in self._threads:
                thread.start()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of what a worker will find; WorkerDied if it ends meanwhile."""
        future: Future[T] = Future()
        self._pieces.put((future, pickle.dumps((function, args, kwargs))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:  # noqa: ARG002 - they always are
        """End the processes, whatever they are at: what is not finished is dropped."""
        with suppress(Empty):
            while piece := self._pieces.get_nowait():
                piece[0].cancel()
        for process in self._processes:
            process.kill()
            self._pieces.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _serve(self, process: Process) -> None:
        """Hand one piece after the other to a process, until there are no more or it dies."""
        with suppress(OSError), process:
            while piece := self._pieces.get():
                future, message = piece
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    fine, outcome = _answer(process, message)
                except (OSError, EOFError, pickle.UnpicklingError):
                    future.set_exception(WorkerDied())
                    return
                if fine:
                    future.set_result(outcome)
                else:
                    future.set_exception(outcome)


def _answer(process: Process, message: bytes) -> tuple[bool, Any]:
    """Whether a piece went well, and what came of it."""
    assert process.stdin is not None and process.stdout is not None
    pickle.dump(message, process.stdin)
    process.stdin.flush()
    answer: tuple[bool, Any] = pickle.load(process.stdout)
    return answer


def _start() -> Process:
    """A process that imports what this one would, and little until it has to."""
    code = f"import sys; sys.path[:] = {sys.path!a}; from offsim.sweep.worker import work; work()"
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP  # which Ctrl-C doesn't reach
    # Errors come as results; were it this process's own output, whoever reads that would not see it end.
    errors = subprocess.DEVNULL
    words = [sys.executable, "-c", code]
    return Process(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, creationflags=flags)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """What is started meanwhile gets none of the signals that ask for an end: they are this thread's to answer."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, end_requests())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
