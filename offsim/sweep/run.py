"""`offsim sweep`: read a grid, simulate it, write the results and print the answer."""

import sys
from pathlib import Path

from offsim.scenario.scenario import ScenarioError

from .answer import answer_text
from .execute import run_grid
from .grid import load_grid
from .store import make_folder, remove_empty, write_results

DEFAULT_GRID = "seeds"


def sweep_command(grid: str | None, out: Path | None, workers: int | None, quiet: bool) -> int:
    """Exit code: 0, 130 if interrupted, 1 if a combination failed; raises ScenarioError for bad input.

    What was finished before an interruption or a failure is written.
    """
    if workers is not None and workers < 1:
        raise ScenarioError(f"--workers={workers}: must be at least 1")
    loaded = load_grid(grid or DEFAULT_GRID)
    folder = make_folder(loaded, out)
    outcome = run_grid(loaded, workers, quiet=quiet)
    if not outcome.results:
        remove_empty(folder)
        print(f"nothing finished: {outcome.stopped}", file=sys.stderr)
        return outcome.exit_code
    answer = answer_text(loaded, outcome.results, outcome.stopped, str(folder))
    write_results(folder, loaded, [result.row for result in outcome.results], answer)
    print(answer, end="")
    if outcome.stopped:
        print(f"not complete: {outcome.stopped}", file=sys.stderr)
    return outcome.exit_code
