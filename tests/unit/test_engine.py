"""Small programs whose timelines can be checked in the head: 100 B/s links, kernels of whole seconds."""

import contextlib

import pytest
from msgspec.structs import replace

from offsim.engine.environment import PromptEnvironment
from offsim.engine.simulate import DeadlockError, simulate
from offsim.program.commands import (
    Collective,
    Command,
    Compute,
    Copy,
    HostWork,
    Kernel,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.groups import sequence_groups
from offsim.program.systems.resident import Resident
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.timeline import Timeline
from offsim.program.uses import Use
from offsim.scenario.faults import ScenarioError
from offsim.scenario.gpu import GPU, Clock, Energy, Knee
from offsim.scenario.host import Host, Socket
from offsim.scenario.load import load_model, load_node
from offsim.scenario.node import Node
from offsim.scenario.scenario import Scenario, Simulation
from offsim.scenario.wiring import CollectiveKind, Collectives, NVLink, PCIe, Switch, Wiring
from offsim.scenario.workload import Workload
from tests.changed_nodes import interfering
from tests.golden.tiny import tiny_scenario
from tests.strategies import curve, no_overheads, quantity

LINK = quantity(100.0)
WIDE = quantity(1e6)
NOW = quantity(0.0)
COLLECTIVE = CollectiveKind(rate=curve((1.0, 100.0)), latency=NOW, weight=quantity(1.0))
NODE = Node(
    name="hundred",
    title="100 B/s links",
    gpu=GPU(
        name="GPU",
        memory=WIDE,
        context=NOW,
        gemm=curve((1.0, 100.0)),
        attention={"default": curve((1.0, 100.0))},
        memory_bandwidth=LINK,
    ),
    host=Host(
        memory=WIDE,
        sockets=(Socket(read=WIDE, write=WIDE, total=WIDE),),
        pageable_h2d=quantity(10.0),
        pageable_d2h=quantity(10.0),
        fresh_d2h=quantity(5.0),
        overheads=no_overheads(),
    ),
    wiring=Wiring(
        gpus=2,
        sockets=((0, 1),),
        pcie=PCIe(h2d=LINK, d2h=LINK, duplex=quantity(2.0), latency=NOW),
        nvlink=NVLink(send=LINK, receive=LINK),
        collectives=Collectives(transport="nvlink", all_to_all=COLLECTIVE, all_gather=COLLECTIVE),
    ),
)
ONE, TWO = sequence_groups((0,)), sequence_groups((0, 1))
PER_RANK = Simulation(fold=False)


def run(*commands: Command, node: Node = NODE, groups=ONE, simulation: Simulation = PER_RANK) -> Timeline:
    """The timeline of a program of one section."""
    return run_steps(commands, node=node, groups=groups, simulation=simulation)


def run_steps(*steps: tuple[Command, ...], node: Node = NODE, groups=ONE, simulation=PER_RANK) -> Timeline:
    """The timeline of a program of so many steps."""
    sections = tuple(Section(f"step {i}", Use("denoise", step=i), commands) for i, commands in enumerate(steps))
    program = StreamProgram("by hand", sections, groups)
    workload = Workload(gpus=program.ranks, tokens=64)
    model = load_model("wan2.2-t2v-a14b")
    return simulate(Scenario(model, workload, node, Resident(), simulation=simulation), program)


def on(timeline: Timeline, track: str, rank: int = 0) -> list[tuple[str, float, float]]:
    """(name or kind, start, end) of a track's spans."""
    spans = [span for span in timeline.shifted_spans() if span.track == track and span.rank == rank]
    return [(span.name or span.kind, span.start, span.end) for span in sorted(spans, key=lambda s: s.start)]


def kernels(*seconds: float, stream: str = "compute", name: str = "kernels") -> Compute:
    """Elementwise kernels of so many seconds each."""
    return Compute(stream, name, tuple(Kernel("elementwise", 0.0, 100 * s, 1.0) for s in seconds))


def h2d(stream: str, bytes_: float = 100.0, memory: str = "pinned", name: str = "") -> Copy:
    """A copy to the device."""
    return Copy(stream, name or stream, "H2D", bytes_, memory, "buffer")


def d2h(stream: str, bytes_: float = 100.0) -> Copy:
    """A copy from the device into pinned memory."""
    return Copy(stream, stream, "D2H", bytes_, "pinned", "buffer")


def test_kernels_of_one_stream_run_one_after_the_other():
    assert on(run(kernels(2, name="a"), kernels(3, name="b")), "compute") == [("a", 0, 2), ("b", 2, 5)]


def test_a_copy_and_a_kernel_run_side_by_side():
    timeline = run(kernels(2), h2d("copy"))
    assert on(timeline, "compute") == [("kernels", 0, 2)]
    assert on(timeline, "H2D engine") == [("copy", 0, 1)]


def test_kernels_of_no_rows_take_no_time_under_a_power_limit():
    """A model without text tokens has some."""
    limit = Clock(
        limit=quantity(700.0),
        idle=quantity(100.0),
        window=quantity(1.0),
        power_exponent=quantity(2.0),
        energy=Energy(gemm=NOW, attention=NOW, byte=NOW),
        knee=Knee(*[quantity(1.0)] * 3),
        collective=NOW,
        copy=NOW,
    )
    node = replace(NODE, gpu=replace(NODE.gpu, clock=limit))
    assert on(run(kernels(0, 2, 0, 0, 1, 0), kernels(0), kernels(1), node=node), "compute") == [
        ("kernels", 0, 3),
        ("kernels", 3, 4),
    ]


def test_two_copies_of_one_direction_run_one_after_the_other():
    assert on(run(h2d("a"), h2d("b")), "H2D engine") == [("a", 0, 1), ("b", 1, 2)]


def test_a_small_copy_waits_behind_a_large_one():
    timeline = run(h2d("large", 1000), h2d("small", 50))
    assert on(timeline, "H2D engine") == [("large", 0, 10), ("small", 10, 10.5)]


def test_both_directions_run_at_once():
    timeline = run(h2d("down"), d2h("up"))
    assert on(timeline, "H2D engine") == [("down", 0, 1)]
    assert on(timeline, "D2H engine") == [("up", 0, 1)]


def test_a_link_without_duplex_halves_both_directions():
    node = NODE.rewired(pcie=replace(NODE.wiring.pcie, duplex=quantity(1.0)))
    timeline = run(h2d("down"), d2h("up"), node=node)
    assert on(timeline, "H2D engine") == [("down", 0, 2)]
    assert on(timeline, "D2H engine") == [("up", 0, 2)]


def test_what_one_flow_leaves_speeds_up_the_other():
    """50 B/s each until the small one ends at 2; then 100 B/s for the other's last 200 bytes."""
    node = NODE.rewired(pcie=replace(NODE.wiring.pcie, duplex=quantity(1.0)))
    timeline = run(h2d("down", 300), d2h("up", 100), node=node)
    assert on(timeline, "H2D engine") == [("down", 0, 4)]
    assert on(timeline, "D2H engine") == [("up", 0, 2)]


def test_copies_of_one_stream_in_a_row_keep_the_engine():
    timeline = run(h2d("a", name="first"), h2d("b", name="other"), h2d("a", name="second"))
    assert [name for name, _, _ in on(timeline, "H2D engine")] == ["first", "second", "other"]


def test_copy_latency_comes_before_the_bytes():
    node = NODE.rewired(pcie=replace(NODE.wiring.pcie, latency=quantity(0.5)))
    assert on(run(h2d("copy"), node=node), "H2D engine") == [("copy", 0, 1.5)]


def test_a_pinned_copy_lets_the_host_go_on():
    assert on(run(h2d("copy"), HostWork("next", 1)), "host") == [("next", 0, 1)]


def test_a_pageable_copy_blocks_the_host_and_is_slow():
    assert on(run(h2d("copy", memory="pageable"), HostWork("next", 1)), "host") == [
        ("copy", 0, 10),
        ("next", 10, 11),
    ]


def test_a_copy_into_fresh_memory_goes_at_the_rate_of_page_faults():
    copy = Copy("compute", "out", "D2H", 100.0, "fresh", "buffer")
    assert on(run(copy), "D2H engine") == [("out", 0, 20)]


def test_a_full_queue_blocks_the_host():
    """Two places: the third kernel goes in when the first one ends, at 1; then the host is free."""
    node = NODE.with_overheads(replace(no_overheads(), queue_depth=2))
    timeline = run(kernels(1), kernels(1), kernels(1), HostWork("next", 1), node=node)
    full = "queue of compute full"
    assert on(timeline, "host") == [(full, 0, 1), ("next", 1, 2)]


def test_the_host_runs_ahead_while_the_queue_has_room():
    assert on(run(kernels(1), kernels(1), kernels(1), HostWork("next", 1)), "host") == [("next", 0, 1)]


def test_slow_launches_leave_gaps():
    node = NODE.with_overheads(replace(no_overheads(), launch=quantity(2.0)))
    timeline = run(kernels(1, name="a"), kernels(1, name="b"), node=node)
    assert on(timeline, "compute") == [("a", 2, 3), ("b", 4, 5)]


def test_a_stream_waits_for_an_event_of_another():
    timeline = run(h2d("copy"), Record("copy", "arrived"), Wait("compute", "arrived"), kernels(1))
    assert on(timeline, "compute") == [("arrived", 0, 1), ("kernels", 1, 2)]


def test_a_wait_means_the_latest_record_at_the_instant_of_issue():
    once = (h2d("copy"), Record("copy", "arrived"))
    timeline = run(*once, Wait("compute", "arrived"), *once, kernels(1))
    assert on(timeline, "compute")[-1] == ("kernels", 1, 2)


def test_a_wait_for_an_event_that_was_never_recorded_does_nothing():
    assert on(run(Wait("compute", "nothing"), kernels(1)), "compute") == [("kernels", 0, 1)]


@pytest.mark.parametrize(
    ("what", "until"),
    [(Synchronize("stream", "compute"), 2), (Synchronize("event", "half"), 1), (Synchronize("device"), 5)],
)
def test_synchronisation_blocks_the_host_until_then(what, until):
    work = (h2d("copy", 500), kernels(1), Record("compute", "half"), kernels(1))
    timeline = run(*work, what, HostWork("next", 1))
    assert on(timeline, "host")[-1] == ("next", until, until + 1)


def test_the_step_ends_where_its_host_and_compute_stream_do():
    timeline = run(kernels(2), h2d("copy", 500), Synchronize("stream", "compute"))
    assert timeline.step_bounds(0, 0) == (0, 2)
    assert timeline.windows[0].compute_end == 2


def test_an_all_to_all_ends_together_on_ranks_that_are_alike():
    timeline = run(Collective("compute", "exchange", "all-to-all", 200.0), groups=TWO)
    assert on(timeline, "compute", 0) == on(timeline, "compute", 1) == [("exchange", 0, 2)]


def test_a_collective_waits_for_the_last_rank():
    """GPU 1 sits behind an uplink of half the rate, so its copy takes 2 s and rank 0 waits for it."""
    node = NODE.rewired(switches=(Switch(gpus=(1,), h2d=quantity(50.0), d2h=LINK),))
    exchange = Collective("compute", "exchange", "all-to-all", 100.0)
    timeline = run(h2d("compute"), exchange, node=node, groups=TWO)
    assert on(timeline, "compute", 0) == [("compute", 0, 1), ("exchange", 1, 2), ("exchange", 2, 3)]
    assert on(timeline, "compute", 1) == [("compute", 0, 2), ("exchange", 2, 3)]
    assert [span.kind for span in timeline.spans if span.rank == 0][-2:] == ["rendezvous", "collective"]


def test_a_collective_of_another_stream_starts_when_the_running_kernel_ends():
    exchange = Collective("exchanges", "exchange", "all-to-all", 100.0)
    timeline = run(kernels(4, 4), HostWork("wait", 1), exchange, groups=TWO)
    assert on(timeline, "exchanges") == [("exchange", 4, 5)]
    assert on(timeline, "compute") == [("kernels", 0, 8)]


def test_a_kernel_that_slows_meanwhile_lets_collectives_in_later():
    """2 s done when a copy halves its rate, so the first kernel ends at 6."""
    exchange = Collective("exchanges", "exchange", "all-to-all", 100.0)
    work = (kernels(4, 4), HostWork("wait", 1), exchange, HostWork("wait", 1), h2d("copy", 400))
    timeline = run(*work, node=slowed("elementwise", "H2D", 1.0), groups=TWO)
    assert on(timeline, "exchanges") == [("exchange", 6, 7)]


def test_a_kernel_that_speeds_up_meanwhile_lets_collectives_in_earlier():
    """At half rate for the copy's 2 s, then alone: the first kernel ends at 5, as one command or as three."""
    exchange = Collective("exchanges", "exchange", "all-to-all", 100.0)
    node = slowed("elementwise", "H2D", 1.0)
    for work in ((kernels(4, 4, 4),), (kernels(4), kernels(4), kernels(4))):
        timeline = run(h2d("copy", 200), *work, HostWork("wait", 1), exchange, node=node, groups=TWO)
        assert on(timeline, "exchanges") == [("exchange", 5, 6)]


def test_only_an_active_aggressor_is_charged():
    entries = [("all-to-all", "H2D", quantity(1.0)), ("all-to-all", "D2H", quantity(0.2))]
    node = interfering(NODE, entries)
    timeline = run(h2d("copy", 1000), Collective("compute", "exchange", "all-to-all", 100.0), node=node, groups=TWO)
    [exchange] = [span for span in timeline.spans if span.kind == "collective" and span.rank == 0]
    assert dict(exchange.delays) == {"H2D interference": pytest.approx(1.0)}


@pytest.mark.parametrize("scope", [("stream", "copy"), ("device",), ("event", "copied")], ids=lambda scope: scope[0])
def test_a_host_that_waits_for_a_copy_names_its_stream(scope):
    copied = Record("copy", "copied")
    timeline = run(kernels(1), h2d("copy", 500), copied, Synchronize(*scope))
    assert [(span.cause, span.end) for span in timeline.spans if span.kind == "blocked"] == [("copy", 5)]


def test_two_kinds_of_collectives_at_once_slow_each_other_on_the_ranks_that_they_occupy():
    """All-to-alls of 100 bytes take 1 s alone and 3 beside the all-gather, which takes 4 alone and 6 beside them."""
    entries = [("all-to-all", "all-gather", quantity(2.0)), ("all-gather", "all-to-all", quantity(0.5))]
    node = interfering(NODE, entries)
    gather = Collective("gathers", "gather", "all-gather", 400.0)
    exchange = Collective("compute", "exchange", "all-to-all", 100.0)
    timeline = run(gather, exchange, exchange, node=node, groups=TWO)
    assert on(timeline, "compute") == [("exchange", 0, 3), ("exchange", 3, 6)]
    assert on(timeline, "gathers") == [("gather", 0, 6)]
    assert {name for span in timeline.spans for name, _ in span.delays} == {
        "all-gather interference",
        "all-to-all interference",
    }


def slowed(victim: str, aggressor: str, by: float) -> Node:
    """The node with one interference."""
    return interfering(NODE, [(victim, aggressor, quantity(by))])


def test_a_copy_slows_kernels_while_it_runs():
    """At half the rate for the 2 s of the copy, 1 s of the kernel's 4 s is done; the other 3 s run alone."""
    timeline = run(kernels(4), h2d("copy", 200), node=slowed("elementwise", "H2D", 1.0))
    assert on(timeline, "compute") == [("kernels", 0, 5)]
    [kernel] = [span for span in timeline.spans if span.kind == "compute"]
    assert dict(kernel.delays) == {"H2D interference": 1.0}


def test_a_copy_each_way_slows_kernels_by_the_product_of_both():
    """Twice and three times as long are six times: in the 6 s of both copies 1 s of the kernel's 4 s is done."""
    node = interfering(NODE, [("elementwise", "H2D", quantity(1.0)), ("elementwise", "D2H", quantity(2.0))])
    timeline = run(kernels(4), h2d("copy", 600), d2h("back", 600), node=node)
    assert on(timeline, "compute") == [("kernels", 0, pytest.approx(9))]


def test_interference_is_only_for_its_own_victim_and_aggressor():
    for node in (slowed("gemm", "H2D", 1.0), slowed("elementwise", "D2H", 1.0)):
        assert on(run(kernels(4), h2d("copy", 200), node=node), "compute") == [("kernels", 0, 4)]


def test_without_contention_nothing_slows_kernels():
    node = slowed("elementwise", "H2D", 1.0)
    timeline = run(kernels(4), h2d("copy", 200), node=node, simulation=Simulation(contention=False))
    assert on(timeline, "compute") == [("kernels", 0, 4)]


def test_a_copy_slows_the_collective_that_it_interferes_with():
    """At half of 100 B/s for the copy's 2 s, then at 100 B/s for the last 100 of 200 bytes."""
    timeline = run(
        Collective("compute", "exchange", "all-to-all", 200.0),
        h2d("copy", 200),
        node=slowed("all-to-all", "H2D", 1.0),
        groups=TWO,
    )
    assert on(timeline, "compute") == [("exchange", 0, 3)]


def test_a_deadlock_names_the_stream_its_head_and_what_it_waits_for(monkeypatch):
    """No program can deadlock (waits mean earlier records), so the run is broken off while the copy goes on."""

    class BrokenOff(PromptEnvironment):
        def run(self, until=None):
            self.agenda.at(0.5, self.stop)
            with contextlib.suppress(KeyboardInterrupt):
                super().run(until)

        def stop(self):
            raise KeyboardInterrupt

    monkeypatch.setattr("offsim.engine.simulate.PromptEnvironment", BrokenOff)
    commands = (h2d("copy"), Record("copy", "arrived"), Wait("compute", "arrived"), Synchronize("device"))
    with pytest.raises(DeadlockError) as caught:
        run(*commands)
    message = str(caught.value)
    assert "rank 0 stream 'compute': head Wait(stream='compute', event='arrived')" in message
    assert "waits for event 'arrived' on stream 'copy'" in message
    assert "rank 0 host: waits for Synchronize(scope='device'" in message


def test_measured_both_directions_at_once_on_an_h200():
    """2 x H200: 55.2 and 53.65 GB/s alone, 35.1 GB/s each together."""
    timeline = run(h2d("down", 702e6), d2h("up", 702e6), node=load_node("h200-x2-nvlink"))
    for engine in ("H2D engine", "D2H engine"):
        [(_, start, end)] = on(timeline, engine)
        assert 702e6 / (end - start) == pytest.approx(35.1e9, rel=0.03)


@pytest.mark.parametrize("fold", [False, True])
def test_measured_copy_beside_an_all_to_all_through_host_memory(fold):
    """2 x H200 over host memory: 702 MB down in 17.4 ms, 290 MB each way in 20.7 ms (alone 12.7 and 12.4)."""
    timeline = run(
        h2d("copy", 702e6),
        Collective("compute", "exchange", "all-to-all", 290e6),
        node=load_node("h200-x2-host-memory"),
        groups=TWO,
        simulation=Simulation(fold=fold),
    )
    [(_, start, end)] = on(timeline, "H2D engine")
    assert end - start == pytest.approx(17.4e-3, rel=0.03)
    [(_, start, end)] = on(timeline, "compute")
    assert end - start == pytest.approx(20.7e-3, rel=0.03)


NARROW_HOST = replace(NODE.host, sockets=(replace(NODE.host.sockets[0], read=LINK),))
"""Both GPUs together read 100 B/s."""


def test_a_folded_copy_without_contention_has_the_link_alone():
    for fold in (False, True):
        simulation = Simulation(fold=fold, contention=False)
        timeline = run(h2d("copy"), node=replace(NODE, host=NARROW_HOST), groups=TWO, simulation=simulation)
        assert on(timeline, "H2D engine") == [("copy", 0, 1)]


def test_a_folded_copy_is_delayed_by_the_other_ranks_copies():
    """2 s instead of 1, because of the other rank."""
    for fold in (False, True):
        node, simulation = replace(NODE, host=NARROW_HOST), Simulation(fold=fold)
        span = run(h2d("copy"), node=node, groups=TWO, simulation=simulation).spans[0]
        assert (span.duration, span.contention) == (2, 1)


def test_repeated_steps_keep_the_span_that_begins_with_them():
    end = (kernels(0.203), Synchronize("stream", "compute"))
    timeline = run_steps(end, *[(kernels(7, name="first"), *end)] * 4)
    assert timeline.repeats
    assert sum(span.name == "first" for span in timeline.shifted_spans()) == 4


def test_a_step_that_began_otherwise_is_not_taken_as_repeated():
    """Step 2 begins with 5 s of step 1 still to do, steps 3 to 5 don't: 1 s each."""
    synchronised = (kernels(1), Synchronize("stream", "compute"))
    node = NODE.with_overheads(replace(no_overheads(), launch=quantity(0.01)))
    timeline = run_steps(synchronised, (kernels(5),), *[synchronised] * 4, node=node)
    start, end = timeline.step_bounds(0, timeline.recorded_section(4))
    assert end - start == pytest.approx(1.01)


@pytest.mark.parametrize("shortcuts", [True, False])
def test_a_record_that_grows_too_long_is_refused_while_it_grows(monkeypatch, shortcuts):
    monkeypatch.setattr("offsim.program.timeline.MOST_SPANS", 500)
    simulation = Simulation(steady_state=shortcuts, block_period=shortcuts)
    scenario = replace(tiny_scenario(SGLangLayerwise(), steps=200), simulation=simulation)
    if shortcuts:
        assert len(simulate(scenario).spans) < 500
        return
    with pytest.raises(ScenarioError, match=r"more than 500 commands .* fewer workload.steps"):
        simulate(scenario)
