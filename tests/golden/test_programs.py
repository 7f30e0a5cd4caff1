"""The order of events of every policy, as text: four blocks, two experts, two steps each."""

import pytest

from offsim.program.check import problems
from offsim.program.text import format_program
from offsim.scenario.policy import FSDP, FullModel, Resident, SGLangLayerwise
from tests.golden.conftest import HERE
from tests.golden.tiny import tiny_program

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
    "fsdp-1-rank": (FSDP(), {}),
    "fsdp-2-ranks": (FSDP(), {"gpus": 2}),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_commands_come_in_the_real_systems_order(name, compare):
    policy, workload = PROGRAMS[name]
    compare(name, format_program(tiny_program(policy, **workload), compact=True))


def test_the_full_text_has_sizes_and_work(compare):
    program = tiny_program(SGLangLayerwise(version="v2"), tokens=65536, compile=1.5)
    compare("full-text", format_program(program, steps={0, 1}))


def test_every_golden_file_belongs_to_a_test():
    assert {path.stem for path in HERE.glob("*.txt")} <= {*PROGRAMS, "full-text"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_golden_programs_pass_the_static_check(name):
    policy, workload = PROGRAMS[name]
    assert problems(tiny_program(policy, **workload)) == []
