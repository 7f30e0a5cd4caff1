"""One scenario: its trace with nothing left out is checked, then compared with those that leave something out."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.commands import Collective, Compute, StreamProgram
from offsim.program.timeline import Timeline
from offsim.results.steps import step_rows
from offsim.results.trace import by_track
from offsim.scenario.scenario import Scenario, Simulation

from .compare import compare_tracks, relative
from .engines import wrong_engines
from .instants import ABSOLUTE, RELATIVE, after, near
from .kernels import Beside
from .links import wrong_flows
from .meetings import wrong_meetings
from .walk import Walk

SHORTCUTS = ("fold", "steady_state", "block_period")
WITH_CLOCK = 1e-7
"""With a power limit, steps count as equal before the chip's mean power has settled to the last digit."""


class Outcome(NamedTuple):
    """What was found."""

    wrong: list[str]
    largest: float
    """The largest relative difference of an instant with something left out from the one without."""
    left_out: int
    """Traces that left something out, or folded ranks."""


def check(scenario: Scenario) -> Outcome:
    """Everything that there is to check about a scenario's traces."""
    program = build(scenario)
    full = _simulated(scenario, program)
    wrong, largest, left_out = list(wrong_in_full(scenario, program, full)), 0.0, 0
    for switches in _variants():
        timeline = _simulated(scenario, program, **switches)
        found, difference = differences(program, timeline, full)
        title = " ".join(key for key, on in switches.items() if on)
        wrong += [f"with {title}: {what}" for what in found]
        largest = max(largest, difference)
        left_out += bool(timeline.repeats) or len(timeline.represented) < program.ranks
    bound = RELATIVE if scenario.node.gpu.clock is None or not scenario.simulation.clock else WITH_CLOCK
    if largest > bound:
        wrong.append(f"instants differ by {largest}")
    return Outcome(wrong, largest, left_out)


def _variants() -> Iterator[dict[str, bool]]:
    """All shortcuts, and all but each."""
    yield dict.fromkeys(SHORTCUTS, True)
    for off in SHORTCUTS:
        yield {key: key != off for key in SHORTCUTS}


def _simulated(scenario: Scenario, program: StreamProgram, **switches: bool) -> Timeline:
    simulation: Simulation = replace(scenario.simulation, **(dict.fromkeys(SHORTCUTS, False) | switches))
    return simulate(replace(scenario, simulation=simulation), program)


def wrong_in_full(scenario: Scenario, program: StreamProgram, full: Timeline) -> Iterator[str]:
    """What is wrong with a trace that leaves nothing out."""
    tracks = by_track(program, full)
    for (rank, track), spans in tracks.items():
        for one, later in pairwise(spans):
            if not after(later.start, one.end):
                yield f"rank {rank} {track}: {later} begins before {one} has ended"
    walks = [Walk(scenario, program, rank, tracks, full.hosts[rank].windows()).run() for rank in range(program.ranks)]
    for walk in walks:
        yield from walk.wrong
        yield from wrong_engines(walk)
        yield from _wrong_kernels(scenario, walk)
    if not any(walk.wrong for walk in walks):
        yield from wrong_meetings(scenario, walks)
        yield from wrong_flows(scenario, walks)
        yield from _wrong_steps(program, full, walks)


def _wrong_kernels(scenario: Scenario, walk: Walk) -> Iterator[str]:
    """Kernels that take another time than they would beside what is active; under a clock, too little or too much."""
    done = [one for stream in walk.done.values() for one in stream]
    copies = [
        (one.start + walk.setup(one.command), one.end, one.command.direction) for one in done if _moves(one.command)
    ]
    meetings = [(one.start, one.end, "collective") for one in done if isinstance(one.command, Collective)]
    beside = Beside(scenario, [active for active in (*copies, *meetings) if active[1] > active[0]])
    clock = scenario.node.gpu.clock is not None and scenario.simulation.clock
    for one in done:
        if isinstance(one.command, Compute):
            least = beside.end(one.start, one.command.kernels)
            most = one.start + sum(beside.slowest(kernel) for kernel in one.command.kernels) if clock else least
            if not (after(one.end, least) and after(most, one.end)):
                yield f"rank {walk.rank}: {one.command.name!r} runs from {one.start} to {one.end}, not until {least}"


def _moves(command: object) -> bool:
    return getattr(command, "direction", None) is not None


def _wrong_steps(program: StreamProgram, full: Timeline, walks: list[Walk]) -> Iterator[str]:
    """Steps last from when a rank had done all before them to when it has done all of them, on the slowest rank."""
    seconds = [_section_seconds(walk) for walk in walks]
    for number, row in zip(program.numbers_of(), step_rows(program, full), strict=True):
        expected = max(of_rank[number] for of_rank in seconds)
        if not near(row.duration, expected):
            yield f"step {row.index} takes {row.duration} s, from the trace {expected}"
        if not near(sum(row.losses), row.duration):
            yield f"step {row.index} takes {row.duration} s, its parts {sum(row.losses)}"


def _section_seconds(walk: Walk) -> list[float]:
    """Seconds of each section on one rank."""
    reached, found = 0.0, []
    for number in range(len(walk.program.sections)):
        ends = [one.end for one in walk.done["compute"] if one.section == number]
        end = max([walk.windows[number][1], *ends])
        found.append(max(end - reached, 0.0))
        reached = max(end, reached)
    return found


def differences(program: StreamProgram, timeline: Timeline, full: Timeline) -> tuple[list[str], float]:
    """How a trace that leaves something out differs from one that doesn't: tracks, sections, steps and alike ranks."""
    found, expected = by_track(program, timeline), by_track(program, full)
    wrong, largest = compare_tracks(found, expected, {rank: rank for rank in timeline.represented})
    for rank in timeline.represented:
        ours, theirs = timeline.hosts[rank].windows(), full.hosts[rank].windows()
        wrong += [] if ours.keys() == theirs.keys() else [f"rank {rank} has other sections"]
        largest = max([largest, *(relative(a, b) for n in theirs for a, b in zip(ours[n], theirs[n], strict=True))])
    for row, other in zip(step_rows(program, timeline), step_rows(program, full), strict=True):
        largest = max(largest, relative(row.duration, other.duration))
        lost = max(abs(a - b) for a, b in zip(row.losses, other.losses, strict=True))
        if lost > WITH_CLOCK * other.duration + ABSOLUTE:
            wrong.append(f"step {row.index} loses {row.losses}, not {other.losses}")
    for other in range(program.ranks):
        alike = (compare_tracks(found, expected, {rank: other}) for rank in timeline.represented)
        if not any(not differ and difference <= WITH_CLOCK for differ, difference in alike):
            wrong.append(f"rank {other} is like none of {[*timeline.represented]}")
    return wrong, largest
