"""python -m experiments.chunkflow [--write]: the paper's numbers predicted, and where a gate pays.

With --write what is printed is kept in results.txt, and every run's prediction in predictions.csv.
"""

import sys

from rich.console import Console

from .answer import inputs_table, open_table, predictions_csv, weights_table
from .boundary import boundary_table, crossings_table
from .cases import HERE, JANUARY, READINGS
from .gates import gate_table, whole_table
from .sweeps import chunks_table, residency_table, sizes_table, told


def main(arguments: list[str]) -> int:
    """Print everything."""
    write = "--write" in arguments
    console = Console(width=120, record=write, force_terminal=False)
    tables = [open_table(reading) for reading in READINGS]
    tables += [sizes_table(reading, "host-memory") for reading in READINGS]
    tables += [sizes_table(JANUARY, "pcie"), chunks_table(), residency_table()]
    tables += [weights_table(), boundary_table(), crossings_table(), gate_table(), whole_table(), inputs_table()]
    for table in tables:
        console.print(table)
    for words, holds in told():
        console.print(f"{'holds ' if holds else 'MISSED'}  {words}")
    if write:
        lines = (line.rstrip() for line in console.export_text().splitlines())
        (HERE / "results.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (HERE / "predictions.csv").write_text(predictions_csv(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
