"""Runs a module that ends with whoever started it, who holds its standard input open and writes nothing to it.

    python -m calibration.calibrate.tied calibration.live.worker --samples ...

The watch begins before the module is imported, which takes seconds where torch is; what the module starts inherits the
input, so that it can be tied in the same way.
"""

import os
import sys
from runpy import run_module
from threading import Thread


def main() -> None:
    """Watch the input, and run the module that the command line names."""
    Thread(target=_end_with_input, daemon=True).start()
    sys.argv = sys.argv[1:]
    run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_input() -> None:
    # Not sys.stdin: a thread that holds its lock would abort the interpreter's end.
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
