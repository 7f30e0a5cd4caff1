"""`offsim sweep`: read a grid, simulate it, write the results and print the answer."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from offsim.results.metrics import Value
from offsim.scenario.faults import ScenarioError
from offsim.scenario.wording import one_line

from .answer import ANSWER_WIDTH, answer_text, terminal_width
from .cluster import cluster
from .column import Column
from .execute import Engine, RunEnding, here, run_grid
from .findings import findings
from .grid import Grid, load_grid
from .opening import opened
from .panels import panels
from .row import Result
from .store import Store

DEFAULT_GRID = "seeds"
LOCAL = "local"


class Swept(NamedTuple):
    """A sweep as far as it came."""

    grid: Grid
    folder: Path
    columns: tuple[Column, ...]
    """Those of the folder."""
    results: list[Result]
    """Results in the order of the grid."""
    places: tuple[int, ...]
    """Where the folder's columns are in a row."""
    outcome: RunEnding

    def cells(self) -> Iterator[list[Value]]:
        """Every row, as the folder's columns have it."""
        return ([cells[at] for at in self.places] for cells in ((*row.labels, *row.cells) for row, _ in self.results))

    def answer(self, width: int) -> str:
        """The answer as text of so many columns."""
        return answer_text(self.grid, self.results, self.outcome.stopped, one_line(str(self.folder)), width)

    def findings(self) -> list[str]:
        """The sentences that its numbers support."""
        return findings(panels(self.grid.axes, [result.row for result in self.results]), self.grid.compare)


def sweep_command(
    grid: str | None,
    out: Path | None,
    workers: int | None,
    quiet: bool,
    resume: bool = False,
    engine: str = LOCAL,
) -> int:
    """The exit code of a sweep: 0, 130 if interrupted, 1 if one failed; raises ScenarioError for bad input.

    Whatever ends it, what was finished is stored, and `resume` goes on from there.
    """
    loaded = load_grid(DEFAULT_GRID if grid is None else grid)
    with executor_of(engine, workers) as run:
        swept = sweep_grid(loaded, run, out, resume=resume, quiet=quiet, tell=lambda line: print(line, file=sys.stderr))
    outcome = swept.outcome
    if not swept.results:
        print(f"nothing finished: {outcome.stopped}", file=sys.stderr)
        return outcome.exit_code
    print(swept.answer(terminal_width()), end="")
    if outcome.stopped:
        hint = "" if outcome.exit_code == 1 else "; go on with --resume"
        print(f"not complete: {outcome.stopped}{hint}", file=sys.stderr)
    return outcome.exit_code


def sweep_grid(
    grid: Grid,
    run: Engine,
    out: Path | None,
    *,
    resume: bool,
    quiet: bool,
    tell: Callable[[str], object] | None = None,
) -> Swept:
    """Simulate a grid and store its rows and its answer; `tell` takes what is worth a line before it begins."""
    with opened(grid, out, resume=resume) as store:
        if tell:
            for line in _beginning(store):
                tell(line)
        outcome = run_grid(grid, store, run, quiet=quiet)
        results = store.everything()
        rows = [result.row for result in results]
        swept = Swept(grid, store.folder, store.columns, results, store.places, outcome)
        if results:
            store.write_results(rows, swept.answer(ANSWER_WIDTH))
    return swept


def _beginning(store: Store) -> Iterator[str]:
    """What is not as one may expect of a folder."""
    folder = one_line(str(store.folder))
    if store.anew:
        yield f"{folder}: nothing was stored there; started anew"
    if store.lacking:
        yield f"{folder}: goes on without {', '.join(store.lacking)}, as it was begun"


def executor_of(name: str, workers: int | None) -> AbstractContextManager[Engine]:
    """Where combinations are simulated: here, or on a cluster that is there."""
    if workers is not None and workers < 1:
        raise ScenarioError(f"--workers={workers}: must be at least 1")
    if name == LOCAL:
        return nullcontext(here(workers))
    if workers is not None:
        raise ScenarioError(f"--workers={workers}: the workers of --engine {name} are the cluster's; leave it out")
    return cluster(name)
