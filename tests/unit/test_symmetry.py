"""Which ranks are alike: numbers of ranks per colour that can be counted by hand."""

from collections import Counter

import pytest

from experiments.speed import workload
from offsim.engine.fabric import Fabric
from offsim.engine.folding import FoldedFabric, fold
from offsim.engine.symmetry import find_symmetry
from offsim.program.groups import ParallelGroups, sequence_groups
from offsim.scenario.node import Node
from offsim.scenario.wiring import Switch


def sizes(node: Node, groups: ParallelGroups) -> list[int]:
    """How many ranks each colour has, largest first."""
    program = workload.program(8)._replace(groups=groups)
    found = find_symmetry(Fabric(node, groups), program)
    return sorted(Counter(found.ranks.values()).values(), reverse=True)


def behind(*runs: tuple[int, ...]) -> Node:
    """Eight GPUs, these behind switches."""
    node = workload.node(8)
    switch = node.wiring.switches[0]
    return node.rewired(switches=tuple(Switch(gpus=run, h2d=switch.h2d, d2h=switch.d2h) for run in runs))


ALL = sequence_groups(tuple(range(8)))


def folded_over(node: Node) -> FoldedFabric | None:
    """All eight GPUs in one group, folded."""
    fabric = Fabric(node, ALL)
    return fold(fabric, find_symmetry(fabric, workload.program(8)))


HALVES = sequence_groups((0, 1, 2, 3), (4, 5, 6, 7))


@pytest.mark.parametrize(
    ("runs", "groups", "expected"),
    [
        ((), ALL, [8]),
        (((0, 1), (2, 3), (4, 5), (6, 7)), ALL, [8]),
        (((0, 1, 2), (3, 4, 5, 6, 7)), ALL, [5, 3]),
        (((0, 1),), ALL, [6, 2]),
        (((0, 1), (2, 3)), ALL, [4, 4]),
        (((0, 1), (2, 3), (4, 5), (6, 7)), HALVES, [8]),
        # Rank 3 and 4 share a switch but no group; 2 and 5 have none.
        (((0, 1), (3, 4), (6, 7)), HALVES, [4, 2, 2]),
    ],
)
def test_ranks_are_alike_if_what_is_around_them_is(runs, groups, expected):
    assert sizes(behind(*runs), groups) == expected


def test_where_every_rank_differs_nothing_is_folded():
    node = workload.node(8, distinct=True)
    assert folded_over(node) is None


def test_one_rank_of_each_colour_stands_for_the_others():
    folded = folded_over(behind((0, 1, 2), (3, 4, 5, 6, 7)))
    assert folded is not None
    assert folded.represented == {0: 3, 3: 5}
