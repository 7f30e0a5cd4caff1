"""How a module that is run by `python -m` ends: with an exit code, and bad input with one sentence."""

import sys
from collections.abc import Callable

from offsim.scenario.scenario import ScenarioError


def run_script(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with what it returns, or with 2 and one sentence where it raises ScenarioError."""
    try:
        sys.exit(main())
    except ScenarioError as error:
        print(f"offsim: {error}", file=sys.stderr)
        sys.exit(2)
