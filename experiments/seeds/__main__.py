"""python -m experiments.seeds [QUESTION ...] [--write]: predicted beside measured for every question of the seeds.

With --write each question's output is kept in its folder as results.txt.
"""

import importlib
import sys

from rich.console import Console

from .common import HERE

QUESTIONS = (
    "nvlink_8x_h100",
    "pcie_4x_h100",
    "ablation",
    "job_matrix",
    "contradictions",
    "contention",
    "open_questions",
    "cluster",
    "b200",
)


def main(arguments: list[str]) -> int:
    write = "--write" in arguments
    asked = [a for a in arguments if not a.startswith("--")] or list(QUESTIONS)
    unknown = [a for a in arguments if a not in (*QUESTIONS, "--write")]
    if unknown:
        print(f"unknown {unknown[0]!r}: allowed are {', '.join(QUESTIONS)} and --write", file=sys.stderr)
        return 2
    failed = []
    for name in asked:
        console = Console(width=120, record=write, force_terminal=False)
        console.rule(name)
        if not importlib.import_module(f"{__package__}.{name}").main(console):
            failed.append(name)
        if write:
            (HERE / name / "results.txt").write_text(console.export_text())
    print(f"held-out values missed in: {', '.join(failed)}" if failed else "every asked tolerance holds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
