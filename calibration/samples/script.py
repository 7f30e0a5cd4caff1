"""How a module that is run by `python -m` ends: with an exit code, and bad input with one sentence."""

import sys
from collections.abc import Callable

from offsim.scenario.faults import ScenarioError, one_message
from offsim.sweep.announce import say


def run_script(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with what it returns, or with 2 and one sentence where the input is at fault."""
    try:
        sys.exit(main())
    except (ScenarioError, OSError) as error:
        say(one_message(error))
        sys.exit(2)
