"""The order of events of every policy, as text: four blocks, two experts, two steps each."""

import pytest

from offsim.program.build import build
from offsim.program.check import problems
from offsim.program.commands import (
    Allocate,
    Collective,
    Compute,
    Copy,
    Free,
    HostWork,
    Kernel,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.groups import sequence_groups
from offsim.program.systems.accelerate_model import AccelerateModel
from offsim.program.systems.accelerate_sequential import AccelerateSequential
from offsim.program.systems.chunkflow.parameters import ChunkFlow
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.text import format_program
from offsim.program.uses import LOADING, Use
from tests.golden.conftest import HERE
from tests.golden.test_simgrid_actors import TOLD
from tests.golden.tiny import library_scenario, tiny_program

PROGRAMS = {
    "resident": (Resident(), {}),
    "sglang-layerwise-v0": (SGLangLayerwise(version="v0"), {}),
    "sglang-layerwise-v1-p1": (SGLangLayerwise(version="v1"), {}),
    "sglang-layerwise-v1-p3": (SGLangLayerwise(version="v1", prefetch=3), {}),
    "sglang-layerwise-v1-p0.99": (SGLangLayerwise(version="v1", prefetch=0.99), {}),
    "sglang-layerwise-v2-p1": (SGLangLayerwise(version="v2"), {}),
    "sglang-layerwise-v2-p3": (SGLangLayerwise(version="v2", prefetch=3), {}),
    "sglang-layerwise-v2-p0.99": (SGLangLayerwise(version="v2", prefetch=0.99), {}),
    "sglang-layerwise-v2-cfg-2-ranks": (SGLangLayerwise(version="v2"), {"cfg": "sequential", "gpus": 2}),
    "sglang-layerwise-v3-leading": (SGLangLayerwise(version="v3", resident_layers=2), {}),
    "sglang-layerwise-v3-strided": (
        SGLangLayerwise(version="v3", resident_layers=2, residency="strided"),
        {},
    ),
    "full-model-pageable": (FullModel(version="pageable"), {}),
    "full-model-pinned": (FullModel(version="pinned"), {}),
    "full-model-in-background": (FullModel(version="pinned", background_steps=2), {"steps": 6}),
    "fsdp-1-rank": (FSDP(), {}),
    "fsdp-2-ranks": (FSDP(), {"gpus": 2}),
    "scheduled-plain": (ScheduledLayerwise(), {}),
    "scheduled-residents": (ScheduledLayerwise(resident_layers=2), {}),
    "scheduled-after-first-all-to-all": (ScheduledLayerwise(placement="after-first-all-to-all"), {"gpus": 2}),
    "scheduled-after-attention": (ScheduledLayerwise(placement="after-attention"), {"gpus": 2}),
    "scheduled-chunks-on-2-streams": (ScheduledLayerwise(chunks=4, copy_streams=2), {}),
    "scheduled-spread": (ScheduledLayerwise(placement="spread", chunks=4), {"gpus": 2}),
    "scheduled-gated": (ScheduledLayerwise(placement="gated", chunks=4), {"gpus": 2}),
    "scheduled-int8": (ScheduledLayerwise(transfer_dtype="int8"), {}),
    "scheduled-sharded": (ScheduledLayerwise(sharded=True), {"gpus": 2}),
    "scheduled-sharded-chunks": (ScheduledLayerwise(sharded=True, chunks=2), {"gpus": 2}),
    "scheduled-across-switch": (ScheduledLayerwise(across_switch="prefetched"), {"cfg": "sequential"}),
    "scheduled-everything": (
        ScheduledLayerwise(
            prefetch=2,
            resident_layers=1,
            placement="gated",
            chunks=4,
            copy_streams=2,
            copy_priority="high",
            transfer_dtype="int4",
            sharded=True,
            across_switch="fetched",
        ),
        {"gpus": 2},
    ),
    "chunkflow": (ChunkFlow(chunk=30e3, chunk_cost=1e-5), {"gpus": 2}),
    "chunkflow-launched-ahead": (ChunkFlow(chunk=30e3, launched_ahead=True), {"gpus": 2}),
    "chunkflow-without-gate": (ChunkFlow(chunk=30e3, gate="none"), {"gpus": 2}),
    "chunkflow-residents": (ChunkFlow(chunk=30e3, resident_fraction=0.6), {"gpus": 2, "cfg": "sequential"}),
}
LIBRARY = {
    "diffusers-block": DiffusersGroup(),
    "diffusers-block-2-per-group": DiffusersGroup(num_blocks_per_group=2),
    "diffusers-block-stream": DiffusersGroup(stream=True),
    "diffusers-block-stream-record": DiffusersGroup(stream=True, record_stream=True),
    "diffusers-block-stream-low-cpu": DiffusersGroup(stream=True, low_cpu_mem_usage=True),
    "diffusers-leaf": DiffusersGroup(level="leaf"),
    "diffusers-leaf-stream": DiffusersGroup(level="leaf", stream=True),
    "accelerate-sequential": AccelerateSequential(),
}
PROGRAMS["accelerate-model"] = (AccelerateModel(), {})
SIZED = "every-command-with-sizes"


@pytest.mark.parametrize("name", PROGRAMS)
def test_commands_come_in_the_real_systems_order(name, compare):
    policy, workload = PROGRAMS[name]
    compare(name, format_program(tiny_program(policy, **workload), compact=True))


@pytest.mark.parametrize("name", LIBRARY)
def test_commands_come_in_the_librarys_order(name, compare):
    """Two blocks of one expert; the first step is the traced one."""
    program = build(library_scenario(LIBRARY[name], 3 if "per-group" in name else 2))
    assert problems(program) == []
    compare(name, format_program(program, compact=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_golden_programs_pass_the_static_check(name):
    policy, workload = PROGRAMS[name]
    assert problems(tiny_program(policy, **workload)) == []


def every_command() -> StreamProgram:
    """One of each command, with the sizes of a Wan2.2 block, in three equal steps."""
    block = 702_788_608.0
    gemm, attention = Kernel("gemm", 3.5e12, 1e9, 10800.0), Kernel("attention", 2e12, 1e9, 86400.0)
    load = (Allocate("block on host", block, "pinned"), HostWork("compile", 1.5))
    step = (
        Allocate("block", block, "copy"),
        Copy("copy", "block", "H2D", block, "pinned", "block", 27),
        Record("copy", "ready"),
        Wait("compute", "ready"),
        Compute("compute", "self-attention", (gemm, attention, gemm), ("block",), ("out",)),
        Compute("compute", "norm", (Kernel("elementwise", 0.0, 1.25e6, 1.0),)),
        Collective("compute", "q", "all-to-all", 96_768_000.0),
        Copy("copy", "block", "H2D", 0.25 * block, "pinned", "block", piece=(3, 4)),
        Collective("gather", "shards", "all-gather", 0.5 * block, "world", ("block",), ("block",)),
        Collective("gather", "shards", "all-gather", 0.125 * block, "world", ("block",), ("block",), (3, 4)),
        Copy("compute", "swap out", "D2H", block, "fresh", "block"),
        Synchronize("event", "ready"),
        Synchronize("device"),
        Free("block"),
        Allocate("other", 1e6, "copy"),
        Free("other", ("compute",)),
    )
    steps = tuple(Section(f"step {i}", Use("denoise", step=i), step) for i in range(3))
    groups = sequence_groups((0, 1), (2, 3))
    return StreamProgram("every command", (Section("load", LOADING, load), *steps), groups)


def test_the_full_text_has_sizes_and_work(compare):
    compare(SIZED, format_program(every_command()))


def test_chosen_steps_are_written_without_the_other_phases():
    text = format_program(every_command(), steps={2}, compact=True)
    _, _, heading, first, second, *_ = text.splitlines()
    assert heading == "step 2"
    assert (first, second) == ("  host    | allocate block in pool copy", "  copy    | H2D block")
    assert "compile" not in text


def test_every_golden_file_belongs_to_a_test():
    assert {path.stem for path in HERE.glob("*.txt")} <= {*PROGRAMS, *LIBRARY, SIZED, TOLD}
