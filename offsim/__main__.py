"""`offsim` and `python -m offsim`: signals are answered before anything else is imported, which takes a while."""

import sys

from offsim.signals import INTERRUPTED, answer_signals, finished, hide_interrupts, loaded

hide_interrupts()


def main() -> int:
    """Run this process's command line; its exit code."""
    answer_signals()
    from offsim.cli import exit_code

    try:
        loaded()
        code = exit_code(sys.argv[1:])
    except KeyboardInterrupt:  # just before or just after the verb
        code = INTERRUPTED
    return finished(code)


if __name__ == "__main__":
    sys.exit(main())
