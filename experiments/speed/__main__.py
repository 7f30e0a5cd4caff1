"""The speed comparison: prints a table and writes it beside this file.

python -m experiments.speed                  # about 5 minutes; says what SimGrid's columns need where they cannot be measured
python -m experiments.speed --mixed 1000     # fewer mixed scenarios (10,000 unless told)
python -m experiments.speed --rounds 1       # quicker, noisier
"""

import json
import os
import platform
import sys
from argparse import ArgumentParser
from functools import partial
from math import log
from pathlib import Path
from typing import Any

from offsim.results.layout import new_table, render

from .measure import (
    ACTORS,
    FORMS,
    TASKS,
    Run,
    actors_run,
    in_turn,
    not_there,
    peak_memory,
    process_seconds,
    simulated,
    tasks_run,
)
from .mixed import run_mixed

HERE = Path(__file__).parent
BESIDE_SIMGRID = ((1, False), (4, False), (8, False), (8, True))
LARGE = (64, 512)
STEPS = (2, 10, 50, 200)
FULL_UP_TO = 8
"""GPUs on which every rank is simulated on its own: there are N (N - 1) flows."""


def main() -> None:
    """Measure everything, print, write."""
    parser = ArgumentParser(prog="python -m experiments.speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mixed", type=int, default=10_000)
    wanted = parser.parse_args()
    cores = os.cpu_count() or 1
    for form, lacks in not_there().items():
        print(f"{form}: left out, they need {lacks}", file=sys.stderr)
    found: dict[str, Any] = {"machine": machine(), "rounds": wanted.rounds, "not_there": not_there()}
    found["wan27"] = [one_size(gpus, wanted.rounds, distinct=distinct) for gpus, distinct in BESIDE_SIMGRID]
    found["wan27"] += [one_size(gpus, wanted.rounds, distinct=False) for gpus in LARGE]
    found["steps"] = by_steps(wanted.rounds)
    found["start_s"] = start_up()
    outcome = run_mixed(wanted.mixed, cores)
    found["mixed"] = {**outcome._asdict(), "processes": cores}
    found["peak_memory_MB"] = round(peak_memory() / 1e6)
    text = tables(found)
    print(text, end="")
    (HERE / "results.txt").write_text(text)
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n")


def machine() -> str:
    """What this runs on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def one_size(gpus: int, rounds: int, *, distinct: bool) -> dict[str, Any]:
    """All contestants on wan27 of one size, in one interleaved run, and how far their ends are apart."""
    forms = [form for form in FORMS if form != "full" or gpus <= FULL_UP_TO]
    contestants: dict[str, Any] = {form: partial(simulated, form, gpus, distinct=distinct) for form in forms}
    if gpus <= FULL_UP_TO:
        contestants[TASKS] = partial(tasks_run, gpus, distinct=distinct)
        contestants[ACTORS] = partial(actors_run, gpus, distinct=distinct)
    runs: dict[str, Run] = in_turn(contestants, rounds)
    reference = runs[forms[0]].end
    return {
        "gpus": gpus,
        "distinct": distinct,
        "seconds": {name: run.seconds for name, run in runs.items()},
        "cpu_seconds": {name: run.cpu_seconds for name, run in runs.items()},
        "commands": {name: run.commands for name, run in runs.items()},
        "ends_apart": {name: run.end / reference - 1 for name, run in runs.items()},
    }


def by_steps(rounds: int) -> dict[str, Any]:
    """Time against the number of steps, and the exponent from the shortest to the longest."""
    runs = in_turn({str(steps): partial(simulated, "blocks", 8, steps) for steps in STEPS}, max(5, rounds))
    seconds = {steps: run.seconds for steps, run in runs.items()}
    first, last = str(STEPS[1]), str(STEPS[-1])
    return {"seconds": seconds, "exponent": log(seconds[last] / seconds[first]) / log(STEPS[-1] / STEPS[1])}


def start_up() -> dict[str, float]:
    """Process times: what any simulation has to import, and two commands."""
    return {
        "import numpy, simpy": process_seconds(["-c", "import numpy, simpy"]),
        "offsim --help": process_seconds(["-m", "offsim", "--help"]),
        "offsim run": process_seconds(["-m", "offsim", "run", "wan2.2-8xh100-nvlink-layerwise"]),
    }


def tables(found: dict[str, Any]) -> str:
    """Everything as text."""
    parts = [f"{found['machine']}; {found['rounds']} rounds"]
    parts += [f"{form}: not measured, they need {lacks}." for form, lacks in found["not_there"].items()]
    parts += _times(found["wan27"], "seconds", "by the clock")
    parts += _times(found["wan27"], "cpu_seconds", "of CPU time")
    apart = [abs(value) for row in found["wan27"] for value in row["ends_apart"].values()]
    parts.append(f"Ends of the runs of one row are at most {max(apart):.0e} apart (relative).")
    steps = found["steps"]
    each = ", ".join(f"{count}: {1e3 * seconds:.2f}" for count, seconds in steps["seconds"].items())
    parts.append(f"Milliseconds by steps, 8 GPUs: {each}; exponent {steps['exponent']:+.3f}.")
    parts.append("Seconds of a process: " + ", ".join(f"{k} {v:.2f}" for k, v in found["start_s"].items()) + ".")
    mixed = found["mixed"]
    rate = f"{1e3 * mixed['seconds'] * mixed['processes'] / mixed['scenarios']:.1f} ms each and core"
    parts.append(
        f"{mixed['scenarios']:,} mixed scenarios from cold on {mixed['processes']} processes: "
        f"{mixed['seconds']:.1f} s, {rate}."
    )
    return "\n\n".join(parts) + "\n"


def _times(rows: list[dict[str, Any]], key: str, which: str) -> list[str]:
    """Two tables of wan27 by one kind of time: milliseconds, and how many times as long SimGrid took."""
    forms = ("full", "folded", "+ steps", "+ blocks")
    times = new_table(f"wan27, milliseconds {which} (medians of interleaved runs)", "GPUs", *forms, TASKS, ACTORS)
    ratios = new_table(f"SimGrid's tasks (actors) over each of these, {which}", "GPUs", *forms)
    for row in rows:
        size, seconds = f"{row['gpus']}{', all different' if row['distinct'] else ''}", row[key]
        times.add_row(
            size, *(f"{1e3 * seconds[name]:.1f}" if name in seconds else "-" for name in (*FORMS, TASKS, ACTORS))
        )
        if TASKS in seconds or ACTORS in seconds:
            ratios.add_row(size, *(_ratio(seconds, form) for form in FORMS))
    return [render(table).rstrip("\n") for table in (times, ratios) if table.rows]


def _ratio(seconds: dict[str, float], form: str) -> str:
    tasks, actors = (f"{seconds[peer] / seconds[form]:.3g}" if peer in seconds else "-" for peer in (TASKS, ACTORS))
    return f"{tasks} ({actors})"


if __name__ == "__main__":
    main()
