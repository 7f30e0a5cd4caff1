"""Ways to run the same request: how guidance runs its two forwards, and over how many ranks a sequence is split.

None changes what the model computes. A smaller sequence parallel degree leaves groups of ranks that each run a
request of their own: the time is then that of several requests at once.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from msgspec.structs import replace

from offsim.scenario.scenario import RefusedScenario, Scenario, check

Mode = Literal["sequential", "batched", "split", "none"]


class Way(NamedTuple):
    """A scenario with another layout of the same request."""

    scenario: Scenario
    change: str
    """How it differs from what was asked; empty if it doesn't."""


def ways(scenario: Scenario) -> list[Way]:
    """Every way that a real system could run; the one that was asked for first, if it is one."""
    found: dict[tuple[str, int], Scenario] = {}
    for way in (scenario, *_others(scenario)):
        if layout_of(way) not in found and _legal(way):
            found[layout_of(way)] = way
    return [Way(way, "" if way is scenario else _words(way, scenario)) for way in found.values()]


def layout_of(scenario: Scenario) -> tuple[str, int]:
    """How guidance runs, and the sequence parallel degree."""
    return scenario.workload.cfg_mode(scenario.model), scenario.ulysses


def requests(scenario: Scenario) -> int:
    """How many requests run at once."""
    groups = len(scenario.groups())
    return groups // 2 if scenario.workload.cfg_mode(scenario.model) == "split" else groups


def _others(scenario: Scenario) -> Iterator[Scenario]:
    gpus, asked = scenario.workload.gpus, scenario.workload.cfg_mode(scenario.model)
    modes: tuple[Mode, ...] = ("none",) if asked == "none" else ("sequential", "batched", "split")
    for mode in modes:
        for degree in range(gpus, 0, -1):
            if mode != "split" or gpus == 2 * degree:
                workload = replace(scenario.workload, cfg=mode, sequence_parallel=degree)
                yield replace(scenario, workload=workload)


def _legal(scenario: Scenario) -> bool:
    try:
        check(scenario)
    except RefusedScenario:
        return False
    return True


def _words(way: Scenario, asked: Scenario) -> str:
    (mode, degree), (old_mode, old_degree) = layout_of(way), layout_of(asked)
    words = []
    if mode != old_mode:
        words.append(f"cfg {mode}")
    if degree != old_degree or mode == "split":
        words.append(f"sequence parallel {degree}")
    if way.tokens != asked.tokens:
        words.append(f"{way.tokens:,} tokens after padding")
    if requests(way) > 1:
        words.append(f"{requests(way)} requests at once")
    return ", ".join(words)
