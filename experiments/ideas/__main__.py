"""python -m experiments.ideas [QUESTION ...] [--write]: what schedules that no system offers would gain.

With --write each question's output is kept in results/.
"""

import importlib
import sys
from pathlib import Path

QUESTIONS = ("confirmation", "one_gpu", "ranking", "combinations", "six_gpus")
RESULTS = Path(__file__).with_name("results")


def main(arguments: list[str]) -> int:
    """Answer the questions asked, or all."""
    asked = [a for a in arguments if not a.startswith("--")] or list(QUESTIONS)
    unknown = [a for a in arguments if a not in (*QUESTIONS, "--write")]
    if unknown:
        print(f"unknown {unknown[0]!r}: allowed are {', '.join(QUESTIONS)} and --write", file=sys.stderr)
        return 2
    for name in asked:
        text = importlib.import_module(f"{__package__}.{name}").answer()
        print(text, end="")
        if "--write" in arguments:
            (RESULTS / f"{name}.txt").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
