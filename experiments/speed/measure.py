"""Timing engines: every contestant in turn, several times, so that a machine's drift hits all of them alike."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from statistics import median
from typing import NamedTuple

from msgspec.structs import replace

from offsim.engine.simulate import simulate
from offsim.program.timeline import Timeline
from offsim.scenario.scenario import Simulation

from .workload import STEPS, program, scenario

FORMS = {
    "full": Simulation(fold=False, steady_state=False, block_period=False),
    "folded": Simulation(steady_state=False, block_period=False),
    "steps": Simulation(block_period=False),
    "blocks": Simulation(),
}
"""What is taken together, from nothing to everything."""
SIMGRID = "SimGrid tasks"


class Run(NamedTuple):
    """One run of one contestant."""

    seconds: float
    end: float
    """Instant at which the last work of the simulation ended [s]."""
    commands: int = 0
    """Commands that were simulated one by one."""


def simulated(form: str, gpus: int, steps: int = STEPS, *, distinct: bool = False) -> Run:
    """wan27 in this process, from its scenario to its timeline."""
    start = time.perf_counter()
    question = replace(scenario(gpus, distinct=distinct), simulation=FORMS[form])
    timeline = simulate(question, program(gpus, steps))
    seconds = time.perf_counter() - start
    return Run(seconds, end_of(timeline), len(timeline.spans))


def end_of(timeline: Timeline) -> float:
    """The end of the last work, repeated work included."""
    return max(timeline.real(span.end) for span in timeline.spans)


@cache
def has_simgrid() -> bool:
    """Whether SimGrid's Python module can be imported."""
    return subprocess.run([sys.executable, "-c", "import simgrid"], capture_output=True).returncode == 0


def simgrid_run(gpus: int, steps: int = STEPS, *, distinct: bool = False) -> Run | None:
    """wan27 as SimGrid's task graph, in a process of its own, whose start does not count; None if it is not there."""
    if not has_simgrid():
        return None
    words = [str(gpus), str(steps), *(["distinct"] if distinct else [])]
    command = [sys.executable, "-m", "experiments.speed.simgrid_tasks", *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(answer.stdout.splitlines()[-1])
    return Run(found["seconds"], found["end_s"])


def in_turn(contestants: dict[str, Callable[[], Run | None]], rounds: int) -> dict[str, Run]:
    """Each contestant's run of median length over so many rounds; those that are not there are left out."""
    runs: dict[str, list[Run]] = {}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            run = contestant()
            if run is not None:
                runs.setdefault(name, []).append(run)
    return {name: _middle(found) for name, found in runs.items()}


def _middle(runs: Sequence[Run]) -> Run:
    middle = median(run.seconds for run in runs)
    return min(runs, key=lambda run: abs(run.seconds - middle))


def process_seconds(words: Sequence[str], rounds: int = 5) -> float:
    """Median wall time of a Python process."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        found.append(time.perf_counter() - start)
    return median(found)


def peak_memory() -> int:
    """Bytes that this process has needed at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
