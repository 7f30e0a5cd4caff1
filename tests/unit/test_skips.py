"""Blocks that are left out: small programs whose timelines can be checked in the head, with and without."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from offsim.engine.simulate import simulate
from offsim.program.commands import Command, HostWork, Record, Section, StreamProgram, Synchronize, Wait
from offsim.program.passages import Part, Passage, Template, Written
from offsim.program.spans import Span
from offsim.program.systems.resident import Resident
from offsim.program.timeline import Timeline
from offsim.program.uses import Use
from offsim.results.steps import step_rows
from offsim.scenario.load import load_model
from offsim.scenario.node import Node
from offsim.scenario.scenario import Scenario, Simulation
from offsim.scenario.workload import Workload
from tests.strategies import no_overheads
from tests.unit.test_engine import NODE, ONE, h2d, kernels, slowed

SKIPPING, FULL = Simulation(steady_state=False), Simulation(steady_state=False, block_period=False)
SECOND = Template((kernels(1),))
"""What a block runs: one kernel of a second."""


def block(number: int, *hooks: Command) -> Part:
    """A block with these hooks before it."""
    return Part(hooks, SECOND, f"block {number} ")


def blocks(count: int, first: int = 0) -> Passage:
    """So many blocks without hooks."""
    return tuple(block(number) for number in range(first, first + count))


def prefetching(count: int) -> Passage:
    """Blocks that each wait for a copy, and begin the next one's: half a second."""
    return tuple(
        block(
            i,
            Wait("compute", f"{i} there"),
            Record("compute", "begun"),
            Wait("copy", "begun"),
            h2d("copy", 50, name=f"copy {(i + 1) % count}"),
            Record("copy", f"{(i + 1) % count} there"),
        )
        for i in range(count)
    )


def as_in_full(*passages: Passage, node: Node = NODE) -> Timeline:
    """The timeline of one section with blocks left out, after a look that all is as it is without that."""
    return same_without(SKIPPING, [Written(passages)], node)


def steps_as_in_full(*steps: Sequence[Command], node: Node = NODE) -> Timeline:
    """The timeline with steps left out that are the same object, after a look that all is as it is without that."""
    return same_without(Simulation(block_period=False), steps, node)


def same_without(simulation: Simulation, steps: Sequence[Sequence[Command]], node: Node) -> Timeline:
    """The timeline of these steps with what the simulation leaves out: spans, and where time goes, as in full."""
    sections = tuple(Section(f"step {i}", Use("denoise", step=i), commands) for i, commands in enumerate(steps))
    program = StreamProgram("by hand", sections, ONE)
    model, workload = load_model("wan2.2-t2v-a14b"), Workload(gpus=1, tokens=64)
    skipping, full = (
        simulate(Scenario(model, workload, node, Resident(), simulation=each), program) for each in (simulation, FULL)
    )
    assert spans_of(skipping, program) == spans_of(full, program)
    for row, expected in zip(step_rows(program, skipping), step_rows(program, full), strict=True):
        assert (row.duration, *row.losses) == pytest.approx((expected.duration, *expected.losses), abs=1e-9)
    return skipping


def spans_of(timeline: Timeline, program: StreamProgram) -> list[Span]:
    """All spans, repeated ones included, to the nanosecond."""
    spans = timeline.shifted_spans(program)
    return sorted(span._replace(start=round(span.start, 9), end=round(span.end, 9)) for span in spans)


def on_host(timeline: Timeline) -> list[tuple[str, float, float]]:
    """What the host did, and from when to when."""
    spans = (span for span in timeline.shifted_spans() if span.track == "host")
    return [(span.name, round(span.start, 9), round(span.end, 9)) for span in spans]


def with_room_for(commands: int) -> Node:
    """The node whose queues hold so many commands."""
    return NODE.with_overheads(replace(no_overheads(), queue_depth=commands))


def simulated(timeline: Timeline) -> int:
    """Blocks that were simulated."""
    return sum(span.kind == "compute" for span in timeline.spans)


def test_a_period_found_in_one_forward_is_known_in_the_next():
    """Of the first forward's blocks one more has to be simulated than of the others': its period is not known yet."""
    forward = prefetching(20)
    once, twice, thrice = (as_in_full(*[forward] * count) for count in (1, 2, 3))
    assert simulated(thrice) - simulated(twice) == simulated(twice) - simulated(once) < simulated(once)


def test_a_known_period_is_only_left_out_before_commands_that_look_the_same():
    """The second forward's copies are larger than its kernels are long."""
    slow = tuple(
        part._replace(before=(*part.before[:3], h2d("copy", 150, name="slow"), part.before[4]))
        for part in prefetching(20)
    )
    timeline = as_in_full(prefetching(20), slow, prefetching(20))
    assert {repeat.where[0]: round(repeat.period, 9) for repeat in timeline.repeats} == {0: 1.0, 1: 1.5, 2: 1.0}


def test_blocks_that_wait_for_long_fired_events_are_alike():
    """Each of the second passage's blocks waits for a copy of its own, all of which the first passage recorded."""
    loaded = tuple(c for i in range(20) for c in (h2d("copy", 1, name=f"copy {i}"), Record("copy", f"{i} there")))
    waiting = tuple(block(i, Wait("compute", f"{i} there")) for i in range(20))
    timeline = as_in_full((Part((*loaded, kernels(1))),), waiting)
    assert simulated(timeline) < 6


def test_blocks_that_wait_for_events_which_are_still_to_fire_are_not():
    """Copies of two seconds, which the first passage began: every block waits for its own."""
    loading = tuple(c for i in range(8) for c in (h2d("copy", 200 + i), Record("copy", f"{i} there")))
    waiting = tuple(block(i, Wait("compute", f"{i} there")) for i in range(8))
    timeline = as_in_full((Part(loading),), waiting)
    assert simulated(timeline) == 8


def test_a_copy_that_is_issued_meanwhile_begins_when_it_is_issued():
    """At 4.5 s, while blocks run that were issued before: they take half a second longer for each of its two."""
    late = Part((HostWork("late", 4.5), h2d("copy", 200)))
    timeline = as_in_full(blocks(20), (late,), node=slowed("elementwise", "H2D", 1.0))
    assert timeline.repeats
    [copy] = [span for span in timeline.shifted_spans() if span.track == "copy"]
    assert (round(copy.start, 9), round(copy.end, 9)) == (4.5, 6.5)


def test_a_stream_that_a_late_host_would_have_given_work_is_not_overlooked():
    """With room for 20 kernels, the host comes to the copy when five blocks are done; nothing may be skipped for it."""
    node = slowed("elementwise", "H2D", 1.0)
    node = node.with_overheads(replace(no_overheads(), queue_depth=20))
    later = Part((*[kernels(1)] * 5, h2d("copy", 200)))
    timeline = as_in_full(blocks(20), (later,), node=node)
    [copy] = [span for span in timeline.shifted_spans() if span.track == "copy"]
    assert (round(copy.start, 9), round(copy.end, 9)) == (5, 7)


def test_a_host_that_waits_for_what_comes_after_the_skip_has_missed_nothing():
    """It waits for a copy after the first ten blocks; the next ten then have to wait for it."""
    tail = (Record("compute", "tail"), Wait("copy", "tail"), h2d("copy", 300), Synchronize("stream", "copy"))
    timeline = as_in_full((*blocks(10), Part(tail), *blocks(10, first=10)))
    assert [repeat.times > 5 for repeat in timeline.repeats] == [True, True]


def test_a_host_that_sleeps_until_its_own_clock_does_not_keep_blocks_from_being_skipped():
    """It is done with both forwards but for what it has no room for at 10.8 s, when ten blocks have run."""
    node = with_room_for(36)
    forward = tuple(block(number, HostWork("launch", 0.3)) for number in range(20))
    timeline = as_in_full(forward, forward, node=node)
    assert simulated(timeline) < 8


def test_what_a_host_waits_in_is_named_for_its_own_block():
    """Each block blocks the host on a copy of its own: ten times the copy's second and the kernel's."""
    timeline = as_in_full(tuple(block(i, h2d("compute", 10, "pageable", f"block {i}")) for i in range(10)))
    assert simulated(timeline) < 5
    assert on_host(timeline) == [(f"block {i}", max(0, 2 * i - 1), 2 * i + 1) for i in range(10)]


def test_a_host_waits_for_room_once_for_every_command_that_makes_some():
    """Of twenty seconds' kernels there is room for ten: the first of them that ends makes room for the eleventh."""
    timeline = as_in_full(blocks(10), blocks(10), node=with_room_for(10))
    assert simulated(timeline) < 12
    assert on_host(timeline) == [("queue of compute full", i, i + 1) for i in range(10)]


def test_a_host_that_goes_on_while_blocks_are_left_out_begins_to_wait_when_it_would():
    """Of fifteen kernels ten have room: the last one is issued at five, and then the host waits for all of them."""
    timeline = as_in_full(blocks(15), (Part((Synchronize("device"),)),), node=with_room_for(10))
    assert simulated(timeline) < 8
    assert on_host(timeline)[-1] == ("synchronize device", 5, 15)


def test_a_copy_that_the_host_waits_for_is_charged_though_blocks_were_left_out_before():
    """It waits from 15 s on, by its own clock, for a copy that begins when twenty blocks are done: from 20 to 30 s."""
    tail = (Record("compute", "tail"), Wait("copy", "tail"), h2d("copy", 1000), HostWork("busy", 15))
    timeline = as_in_full(blocks(20), (Part((*tail, Synchronize("stream", "copy"))),))
    assert simulated(timeline) < 6
    assert on_host(timeline) == [("busy", 0, 15), ("synchronize stream copy", 15, 30)]


def test_a_section_begins_when_its_host_does_though_blocks_are_left_out_then():
    """The host issues the second step's first kernel when the first step's tenth is done."""
    steps = [Written([blocks(20)]), Written([blocks(20)])]
    timeline = same_without(SKIPPING, steps, with_room_for(10))
    assert simulated(timeline) < 20
    assert timeline.hosts[0].windows() == {0: (0, 10), 1: (10, 30)}


def test_steps_are_left_out_that_the_host_has_long_issued():
    """It is three steps ahead."""
    timeline = steps_as_in_full(*[(kernels(1),)] * 10, node=with_room_for(3))
    assert [repeat.times for repeat in timeline.repeats] == [5]


def test_steps_are_not_left_out_if_the_host_is_already_in_others():
    """Five steps of a second, and five of two: four steps ahead, the host is among these."""
    one, two = (kernels(1),), (kernels(2),)
    timeline = steps_as_in_full(*[one] * 5, *[two] * 5, node=with_room_for(4))
    assert [timeline.step_seconds(0, timeline.recorded_section(step)) for step in (4, 5, 9)] == [1, 2, 2]


def test_steps_that_do_not_synchronise_do_not_overlap():
    """The second one ends with a synchronisation: its kernel's three seconds begin when the first one's have ended."""
    timeline = steps_as_in_full((kernels(2),), (kernels(3), Synchronize("device")), (kernels(1),))
    assert [timeline.step_seconds(0, step) for step in range(3)] == [2, 3, 1]
