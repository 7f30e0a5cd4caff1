"""Running the combinations of a grid: in this process, in several, or on whatever engine is given.

Each finished one goes into the store at once, so whatever ends a run early, it is kept. Combinations that ask the very
same thing are simulated once. One that fails is a row with its error; the others go on.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import replace
from itertools import islice
from os import cpu_count
from typing import NamedTuple

from .grid import Combination, Grid
from .progress import progress_bar
from .row import Result, failed, result_of
from .store import Store
from .workers import WorkerDied, Workers

AT_ONCE = 32
"""Combinations per process that are under way or wait in line."""


class RunEnding(NamedTuple):
    """How a run of a grid ended."""

    stopped: str
    """Why some are missing, or what failed; empty if nothing is and nothing did."""
    exit_code: int


Found = Generator[tuple[int, Result], None, None]
Engine = Callable[[Grid, Sequence[int]], Found]
"""Simulates the combinations of these numbers, and gives each result once, in any order."""


class EngineLost(Exception):
    """What ran the combinations is gone, for no fault of theirs."""


def run_grid(grid: Grid, store: Store, engine: Engine, *, quiet: bool) -> RunEnding:
    """Simulate what the store doesn't have yet."""
    done = store.finished()
    alike = _alike(grid, done)
    failures: list[str] = []
    try:
        with progress_bar("rows", quiet=quiet) as progress, closing(engine(grid, list(alike))) as results:
            count, before = len(grid.combinations), len(done)
            task = progress.add_task(grid.name, total=count, completed=before, before=before)
            for index, result in results:
                for number in alike[index]:
                    store.add(number, result._replace(row=replace(result.row, labels=grid.combinations.labels(number))))
                if result.row.status == "error":
                    failures.append(result.row.reason)
                progress.advance(task, len(alike[index]))
    except KeyboardInterrupt:
        return RunEnding("interrupted", 130)
    except WorkerDied:
        return RunEnding(_death(grid, store), 1)
    except EngineLost as lost:
        return RunEnding(f"{lost}; --resume goes on", 1)
    if failures:
        return RunEnding(f"{len(failures)} failed, the first: {failures[0]}; --resume tries them again", 1)
    return RunEnding("", 0)


def _alike(grid: Grid, done: Iterable[int]) -> dict[int, list[int]]:
    """The combinations that are left: the first of each that ask the same, with all of these."""
    finished, groups = set(done), dict[int, list[int]]()
    for number, first in enumerate(grid.firsts):
        if number not in finished:
            groups.setdefault(first, []).append(number)
    return {numbers[0]: numbers for numbers in groups.values()}


def here(workers: int | None) -> Engine:
    """An engine of `workers` processes of this machine (default: one per processor); one is this process itself."""

    def engine(grid: Grid, numbers: Sequence[int]) -> Found:
        count = min(workers or cpu_count() or 1, len(numbers))
        return _alone(grid, numbers) if count <= 1 else _pooled(grid, numbers, count)

    return engine


def _alone(grid: Grid, numbers: Iterable[int]) -> Found:
    for number in numbers:
        combination = grid.combinations[number]
        try:
            yield number, result_of(combination)
        except Exception as error:
            yield number, failed(combination, error)


def _pooled(grid: Grid, numbers: Iterable[int], workers: int) -> Found:
    """Results as they come; leaving the loop early ends the processes."""
    with Workers(workers) as pool:
        left, futures = iter(numbers), dict[Future[Result], int]()
        while True:
            # No more at once than keeps everybody busy: a hundred thousand would wait in memory.
            for number in islice(left, AT_ONCE * workers - len(futures)):
                futures[pool.submit(result_of, grid.combinations[number])] = number
            if not futures:
                break
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                number = futures.pop(future)
                yield number, _result(future, grid.combinations[number])


def _result(future: Future[Result], combination: Combination) -> Result:
    try:
        return future.result()
    except WorkerDied:
        raise
    except Exception as error:
        return failed(combination, error)


def _death(grid: Grid, store: Store) -> str:
    done = store.finished()
    first = next(grid.combinations.labels(i) for i in range(len(grid.combinations)) if i not in done)
    return (
        f"a worker process died at or after {' / '.join(first)}; it may have been killed for want of memory, "
        "which fewer --workers need less of; --resume goes on"
    )
