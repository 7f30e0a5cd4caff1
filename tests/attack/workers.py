"""Cases tried in processes that may be lost: one that hangs or dies costs its own verdict, not the others'."""

import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Event

from .execution import PATIENCE
from .trial import Verdict, case_of, trial

AT_ONCE = 2
BATCH = 250
"""Cases of one process: what it keeps in memory must stay bounded."""
GIVEN_UP = 1.5 * PATIENCE
ENDS_WITHIN = 2.0
"""Seconds for a process that is no longer asked."""
MOST_ADDRESSES = 6 * 2**30
"""Bytes: keeps what runs away from taking the whole machine."""


def serve(connection: Connection, seed: int, folder: str) -> None:
    """Try the numbers that are asked for, until nobody asks."""
    os.setsid()
    tempfile.tempdir = folder
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    with suppress(EOFError):
        while True:
            connection.send(trial(seed, connection.recv())[0])


class Worker:
    """One process that tries cases."""

    def __init__(self, seed: int) -> None:
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, seed, tempfile.gettempdir()))
        self._process.start()
        other.close()

    def verdict(self, number: int) -> Verdict | None:
        """Of one case; None if the process is lost over it."""
        try:
            self._connection.send(number)
            return self._connection.recv() if self._connection.poll(GIVEN_UP) else None
        except (EOFError, OSError):
            return None

    def close(self) -> str:
        """End the process, and all that it started; returns how it had ended."""
        self._connection.close()
        self._process.join(ENDS_WITHIN)
        ended = "hangs" if self._process.exitcode is None else f"died with {self._process.exitcode}"
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        return ended


def batch(seed: int, numbers: Sequence[int], tell: Callable[[Verdict], None], stop: Event) -> None:
    """Try some cases in one process after the other."""
    worker = Worker(seed)
    try:
        for number in numbers:
            if stop.is_set():
                return
            verdict = worker.verdict(number)
            if verdict is None:
                ended, worker = worker.close(), Worker(seed)
                kind, case = case_of(seed, number)
                verdict = Verdict(number, kind, None, 0.0, 0, (f"process {ended}",), case.arguments)
            tell(verdict)
    finally:
        worker.close()


def try_all(seed: int, numbers: Sequence[int], tell: Callable[[Verdict], None]) -> None:
    """Try cases, in several processes at once; within `scratch`."""
    stop = Event()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        try:
            parts = [threads.submit(batch, seed, part, tell, stop) for part in _parts(numbers)]
            for part in parts:
                part.result()
        finally:
            stop.set()


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    size = min(BATCH, -(-len(numbers) // AT_ONCE) or 1)
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
