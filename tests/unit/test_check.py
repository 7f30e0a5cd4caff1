"""The static check: each mistake in a program of a few commands, and none in the policies' programs."""

import pytest

from offsim.program.build import build
from offsim.program.check import live_at_end, problems
from offsim.program.commands import (
    COMPUTE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.groups import sequence_groups
from offsim.program.load import check_scenario
from offsim.program.systems.accelerate_model import AccelerateModel
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.uses import LOADING, Use
from offsim.scenario import catalogue
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import load_model, load_node
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload
from tests.golden.tiny import tiny_program

POLICIES = (
    Resident(),
    SGLangLayerwise(version="v0"),
    SGLangLayerwise(version="v0", pinned=False),
    SGLangLayerwise(version="v1", prefetch=3),
    SGLangLayerwise(version="v2"),
    SGLangLayerwise(version="v2", prefetch=0.6),
    SGLangLayerwise(version="v2", prefetch=0.99),
    SGLangLayerwise(version="v3", prefetch=2),
    SGLangLayerwise(version="v3", prefetch=2, resident_layers=0.4),
    SGLangLayerwise(version="v3", resident_layers=0.4, residency="strided"),
    FullModel(version="pageable"),
    FullModel(version="pinned"),
    FSDP(),
    FSDP(prefetch=3),
    DiffusersGroup(),
    DiffusersGroup(num_blocks_per_group=3),
    DiffusersGroup(stream=True),
    DiffusersGroup(stream=True, record_stream=True),
    DiffusersGroup(stream=True, low_cpu_mem_usage=True),
    AccelerateModel(),
)


def program(*steps: tuple[Command, ...], load: tuple[Command, ...] = ()) -> StreamProgram:
    sections = [Section(f"step {i}", Use("denoise", step=i), commands) for i, commands in enumerate(steps)]
    return StreamProgram("hand-written", (Section("load", LOADING, load), *sections), sequence_groups((0,)))


def messages(*commands: Command, load: tuple[Command, ...] = ()) -> list[str]:
    return [problem.message for problem in problems(program(commands, load=load))]


def kernel(*reads: str, writes: tuple[str, ...] = (), stream: str = COMPUTE) -> Compute:
    return Compute(stream, "k", (), reads, writes)


def h2d(buffer: str, stream: str = "copy", memory: str = "pinned") -> Copy:
    return Copy(stream, buffer, "H2D", 1.0, memory, buffer)  # type: ignore[arg-type]


def d2h(buffer: str, stream: str = "copy") -> Copy:
    return Copy(stream, buffer, "D2H", 1.0, "pinned", buffer)


def waits(command: Command, stream: str) -> bool:
    return isinstance(command, Wait) and command.stream == stream


A, B = Allocate("a", 1.0, "copy"), Allocate("b", 1.0, "copy")
READY, AWAIT = Record("copy", "ready"), Wait(COMPUTE, "ready")
DONE, GATE = Record(COMPUTE, "done"), Wait("copy", "done")


def test_a_kernel_that_waits_for_its_copy_is_fine():
    assert messages(A, h2d("a"), READY, AWAIT, kernel("a"), Free("a")) == []


def piece(which: int, count: int, stream: str = "copy") -> Copy:
    return h2d("a", stream)._replace(piece=(which, count))


def test_pieces_of_a_buffer_may_be_written_at_the_same_time_by_two_streams():
    assert messages(A, piece(0, 2), piece(1, 2, "other"), *await_all("copy", "other"), kernel("a"), Free("a")) == []


def await_all(*streams: str) -> list[Command]:
    return [c for s in streams for c in (Record(s, f"{s} tail"), Wait(COMPUTE, f"{s} tail"))]


def test_a_kernel_must_wait_for_every_piece():
    found = messages(A, piece(0, 2), piece(1, 2, "other"), *await_all("copy"), kernel("a"), Free("a"))
    assert found == [
        "compute 'k' on stream 'compute' reads buffer 'a' without waiting for stream 'other', which writes it"
    ]


def test_a_kernel_needs_every_piece():
    found = messages(A, piece(0, 3), piece(2, 3), *await_all("copy"), kernel("a"), Free("a"))
    assert found == ["compute 'k' on stream 'compute' reads buffer 'a', of which a piece was never written"]


def test_a_piece_may_be_written_while_another_one_is_read_but_not_the_same():
    gather = Collective("gather", "g", "all-gather", 1.0, "world", ("a",), ("a",), (0, 2))
    first = [A, piece(0, 2), Record("copy", "first"), Wait("gather", "first"), gather]
    rest = [piece(1, 2), *await_all("copy", "gather"), kernel("a"), Free("a")]
    assert messages(*first, *rest) == []
    again = "copy 'a' on stream 'copy' writes buffer 'a' without waiting for stream 'gather', which still uses it"
    assert messages(*first, piece(0, 2), *rest) == [again]


def test_memory_of_a_buffer_written_in_pieces_may_be_reused_after_all_of_them():
    first = [A, piece(0, 2), piece(1, 2, "other"), Free("a"), B]
    assert messages(*first, Record("other", "o"), Wait("copy", "o"), h2d("b"), Free("b")) == []
    found = messages(*first, h2d("b"), Free("b"))
    assert len(found) == 1 and "memory of freed buffer 'a'" in found[0] and "stream 'other'" in found[0]


def test_a_kernel_must_wait_for_its_copy():
    assert messages(A, h2d("a"), kernel("a"), Free("a")) == [
        "compute 'k' on stream 'compute' reads buffer 'a' without waiting for stream 'copy', which writes it"
    ]


def test_a_record_before_the_copy_does_not_order_it():
    assert len(messages(A, READY, h2d("a"), AWAIT, kernel("a"), Free("a"))) == 1


def test_a_wait_means_the_latest_record_before_it():
    later = (A, B, h2d("a"), READY, AWAIT, h2d("b"), READY, kernel("a"), kernel("b"), Free("a"), Free("b"))
    assert messages(*later) == [
        "compute 'k' on stream 'compute' reads buffer 'b' without waiting for stream 'copy', which writes it"
    ]


def test_waiting_for_a_later_command_of_the_stream_covers_earlier_ones():
    assert messages(A, B, h2d("a"), h2d("b"), READY, AWAIT, kernel("a", "b"), Free("a"), Free("b")) == []


def test_order_passes_through_a_third_stream():
    hop = (Wait("other", "ready"), Record("other", "passed on"), Wait(COMPUTE, "passed on"))
    assert messages(A, h2d("a"), READY, *hop, kernel("a"), Free("a")) == []


@pytest.mark.parametrize(
    "blocker", [Synchronize("stream", "copy"), Synchronize("event", "ready"), Synchronize("device")]
)
def test_a_blocked_host_orders_what_it_issues_next(blocker):
    assert messages(A, h2d("a"), READY, blocker, kernel("a", stream="new"), Free("a")) == []


def test_synchronizing_another_stream_orders_nothing():
    assert len(messages(A, h2d("a"), Synchronize("stream", COMPUTE), kernel("a"), Free("a"))) == 1


@pytest.mark.parametrize("memory", ["pageable", "fresh"])
def test_a_pageable_copy_blocks_the_host(memory):
    assert messages(A, h2d("a", memory=memory), kernel("a"), Free("a")) == []


def test_a_buffer_that_nothing_wrote_cannot_be_read():
    assert messages(A, kernel("a"), Free("a")) == [
        "compute 'k' on stream 'compute' reads buffer 'a', which nothing has written"
    ]


def test_a_buffer_of_the_load_phase_counts_as_loaded():
    assert messages(kernel("a"), load=(A,)) == []


def test_a_buffer_that_was_never_allocated_cannot_be_read():
    assert messages(kernel("a")) == ["compute 'k' on stream 'compute' reads buffer 'a', which was never allocated"]


def test_a_buffer_cannot_be_used_after_it_was_freed():
    freed = (Free("a"), kernel("a"), h2d("a"), d2h("a"))
    assert messages(A, h2d("a"), READY, AWAIT, *freed) == [
        "compute 'k' on stream 'compute' reads buffer 'a', after it was freed",
        "copy 'a' on stream 'copy' writes buffer 'a', after it was freed",
        "copy 'a' on stream 'copy' reads buffer 'a', after it was freed",
    ]


def test_a_free_before_the_kernel_has_run_is_fine():
    assert messages(kernel("a"), Free("a"), load=(A,)) == []


def test_memory_of_a_freed_buffer_waits_for_its_readers():
    reuse = (kernel("a"), Free("a"), B, h2d("b"), Free("b"))
    assert messages(*reuse, load=(A,)) == [
        "copy 'b' on stream 'copy' writes buffer 'b', maybe in the memory of freed buffer 'a', "
        "without waiting for stream 'compute', which still uses it"
    ]


def test_memory_of_a_freed_buffer_may_be_reused_behind_its_readers():
    assert messages(kernel("a"), DONE, Free("a"), B, GATE, h2d("b"), Free("b"), load=(A,)) == []


def test_memory_freed_into_one_pool_is_not_reused_in_another():
    other = Allocate("b", 1.0, "elsewhere")
    assert messages(kernel("a"), Free("a"), other, h2d("b"), Free("b"), load=(A,)) == []


def test_memory_freed_after_an_allocation_is_not_reused_by_it():
    assert messages(B, kernel("a"), Free("a"), h2d("b"), Free("b"), load=(A,)) == []


def test_memory_remembers_its_readers_through_several_owners():
    chain = (kernel("a"), Free("a"), B, Free("b"), Allocate("c", 1.0, "copy"), h2d("c"), Free("c"))
    assert len(messages(*chain, load=(A,))) == 1


def test_kernels_and_collectives_write_as_copies_do():
    gather = Collective("copy", "gather", "all-gather", 1.0, writes=("b",))
    for write in (kernel(writes=("b",), stream="copy"), gather):
        assert len(messages(kernel("a"), Free("a"), B, write, Free("b"), load=(A,))) == 1


def test_a_buffer_is_not_overwritten_under_its_readers():
    assert messages(kernel("a"), h2d("a"), load=(A,)) == [
        "copy 'a' on stream 'copy' writes buffer 'a' without waiting for stream 'compute', which still uses it"
    ]


def test_a_copy_out_reads_its_buffer():
    out = d2h("a", stream=COMPUTE)
    assert messages(out, h2d("a"), load=(A,)) == messages(kernel("a"), h2d("a"), load=(A,))
    assert len(messages(A, h2d("a"), out, Free("a"))) == 1


def test_an_event_must_be_recorded_before_it_is_awaited():
    assert messages(AWAIT, Synchronize("event", "done"), READY) == [
        "stream 'compute' waits for event 'ready', which was never recorded",
        "the host waits for event 'done', which was never recorded",
    ]


def test_a_buffer_is_freed_once():
    assert messages(Free("a"), Free("a"), Free("b"), load=(A,)) == [
        "frees buffer 'a', which was freed before",
        "frees buffer 'b', which was never allocated",
    ]


def test_a_live_name_is_not_allocated_again():
    assert messages(A, load=(A,))[:1] == ["allocates buffer 'a', which is still allocated"]


def test_problems_say_where_they_are():
    step = (A, kernel("a"), Free("a"))
    (problem,) = problems(program(step, step, step))
    assert (problem.section, problem.position, problem.command) == ("step 0", 1, step[1])


def test_a_step_that_leaks_is_found_when_it_repeats():
    step = (A, h2d("a"), READY, AWAIT, kernel("a"))
    (problem,) = problems(program(step, step, step))
    assert (problem.section, problem.message) == ("step 1", "allocates buffer 'a', which is still allocated")


def test_activations_must_be_freed():
    assert messages(Allocate("activations", 1.0, COMPUTE)) == ["buffer 'activations' is never freed"]


def test_a_staging_buffer_must_be_freed_every_time():
    use = (A, h2d("a", stream=COMPUTE), kernel("a"))
    assert messages(*use, Free("a"), *use) == ["buffer 'a' is never freed"]


def test_prefetched_and_resident_weights_and_host_memory_may_stay():
    resident = (A, h2d("a"), READY, AWAIT, kernel("a"))
    prefetched = (B, h2d("b"), Free("b"), B, h2d("b"))
    host = Allocate("b on host", 1.0, "pageable")
    whole = program((*resident, *prefetched, host), load=(Allocate("c", 1.0, COMPUTE),))
    assert problems(whole) == []
    assert [allocate.buffer for allocate in live_at_end(whole)] == ["c", "a", "b", "b on host"]


def test_memory_freed_with_a_recorded_stream_may_be_written_without_waiting_for_it():
    """Without the record, b may get the memory of a that the kernel still reads."""
    before = (A, h2d("a"), READY, AWAIT, kernel("a"))
    after = (B, h2d("b"), Free("b"))
    assert len(messages(*before, Free("a"), *after)) == 1
    assert messages(*before, Free("a", (COMPUTE,)), *after) == []
    assert len(messages(*before, Free("a", ("another stream",)), *after)) == 1


@pytest.mark.parametrize(
    ("policy", "gpus"),
    [(SGLangLayerwise(version=version), 1) for version in ("v0", "v1", "v2", "v3")] + [(FSDP(), 2)],
)
def test_every_streams_waits_are_needed(policy, gpus):
    whole = tiny_program(policy, gpus=gpus)
    waiting = {command.stream for command in whole.commands() if isinstance(command, Wait)}
    for stream in waiting:
        sections = [
            section._replace(commands=tuple(c for c in section.commands if not waits(c, stream)))
            for section in whole.sections
        ]
        assert problems(whole._replace(sections=tuple(sections))) != [], stream


@pytest.mark.parametrize("model", catalogue.names("models"))
@pytest.mark.parametrize("gpus", [1, 2])
def test_every_policy_issues_a_safe_program(model, gpus):
    node, loaded = load_node("h100-sxm-x8"), load_model(model)
    for policy in POLICIES:
        scenario = Scenario(loaded, Workload(gpus=gpus, tokens=64, steps=4), node, policy)
        try:
            check_scenario(scenario)
        except ScenarioError as error:
            assert "do not divide" in str(error) or "has at most" in str(error)
            continue
        assert problems(build(scenario)) == [], policy
