"""`offsim sweep`: read a grid, simulate it, write the results and print the answer."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from offsim.scenario.scenario import ScenarioError
from offsim.scenario.wording import one_line

from .answer import answer_text, terminal_width
from .cluster import cluster
from .execute import Engine, here, run_grid
from .grid import load_grid
from .opening import opened

DEFAULT_GRID = "seeds"


LOCAL = "local"


def sweep_command(
    grid: str | None,
    out: Path | None,
    workers: int | None,
    quiet: bool,
    resume: bool = False,
    engine: str = LOCAL,
) -> int:
    """Exit code: 0, 130 if interrupted, 1 if a combination failed; raises ScenarioError for bad input.

    Whatever ends it, what was finished is stored, and `resume` goes on from there.
    """
    loaded = load_grid(grid or DEFAULT_GRID)
    with _engine(engine, workers) as run, opened(loaded, out, resume=resume) as store:
        folder = one_line(str(store.folder))
        if store.anew:
            print(f"{folder}: nothing was stored there; started anew", file=sys.stderr)
        if store.lacking:
            print(f"{folder}: goes on without {', '.join(store.lacking)}, as it was begun", file=sys.stderr)
        outcome = run_grid(loaded, store, run, quiet=quiet)
        results = store.everything()
        if results:
            said = (loaded, results, outcome.stopped, folder)
            store.write_results([result.row for result in results], answer_text(*said))
    if not results:
        print(f"nothing finished: {outcome.stopped}", file=sys.stderr)
        return outcome.exit_code
    print(answer_text(*said, width=terminal_width()), end="")
    if outcome.stopped:
        hint = "" if outcome.exit_code == 1 else "; go on with --resume"
        print(f"not complete: {outcome.stopped}{hint}", file=sys.stderr)
    return outcome.exit_code


def _engine(name: str, workers: int | None) -> AbstractContextManager[Engine]:
    """Where combinations are simulated: here, or on a cluster that is there."""
    if workers is not None and workers < 1:
        raise ScenarioError(f"--workers={workers}: must be at least 1")
    if name == LOCAL:
        return nullcontext(here(workers))
    if workers is not None:
        raise ScenarioError(f"--workers={workers}: the workers of --engine {name} are the cluster's; leave it out")
    return cluster(name)
