"""Four simpler models, to see what the simulation adds.

max: the larger of compute + collectives and copies of a step, from the program's own sums. alone: the simulation
without contention. equal: collectives and copies share links equally (weight 1). first-order: the larger of compute
and copies while all GPUs copy, collectives in neither: ChunkFlow's two terms (arXiv 2605.11335, section 3).
"""

from statistics import median
from typing import NamedTuple

from msgspec import structs

from offsim.engine.durations import Durations
from offsim.program.build import build
from offsim.program.commands import Collective, Compute, Copy
from offsim.program.first_order import collective_seconds, copy_rate
from offsim.results.predict import predict
from offsim.scenario.node import Node
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import Scenario

SIMPLER = ("max", "alone", "equal", "first-order")


class Sums(NamedTuple):
    """Seconds of one step's kernels, collectives and copies, each kind alone and back to back."""

    compute: float
    collective: float
    copy: float

    @property
    def larger(self) -> float:
        return max(self.compute + self.collective, self.copy)

    def first_order(self, scenario: Scenario) -> float:
        """The larger of kernels and copies, these slower by what all GPUs' copying at once makes of pinned ones."""
        return max(self.compute, self.copy * scenario.node.wiring.pcie.h2d.value / copy_rate(scenario))


def sums_of(scenario: Scenario, index: int) -> Sums:
    """What one step of the program adds up to."""
    program = build(scenario)
    section = program.sections[program.step_number(index)]
    durations = Durations(scenario)
    compute = sum(durations.of_command(c) for c in section.commands if isinstance(c, Compute))
    collective = sum(collective_seconds(scenario.node, c) for c in section.commands if isinstance(c, Collective))
    copies = [c for c in section.commands if isinstance(c, Copy)]
    return Sums(compute, collective, sum(_copy(scenario.node, c) for c in copies))


def _copy(node: Node, command: Copy) -> float:
    pinned = node.wiring.pcie.h2d if command.direction == "H2D" else node.wiring.pcie.d2h
    pageable = node.host.pageable_h2d if command.direction == "H2D" else node.host.fresh_d2h
    rate = pinned if command.host_memory == "pinned" else pageable
    return node.wiring.pcie.latency.value + command.bytes / rate.value


def without_contention(scenario: Scenario) -> Scenario:
    """The scenario with every flow as fast as if it were alone."""
    return structs.replace(scenario, simulation=structs.replace(scenario.simulation, contention=False))


def with_equal_shares(scenario: Scenario) -> Scenario:
    """The scenario with collectives and copies of the same weight on a link."""
    collectives = scenario.node.wiring.collectives
    if collectives is None:
        return scenario
    one = Quantity(1.0, "guess", "equal shares")
    kinds = {name: structs.replace(getattr(collectives, name), weight=one) for name in ("all_to_all", "all_gather")}
    return structs.replace(scenario, node=scenario.node.rewired(collectives=structs.replace(collectives, **kinds)))


def steady_step_seconds(scenario: Scenario, indices: list[int]) -> float:
    """Predicted seconds of a steady step."""
    steps = predict(scenario).steps
    return median(steps[i].duration for i in indices)
