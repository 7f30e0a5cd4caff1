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

from . import simgrid_actors
from .workload import STEPS, program, scenario

FORMS = {
    "full": Simulation(fold=False, steady_state=False, block_period=False),
    "folded": Simulation(steady_state=False, block_period=False),
    "steps": Simulation(block_period=False),
    "blocks": Simulation(),
}
"""What is taken together, from nothing to everything."""
TASKS, ACTORS = "SimGrid tasks", "SimGrid actors"


class Run(NamedTuple):
    """One run of one contestant."""

    seconds: float
    """By the clock."""
    cpu_seconds: float
    """Of CPU time: what a machine with other work to do shows least wrongly."""
    end: float
    """Instant at which the last work of the simulation ended [s]."""
    commands: int = 0
    """Commands that were simulated one by one."""


def simulated(form: str, gpus: int, steps: int = STEPS, *, distinct: bool = False) -> Run:
    """wan27 in this process, from its scenario to its timeline."""
    start, cpu_start = time.perf_counter(), time.process_time()
    question = replace(scenario(gpus, distinct=distinct), simulation=FORMS[form])
    timeline = simulate(question, program(gpus, steps))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Run(seconds, cpu_seconds, end_of(timeline), len(timeline.spans))


def end_of(timeline: Timeline) -> float:
    """The end of the last work, repeated work included."""
    return max(timeline.real(span.end) for span in timeline.spans)


@cache
def has_simgrid() -> bool:
    """Whether SimGrid's Python module can be imported."""
    return subprocess.run([sys.executable, "-c", "import simgrid"], capture_output=True).returncode == 0


def not_there() -> dict[str, str]:
    """What each form of SimGrid lacks here; nothing where both are there."""
    lacks = {TASKS: None if has_simgrid() else "SimGrid's Python module", ACTORS: simgrid_actors.missing()}
    return {form: what for form, what in lacks.items() if what is not None}


def tasks_run(gpus: int, steps: int = STEPS, *, distinct: bool = False) -> Run | None:
    """wan27 as SimGrid's task graph, in a process of its own, whose start does not count; None if it is not there."""
    if not has_simgrid():
        return None
    words = [str(gpus), str(steps), *(["distinct"] if distinct else [])]
    command = [sys.executable, "-m", "experiments.speed.simgrid_tasks", *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return _answered(answer.stdout)


def actors_run(gpus: int, steps: int = STEPS, *, distinct: bool = False) -> Run | None:
    """wan27 as SimGrid's native actors, in the same way; None if they cannot be compiled."""
    if simgrid_actors.missing() is not None:
        return None
    return _answered(simgrid_actors.run(gpus, steps, distinct=distinct))


def _answered(printed: str) -> Run:
    found = json.loads(printed.splitlines()[-1])
    return Run(found["seconds"], found["cpu_seconds"], found["end_s"])


def in_turn(contestants: dict[str, Callable[[], Run | None]], rounds: int) -> dict[str, Run]:
    """Each contestant with the medians of so many rounds; those that are not there are left out."""
    runs: dict[str, list[Run]] = {}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            run = contestant()
            if run is not None:
                runs.setdefault(name, []).append(run)
    return {name: _middle(found) for name, found in runs.items()}


def _middle(runs: Sequence[Run]) -> Run:
    """Both medians; all runs of a contestant end at the same instant."""
    seconds, cpu_seconds = median(run.seconds for run in runs), median(run.cpu_seconds for run in runs)
    return runs[0]._replace(seconds=seconds, cpu_seconds=cpu_seconds)


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
