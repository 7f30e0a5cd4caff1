"""The committed lists of replays."""

import pytest

from calibration.replays.cases import load_cases
from offsim.program.build import build
from offsim.program.check import problems

NODES = {"x1": "h200-x1", "x2-nvlink": "h200-x2-nvlink", "x2-host-memory": "h200-x2-host-memory"}


def test_names_are_different_over_both_lists():
    names = [case.name for name in ("cases", "ideas") for case in load_cases(name=name)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", load_cases(name="ideas"), ids=lambda case: case.name)
def test_an_ideas_program_passes_the_static_check_and_stands_beside_plain_layerwise(case):
    node = NODES[case.kind]
    assert case.name.startswith(f"{case.kind}-{case.shape}-{case.tokens}-")
    assert problems(build(case.scenario(node))) == []
    other = case.other(node)
    assert other is not None and other.workload == case.resident(node).workload


def test_a_case_copies_pageable_memory_if_its_name_says_so():
    cases = [case for name in ("cases", "ideas") for case in load_cases(name=name)]
    assert {case.name for case in cases if case.pageable} == {case.name for case in cases if "pageable" in case.name}
    assert any(case.pageable for case in cases)
