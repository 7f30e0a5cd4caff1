"""How long `offsim best` takes: every model of the catalogue on four nodes, each from a cold start.

    python -m experiments.speed.best_of_models

Prints a line for each and writes best_of_models.txt beside this file. Exits 1 if one took longer than `LIMIT`, on a
machine that should be idle; the processor time of all its processes is beside it. One of the nodes has a clock: there
times lie 10 % above their lower bounds, so that more has to be simulated.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import NamedTuple

from offsim.results.layout import new_table, render
from offsim.scenario import catalogue

LIMIT = 10.0
NODES = (("rtx4090-x8", 1), ("h100-pcie-switch", 4), ("h100-sxm-x8", 8), ("h100-sxm-x2-nvlink", 2))
TOKENS = 32_760
SCENARIO = """
schema = 2
model = "{model}"
node = "{node}"
policy = "sglang-layerwise"
workload = {{ tokens = {tokens}, gpus = {gpus} }}
"""


class Run(NamedTuple):
    """One question and how long its answer took."""

    model: str
    node: str
    gpus: int
    seconds: float
    processor_seconds: float
    candidates: int
    pruned: int
    simulated: int


def runs() -> Iterator[Run]:
    """Every model on every node."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.toml"
        for node, gpus in NODES:
            for model in catalogue.names("models"):
                path.write_text(SCENARIO.format(model=model, node=node, gpus=gpus, tokens=TOKENS))
                seconds, processor_seconds, answer = timed(path)
                counts = (answer[key] for key in ("candidates", "pruned", "simulated"))
                yield Run(model, node, gpus, seconds, processor_seconds, *counts)


def timed(path: Path) -> tuple[float, float, dict[str, int]]:
    """Seconds from the start of the process to its end, processor seconds, and its answer."""
    command = [sys.executable, "-m", "offsim", "best", str(path), "--json", "--quiet"]
    start, used = time.perf_counter(), processor_seconds()
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, processor_seconds() - used, json.loads(ended.stdout)


def processor_seconds() -> float:
    """Of all processes that ended, their own children included."""
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def table(found: list[Run]) -> str:
    """All runs, the slowest last."""
    title = (
        f"offsim best on {os.cpu_count()} cores, {TOKENS:,} tokens, from a cold start: all processes, and on the clock"
    )
    shown = new_table(title, "model", "node", "GPUs", "candidates", "pruned", "simulated", "CPU s", "s")
    for run in sorted(found, key=lambda run: run.seconds):
        numbers = (run.gpus, run.candidates, run.pruned, run.simulated)
        shown.add_row(run.model, run.node, *map(str, numbers), f"{run.processor_seconds:.2f}", f"{run.seconds:.2f}")
    return render(shown)


def main() -> int:
    """Measure, print, write; 1 if one took too long."""
    found = list(runs())
    text = table(found)
    print(text, end="")
    Path(__file__).with_suffix(".txt").write_text(text)
    return int(max(run.seconds for run in found) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
