"""Blocks that are left out: small programs whose timelines can be checked in the head, with and without."""

from msgspec.structs import replace

from offsim.engine.simulate import simulate
from offsim.program.commands import (
    Command,
    HostWork,
    Part,
    Passage,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Template,
    Wait,
    Written,
)
from offsim.program.timeline import Timeline
from offsim.scenario.load import load_model
from offsim.scenario.node import Node
from offsim.scenario.policy import Resident
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


def run(*passages: Passage, node: Node = NODE, simulation: Simulation = SKIPPING) -> Timeline:
    """The timeline of one section."""
    program = StreamProgram("by hand", (Section("step 0", "denoise", 0, Written(passages)),), ONE)
    model, workload = load_model("wan2.2-t2v-a14b"), Workload(gpus=1, tokens=64)
    return simulate(Scenario(model, workload, node, Resident(), simulation=simulation), program)


def as_in_full(*passages: Passage, node: Node = NODE) -> Timeline:
    """The timeline with blocks left out, after a look that all is where it is without that, but for what hosts do."""
    skipping, full = run(*passages, node=node), run(*passages, node=node, simulation=FULL)
    found, expected = (
        sorted((s.track, round(s.start, 9), round(s.end, 9)) for s in timeline.shifted_spans() if s.track != "host")
        for timeline in (skipping, full)
    )
    assert found == expected
    return skipping


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
    node = replace(node, overheads=replace(no_overheads(), queue_depth=20))
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
    node = replace(NODE, overheads=replace(no_overheads(), queue_depth=36))
    forward = tuple(block(number, HostWork("launch", 0.3)) for number in range(20))
    timeline = as_in_full(forward, forward, node=node)
    assert simulated(timeline) < 8
