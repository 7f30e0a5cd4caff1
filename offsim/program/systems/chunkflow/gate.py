"""The gate of ChunkFlow: between which collectives of a block each chunk of the next block is issued.

A program has no branches, so what a worker would find out when it runs is worked out before, from the node's rates.
"""

from collections.abc import Sequence
from typing import NamedTuple

from offsim.scenario.scenario import Scenario

from ...commands import Collective, Compute
from ...first_order import collective_seconds, kernel_seconds
from ...passages import Template


class GateWindow(NamedTuple):
    """A block's kernels between two collectives, or from or to its end."""

    place: int
    """Before which command of the block it begins."""
    closed: float
    """Seconds of the collective before it, alone."""
    seconds: float
    """Seconds of its kernels."""


def gate_windows(scenario: Scenario, template: Template) -> list[GateWindow]:
    """The windows of a block in which chunks may start, in order: one more than it has collectives."""
    found = [GateWindow(0, 0.0, 0.0)]
    for i, command in enumerate(template.commands):
        if isinstance(command, Compute):
            place, closed, seconds = found[-1]
            found[-1] = GateWindow(place, closed, seconds + kernel_seconds(scenario, command.kernels))
        else:
            found.append(GateWindow(i + 1, collective_seconds(scenario.node, command), 0.0))
    return found


def as_they_fit(chunks: int, windows: Sequence[GateWindow], each: float) -> list[int]:
    """The place from which on each chunk may start, if one takes `each` seconds and none starts during a collective.

    The last one of a window may run into the collective behind it, and if that is short into the window after; what
    fits nowhere follows the last collective.

    >>> as_they_fit(5, [GateWindow(0, 0.0, 1.5), GateWindow(3, 1.0, 0.1), GateWindow(5, 1.0, 1.0)], 1.0)
    [0, 0, 3, 5, 5]
    """
    *gated, last = windows
    places: list[int] = []
    now, free = 0.0, 0.0
    for window in gated:
        start = now + window.closed
        now = start + window.seconds
        while (free := max(free, start)) < now and len(places) < chunks:
            places.append(window.place)
            free += each
    return [*places, *[last.place] * (chunks - len(places))]


def at_host_pace(chunks: int, issued: Sequence[float], each: float) -> list[int]:
    """The place at which a worker issues each chunk, if that takes it `each` seconds, beside a thread that issues the
    block's commands at these instants.

    >>> at_host_pace(4, [0.0, 1.0, 1.5, 4.0], 1.0)
    [1, 2, 3, 3]
    """
    return [sum(at <= chunk * each for at in issued) for chunk in range(chunks)]


def issue_instants(scenario: Scenario, template: Template) -> list[float]:
    """When the host has issued each command of a block, from the block's begin on, each collective with a record."""
    costs, clock, found = scenario.node.host.overheads, 0.0, []
    for command in template.commands:
        if isinstance(command, Compute):
            clock += costs.launch.value * len(command.kernels)
        else:
            clock += costs.collective.value + costs.event.value
        found.append(clock)
    return found


def collectives_before(template: Template, place: int) -> int:
    """How many collectives a block has before one of its commands."""
    return sum(isinstance(command, Collective) for command in template.commands[:place])
