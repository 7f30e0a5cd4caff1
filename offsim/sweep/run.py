"""`offsim sweep`: read a grid, simulate it, write the results and print the answer."""

import sys
from pathlib import Path

from offsim.scenario.scenario import ScenarioError

from .answer import answer_text
from .execute import run_grid
from .grid import load_grid
from .store import opened, remove_unused, write_results

DEFAULT_GRID = "seeds"


def sweep_command(grid: str | None, out: Path | None, workers: int | None, quiet: bool, resume: bool = False) -> int:
    """Exit code: 0, 130 if interrupted, 1 if a combination failed; raises ScenarioError for bad input.

    Whatever ends it, what was finished is stored, and `resume` goes on from there.
    """
    if workers is not None and workers < 1:
        raise ScenarioError(f"--workers={workers}: must be at least 1")
    loaded = load_grid(grid or DEFAULT_GRID)
    with opened(loaded, out, resume=resume) as store:
        outcome = run_grid(loaded, store, workers, quiet=quiet)
        results, folder = store.everything(), store.folder
        if results:
            answer = answer_text(loaded, results, outcome.stopped, str(folder))
            write_results(folder, loaded, [result.row for result in results], answer)
    if not results:
        remove_unused(folder)
        print(f"nothing finished: {outcome.stopped}", file=sys.stderr)
        return outcome.exit_code
    print(answer, end="")
    if outcome.stopped:
        hint = "" if outcome.exit_code == 1 else "; go on with --resume"
        print(f"not complete: {outcome.stopped}{hint}", file=sys.stderr)
    return outcome.exit_code
