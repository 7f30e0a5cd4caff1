"""Memory of a sweep of 100,000 rows: grid, store, answer and files are real, the simulations are not.

    python -m experiments.speed.sweep_memory [ROWS]

One combination of each policy is simulated; all others get its numbers, since what a simulation needs is given back
before the next one. Prints seconds and the most memory that the process needed.
"""

import contextlib
import io
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from offsim.sweep.grid import Combination
from offsim.sweep.row import Result, result_of
from offsim.sweep.run import sweep_command

from .measure import peak_memory

GRID = """
schema = 2
name = "many"

[scenario]
model = "wan2.2-ti2v-5b"
node = "h100-pcie"
workload = {{ gpus = 1, steps = 2 }}

[axes.tokens]
key = "workload.tokens"
values = [{tokens}]

[axes.policy]
key = "policy.name"
values = ["resident", "full-model", "sglang-layerwise", "fsdp"]
"""


def main(rows: int) -> None:
    """Sweep, measure, print."""
    simulated: dict[str, Result] = {}

    def stand_in(combination: Combination) -> Result:
        policy = combination.labels[1]
        if policy not in simulated:
            simulated[policy] = result_of(combination)
        found = simulated[policy]
        row = found.row.changed(scenario_hash=combination.hash)
        return found._replace(row=replace(row, labels=combination.labels))

    with tempfile.TemporaryDirectory() as folder, patch("offsim.sweep.execute.result_of", stand_in):
        grid = Path(folder) / "many.toml"
        grid.write_text(GRID.format(tokens=", ".join(str(8 * i) for i in range(1, rows // 4 + 1))))
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            sweep_command(str(grid), Path(folder) / "out", 1, True)
        seconds = time.perf_counter() - start
    print(f"{rows // 4 * 4:,} rows: {seconds:.0f} s, at most {peak_memory() / 1e6:.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
