"""Running the combinations of a grid: in this process, or in several.

Results come back by index, so what finishes first doesn't matter. Whatever ends a run early, what is finished
is kept.
"""

import gc
import signal
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import active_children, get_context
from os import cpu_count
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .grid import Combination, Grid
from .row import Result, result_of

GARBAGE = 100_000
"""Objects between two collections: a simulation makes many and leaves few, so the usual 700 cost a tenth."""
Finished = dict[int, Result]


class Outcome(NamedTuple):
    """What a run of a grid came to."""

    results: list[Result]
    """Finished ones, in the order of the grid."""
    stopped: str
    """Why the rest is missing; empty if nothing is."""
    exit_code: int


class FailedCombination(Exception):
    """A combination could not be simulated."""


def run_grid(grid: Grid, workers: int | None, *, quiet: bool) -> Outcome:
    """Simulate every combination on `workers` processes (default: one per processor)."""
    count = min(workers or cpu_count() or 1, len(grid.combinations))
    finished: Finished = {}
    stopped, code = "", 0
    try:
        source = _alone(grid) if count == 1 else _pooled(grid, count)
        with _progress(quiet) as progress, closing(source) as results:
            task = progress.add_task(grid.name, total=len(grid.combinations))
            for index, result in results:
                finished[index] = result
                progress.advance(task)
    except KeyboardInterrupt:
        stopped, code = "interrupted", 130
    except FailedCombination as error:
        stopped, code = str(error), 1
    except BrokenProcessPool:
        stopped, code = _death(grid, finished), 1
    return Outcome([finished[index] for index in sorted(finished)], stopped, code)


def _progress(quiet: bool) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)


def _alone(grid: Grid) -> Generator[tuple[int, Result], None, None]:
    for index, combination in enumerate(grid.combinations):
        try:
            yield index, result_of(combination)
        except Exception as error:
            raise _failure(combination, error) from error


def _pooled(grid: Grid, workers: int) -> Generator[tuple[int, Result], None, None]:
    """Results as they come; leaving the loop early ends the processes."""
    before = set(active_children())
    # Not forked: threads (the progress bar's) don't survive a fork.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare)
    try:
        futures = {pool.submit(result_of, combination): i for i, combination in enumerate(grid.combinations)}
        for future in as_completed(futures):
            yield futures[future], _result(future, grid.combinations[futures[future]])
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - before:
            process.terminate()


def _prepare() -> None:
    """Leave Ctrl-C, which reaches every process, to the parent; collect garbage less often."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(GARBAGE)


def _result(future: Future[Result], combination: Combination) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:
        raise _failure(combination, error) from error


def _failure(combination: Combination, error: Exception) -> FailedCombination:
    return FailedCombination(f"{_named(combination)}: {type(error).__name__}: {error}")


def _death(grid: Grid, finished: Finished) -> str:
    first = next(c for i, c in enumerate(grid.combinations) if i not in finished)
    return (
        f"a worker process died at or after {_named(first)}; it may have been killed for want of memory, "
        "which fewer --workers need less of"
    )


def _named(combination: Combination) -> str:
    return " / ".join(combination.labels)
