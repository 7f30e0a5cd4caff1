"""Ways to run the same request: how guidance runs its two forwards, and on how many of the GPUs.

None changes what the model computes. Each runs one request: fewer ranks exchange less, and the other GPUs idle.
Left out: fewer than half of the GPUs, several requests at once, and which GPUs are used (the first ones are).
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from msgspec.structs import replace

from offsim.scenario.scenario import RefusedScenario, Scenario, check_layout

Mode = Literal["sequential", "batched", "split", "none"]
RankLayout = tuple[str, int, int]
"""How guidance runs, sequence parallel degree, GPUs."""


class Way(NamedTuple):
    """A scenario with another layout of the same request."""

    scenario: Scenario
    change: str
    """How it differs from what was asked; empty if it doesn't."""


def ways(scenario: Scenario) -> list[Way]:
    """Every way that a real system could run; the one that was asked for first, if it is one of them."""
    found: dict[RankLayout, Scenario] = {}
    for way in (scenario, *_others(scenario)):
        if _layout(way) not in found and _legal(way):
            found[_layout(way)] = way
    return [Way(way, "" if way is scenario else _words(way, scenario)) for way in found.values()]


def _layout(scenario: Scenario) -> RankLayout:
    return scenario.workload.cfg_mode(scenario.model), scenario.ulysses, scenario.workload.gpus


def _others(scenario: Scenario) -> Iterator[Scenario]:
    asked = scenario.workload.cfg_mode(scenario.model)
    modes: tuple[Mode, ...] = ("none",) if asked == "none" else ("sequential", "batched", "split")
    for mode in modes:
        ranks = 2 if mode == "split" else 1
        for gpus in range(scenario.workload.gpus, (scenario.workload.gpus - 1) // 2, -1):
            # A batch takes the memory of two forwards: with fewer ranks it has nothing over one after the other.
            if gpus % ranks == 0 and (mode != "batched" or gpus == scenario.workload.gpus):
                workload = replace(scenario.workload, cfg=mode, gpus=gpus, sequence_parallel=gpus // ranks)
                yield replace(scenario, workload=workload)


def _legal(scenario: Scenario) -> bool:
    """Whether some policy can run it."""
    try:
        check_layout(scenario)
    except RefusedScenario:
        return False
    return True


def _words(way: Scenario, asked: Scenario) -> str:
    (mode, degree, gpus), (old_mode, old_degree, old_gpus) = _layout(way), _layout(asked)
    words = []
    if mode != old_mode:
        words.append(f"cfg {mode}")
    if gpus != old_gpus:
        words.append(f"on {gpus} of {old_gpus} GPUs")
    if degree != old_degree and (gpus == old_gpus or mode == "split"):
        words.append(f"sequence parallel {degree}")
    if way.tokens != asked.tokens:
        words.append(f"{way.tokens:,} tokens after padding")
    return ", ".join(words)
