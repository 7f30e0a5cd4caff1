"""What must hold of every simulated run, on random scenarios."""

from collections import Counter, defaultdict
from functools import partial
from math import sqrt
from unittest.mock import patch

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from offsim.engine.bounds import lower_bound, lower_bounds
from offsim.engine.durations import Durations
from offsim.engine.environment import PromptEnvironment
from offsim.engine.network import Network
from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.check import problems
from offsim.program.commands import Allocate, Collective, Compute, Copy, Free, StreamProgram
from offsim.program.spans import Span
from offsim.program.systems.resident import Resident
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.timeline import Timeline
from offsim.scenario.node import Node
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import Scenario
from tests.oracles.traces.instants import RELATIVE
from tests.oracles.traces.run import differences
from tests.scenario_strategies import FULL, clockless, models, small_scenarios
from tests.strategies import OVERHEADS

QUICK = settings(max_examples=30, deadline=None, derandomize=True)
ALIKE = {"count": st.sampled_from([2, 4]), "node": partial(clockless, alike=True), "unused_gpus": False}
"""Ranks that topology makes the same."""
ALONE = {"count": st.just(1), "node": partial(clockless, free_host=True, latency=False), "unused_gpus": False}
"""One GPU whose host thread and copies have no fixed costs."""


def on_tracks(spans: list[Span]) -> dict[tuple[int, str], list[Span]]:
    """Spans by rank and track, in order."""
    tracks = defaultdict(list)
    for span in spans:
        tracks[span.rank, span.track].append(span)
    return {key: sorted(track, key=lambda span: (span.start, span.end)) for key, track in tracks.items()}


def makespan(timeline: Timeline, sections: range) -> float:
    """From the first begin of these sections to the last end."""
    windows = [w for w in timeline.windows if w.section in sections]
    return max(max(w.end, w.compute_end) for w in windows) - min(w.start for w in windows)


def steps_of(program: StreamProgram) -> range:
    """The sections that are denoising steps."""
    numbers = program.numbers_of()
    return range(numbers[0], numbers[-1] + 1)


def durations(timeline: Timeline, program: StreamProgram, rank: int = 0) -> list[float]:
    """Every section's duration on one rank, repeated ones included."""
    recorded = [timeline.recorded_section(number) for number in range(len(program.sections))]
    return [timeline.step_seconds(rank, number) for number in recorded]


def check_rows(network: Network) -> None:
    """No flow beyond its cap, no row beyond its bound."""
    flows = [
        (network.rates.flow_class(index), batch.share.rate)
        for batch in network.batches
        for index in batch.classes.indices
    ]
    there = {active for flow_class, _ in flows for active in flow_class.active_as}
    load: Counter[int] = Counter()
    for flow_class, rate in flows:
        assert 0 < rate <= flow_class.cap * (1 + 1e-9)
        for row, coefficient in flow_class.usage:
            load[row] += coefficient * rate
    for index, amount in load.items():
        row = network.rates.rows[index]
        slower = [slowdown for kind, slowdown in row.slowdowns if (row.rank, kind) in there]
        bound = row.bound
        for slowdown in slower:
            bound /= 1 + slowdown
        assert amount <= bound * (1 + 1e-9), row.name


def looked_at(networks: list[Network], checks: Counter[str]) -> type[PromptEnvironment]:
    """An environment that looks at all rows of the (one) network at the end of every instant."""

    class Watched(PromptEnvironment):
        def run(self, until=None):
            def look():
                if networks[-1]._starting:
                    self.agenda._last.insert(0, look)
                    return
                check_rows(networks[-1])
                checks["instants"] += 1
                if self.agenda._later:
                    self.agenda.at(self.agenda._later[0][0], partial(self.agenda.at_last, look))

            self.agenda.at_last(look)
            super().run(until)

    return Watched


@QUICK
@given(small_scenarios(), st.booleans())
def test_no_link_carries_more_than_it_can_at_any_instant(scenario, fold):
    networks: list[Network] = []
    checks: Counter[str] = Counter()

    def made(*arguments, **options):
        networks.append(Network(*arguments, **options))
        return networks[-1]

    with (
        patch("offsim.engine.simulate.Network", made),
        patch("offsim.engine.simulate.PromptEnvironment", looked_at(networks, checks)),
    ):
        simulate(replace(scenario, simulation=replace(FULL, fold=fold)))
    assert checks["instants"] > 1


@QUICK
@given(small_scenarios())
def test_no_span_was_delayed_for_longer_than_it_lasted(scenario):
    assert all(span.contention <= span.duration * (1 + 1e-9) for span in simulate(scenario).spans)


@QUICK
@given(small_scenarios(), st.booleans())
def test_nothing_is_faster_than_its_lower_bound(scenario, contention):
    scenario = replace(scenario, simulation=replace(FULL, contention=contention))
    program = build(scenario)
    timeline = simulate(scenario, program)
    of_ranks = zip(*(durations(timeline, program, rank) for rank in range(program.ranks)), strict=True)
    for slowest, bound in zip(map(max, of_ranks), lower_bounds(scenario, program), strict=True):
        assert slowest >= bound * (1 - 1e-9)
    assert makespan(timeline, steps_of(program)) >= lower_bound(scenario, program) * (1 - 1e-9)


@QUICK
@given(small_scenarios())
def test_two_runs_agree_to_the_last_bit(scenario):
    first, second = simulate(scenario), simulate(scenario)
    assert first.spans == second.spans
    assert first.windows == second.windows


@QUICK
@given(small_scenarios(policy=lambda *_: st.just(Resident()), **ALONE))
def test_a_resident_step_on_one_gpu_is_the_sum_of_its_kernels(scenario):
    program, kernels = build(scenario), Durations(scenario)
    took = durations(simulate(scenario, program), program)
    for number in steps_of(program)[1:]:
        work = [command for command in program.sections[number].commands if isinstance(command, Compute)]
        assert took[number] == pytest.approx(sum(kernels.of_command(command) for command in work), rel=1e-9)


def link_time(scenario: Scenario) -> float:
    """Seconds of one block's copy on a node of one GPU."""
    node, blocks = scenario.node, scenario.model.blocks[0]
    socket = node.host.sockets[0]
    rate = min(node.wiring.pcie.h2d.value, socket.read.value, socket.total.value)
    return blocks.parameters * scenario.weight_bytes_per_parameter / rate


def forward_times(scenario: Scenario, program: StreamProgram) -> tuple[list[float], float]:
    """Compute times of each block in a step's first forward, and of everything else in the step."""
    kernels, step = Durations(scenario), program.sections[steps_of(program)[0]].commands
    work = [command for command in step if isinstance(command, Compute)]
    blocks = [0.0] * scenario.model.block_count
    for command in work:
        if command.name.startswith("blocks."):
            blocks[int(command.name.split()[0].removeprefix("blocks."))] += kernels.of_command(command)
    forwards = scenario.workload.forwards(scenario.model)
    other = sum(kernels.of_command(command) for command in work) - sum(blocks)
    return [seconds / forwards for seconds in blocks], other


@QUICK
@given(
    small_scenarios(
        policy=lambda *_: st.just(SGLangLayerwise(version="v0")),
        simulation=st.just(replace(FULL, contention=False)),
        model=partial(models, families=[("wan",)]),
        **ALONE,
    )
)
def test_without_contention_a_layerwise_forward_sums_the_slower_of_compute_and_next_copy(scenario):
    """SGLang's first version: T = before + sum of max(c_i, m_(i+1)) + c_last + after; so is the bound."""
    scenario = replace(scenario, workload=replace(scenario.workload, compile=0.0, communicator_start=0.0))
    program, copy = build(scenario), link_time(scenario)
    blocks, other = forward_times(scenario, program)
    forward = sum(max(compute, copy) for compute in blocks[:-1]) + blocks[-1]
    expected = scenario.workload.forwards(scenario.model) * forward + other
    timeline, steps = simulate(scenario, program), steps_of(program)
    took = durations(timeline, program)[steps[0] : steps[-1] + 1]
    assert took == pytest.approx([expected] * len(steps), rel=1e-9)
    assert lower_bound(scenario, program) == pytest.approx(len(steps) * expected, rel=1e-9)


def scaled_node(node: Node, factor: float) -> Node:
    """Every rate of a node times `factor`."""

    def up(value, by_bytes=False):
        """A quantity, a curve (by bytes, its sizes too), or all of a table or an array."""
        if isinstance(value, Quantity):
            return replace(value, value=value.value * factor)
        if isinstance(value, Curve):
            sizes = factor if by_bytes else 1.0
            return replace(value, points=tuple((size * sizes, rate * factor) for size, rate in value.points))
        if isinstance(value, dict):
            return {name: up(entry) for name, entry in value.items()}
        return value

    def up_all(struct, fields, by_bytes=""):
        if struct is None:
            return None
        found = {name: up(getattr(struct, name), name in by_bytes.split()) for name in fields.split()}
        return replace(struct, **found)

    collectives = node.wiring.collectives
    if collectives is not None:
        kinds = {name: up_all(getattr(collectives, name), "rate", "rate") for name in ("all_to_all", "all_gather")}
        collectives = replace(collectives, **kinds)
    tables = (
        "gemm attention gemm_shapes attention_shapes memory_bandwidth relayout_bandwidth unpack elementwise relayout"
    )
    sockets = tuple(up_all(socket, "read write total") for socket in node.host.sockets)
    return replace(
        node,
        gpu=up_all(node.gpu, f"{tables} elementwise relayout", "elementwise relayout"),
        host=up_all(replace(node.host, sockets=sockets), "pageable_h2d pageable_d2h fresh_d2h cross_socket"),
        wiring=replace(
            node.wiring,
            pcie=up_all(node.wiring.pcie, "h2d d2h"),
            switches=tuple(up_all(switch, "h2d d2h") for switch in node.wiring.switches),
            nvlink=up_all(node.wiring.nvlink, "send receive"),
            collectives=collectives,
        ),
    )


def scaled_program(program: StreamProgram, factor: float) -> StreamProgram:
    """All bytes and FLOPs of a program times `factor`."""

    def scale(command):
        if isinstance(command, Compute):
            up = (k._replace(flops=k.flops * factor, bytes=k.bytes * factor) for k in command.kernels)
            return command._replace(kernels=tuple(up))
        if isinstance(command, Copy | Collective | Allocate):
            return command._replace(bytes=command.bytes * factor)
        return command

    sections = (s._replace(commands=tuple(map(scale, s.commands))) for s in program.sections)
    return program._replace(sections=tuple(sections))


def without_ties(scenario: Scenario) -> Scenario:
    """The same with host costs of which no sum equals another, and queues that are never full.

    Rounding decides ties, and a tie may decide a step: whether a queue is full at the very instant that it empties.
    """
    overheads, uneven = scenario.node.host.overheads, {}
    for i, name in enumerate(OVERHEADS):
        cost = getattr(overheads, name)
        uneven[name] = replace(cost, value=cost.value * (1 + 0.01 * sqrt(2 + i)))
    overheads = replace(overheads, queue_depth=10**9, **uneven)
    return replace(scenario, node=scenario.node.with_overheads(overheads))


@QUICK
@given(small_scenarios(node=clockless), st.sampled_from([0.5, 3.0, 100.0]))
def test_scaling_all_work_and_all_rates_changes_no_time(scenario, factor):
    scenario = without_ties(scenario)
    program = build(scenario)
    larger = replace(scenario, node=scaled_node(scenario.node, factor))
    plain, scaled = simulate(scenario, program), simulate(larger, scaled_program(program, factor))
    assert durations(scaled, program) == pytest.approx(durations(plain, program), rel=1e-9, abs=1e-12)


def folded_and_full(scenario: Scenario, contention: bool) -> tuple[StreamProgram, Timeline, Timeline]:
    """The same run with one rank for all, and rank by rank."""
    program, simulation = build(scenario), replace(FULL, contention=contention)
    folded = simulate(replace(scenario, simulation=replace(simulation, fold=True)), program)
    assert folded.represented == {0: program.ranks}
    return program, folded, simulate(replace(scenario, simulation=simulation), program)


@QUICK
@given(small_scenarios(**ALIKE))
def test_folding_ranks_that_are_alike_changes_no_time(scenario):
    program, folded, full = folded_and_full(scenario, contention=True)
    for rank in range(program.ranks):
        expected = pytest.approx(durations(full, program, rank), rel=1e-9, abs=1e-12)
        assert durations(folded, program) == expected


@settings(QUICK, phases=(Phase.generate,), max_examples=100)
@given(small_scenarios(**ALIKE))
def test_folding_changes_no_time_without_contention_either(scenario):
    program, folded, full = folded_and_full(scenario, contention=False)
    assert durations(folded, program) == pytest.approx(durations(full, program), rel=1e-9, abs=1e-12)


@settings(QUICK, phases=(Phase.generate,), max_examples=100)
@given(small_scenarios(**ALIKE))
def test_folding_charges_the_same_delays(scenario):
    _, folded, full = folded_and_full(scenario, contention=True)
    lost, expected = (
        [[span.contention for span in spans] for (rank, _), spans in sorted(tracks.items()) if rank == 0]
        for tracks in (on_tracks(folded.spans), on_tracks(full.spans))
    )
    for track, other in zip(lost, expected, strict=True):
        assert track == pytest.approx(other, rel=1e-6, abs=1e-9)


def assert_skipping_changes_nothing(scenario: Scenario, **switches: bool) -> None:
    """With and without the shortcuts: the same spans under the same names at the same instants, on every track."""
    program = build(scenario)
    full = simulate(replace(scenario, simulation=FULL), program)
    skipped = simulate(replace(scenario, simulation=replace(FULL, **switches)), program)
    wrong, largest = differences(program, skipped, full)
    assert not wrong and largest < RELATIVE


MANY = settings(max_examples=150, deadline=None, derandomize=True)


@MANY
@given(small_scenarios(most_blocks=12))
def test_skipping_repeated_steps_changes_nothing(scenario):
    assert_skipping_changes_nothing(scenario, steady_state=True)


@MANY
@given(small_scenarios(most_blocks=12))
def test_skipping_repeated_blocks_changes_nothing(scenario):
    assert_skipping_changes_nothing(scenario, block_period=True)


@MANY
@given(small_scenarios(most_blocks=12))
def test_skipping_blocks_and_steps_changes_nothing(scenario):
    assert_skipping_changes_nothing(scenario, steady_state=True, block_period=True)


@settings(MANY, max_examples=80)
@given(small_scenarios(most_blocks=24, **ALIKE))
def test_skipping_in_long_forwards_changes_nothing(scenario):
    assert_skipping_changes_nothing(scenario, steady_state=True, block_period=True)


@MANY
@given(small_scenarios(count=st.sampled_from([4, 2]), unused_gpus=False, most_blocks=2))
def test_ranks_that_stand_for_others_take_as_long_as_in_a_full_run(scenario):
    program = build(scenario)
    full = simulate(scenario, program)
    folded = simulate(replace(scenario, simulation=replace(FULL, fold=True)), program)
    assert sum(folded.represented.values()) == program.ranks
    for rank in folded.represented:
        assert durations(folded, program, rank) == pytest.approx(durations(full, program, rank), rel=1e-12, abs=1e-13)


@QUICK
@given(small_scenarios(**ALIKE))
def test_pairs_and_aggregated_flows_agree_where_ranks_are_alike(scenario):
    program = build(scenario)
    aggregated = simulate(replace(scenario, simulation=replace(FULL, collective_form="aggregated")), program)
    in_pairs = durations(simulate(scenario, program), program)
    assert durations(aggregated, program) == pytest.approx(in_pairs, rel=1e-9, abs=1e-12)


@QUICK
@given(small_scenarios())
def test_every_policy_issues_a_program_that_the_static_check_accepts(scenario):
    assert problems(build(scenario)) == []


@QUICK
@given(small_scenarios())
def test_memory_is_only_freed_where_it_was_allocated(scenario):
    live: dict[str, tuple[str, float]] = {}
    level: Counter[str] = Counter()
    for command in build(scenario).commands():
        if isinstance(command, Allocate):
            assert command.buffer not in live
            live[command.buffer] = (command.pool, command.bytes)
            level[command.pool] += command.bytes
        elif isinstance(command, Free):
            pool, bytes_ = live.pop(command.buffer)
            level[pool] -= bytes_
            assert level[pool] >= -1e-6
    for pool in level:
        left = sum(bytes_ for owner, bytes_ in live.values() if owner == pool)
        assert level[pool] == pytest.approx(left, rel=1e-9, abs=1e-3)
