"""Parallel groups by name: what a program may have, and collectives over partitions that the engine has never seen."""

import pytest
from msgspec.structs import replace

from offsim.engine.bounds import lower_bounds
from offsim.engine.fabric import Fabric
from offsim.engine.folding import fold
from offsim.engine.simulate import simulate
from offsim.engine.symmetry import find_symmetry
from offsim.program.build import build
from offsim.program.check import problems
from offsim.program.commands import Collective, Section, StreamProgram, Synchronize
from offsim.program.groups import ParallelGroups, sequence_groups
from offsim.program.systems.resident import Resident
from offsim.program.text import format_program
from offsim.program.uses import Use
from offsim.scenario.load import load_model
from offsim.scenario.node import Node
from offsim.scenario.scenario import Scenario, Simulation
from offsim.scenario.wiring import Switch
from offsim.scenario.workload import Workload
from tests.golden.tiny import tiny_program, tiny_scenario
from tests.oracles.reference_engine import Reference
from tests.strategies import quantity
from tests.unit.test_engine import LINK, NODE, on

PAIRS, ACROSS = ((0, 1), (2, 3)), ((0, 2), (1, 3))
GRID = ParallelGroups(4, {"sequence": ACROSS, "tp": PAIRS})
"""Tensor parallel in pairs, the tokens over the pairs."""
FOUR = NODE.rewired(gpus=4, sockets=((0, 1, 2, 3),))
REDUCE = Collective("compute", "reduce", "all-reduce", 100.0, "tp")
EXCHANGE = Collective("compute", "exchange", "all-to-all", 200.0)


def step_of(*commands: Collective, groups: ParallelGroups = GRID) -> StreamProgram:
    """A program of one step with these collectives."""
    section = Section("step 0", Use("denoise", step=0), (*commands, Synchronize("stream", "compute")))
    return StreamProgram("by hand", (section,), groups)


def on_node(node: Node, **simulation: bool) -> Scenario:
    """What the engine wants besides a program."""
    work = Workload(gpus=node.gpus, tokens=64)
    return Scenario(load_model("wan2.2-t2v-a14b"), work, node, Resident(), simulation=Simulation(**simulation))


def test_all_ranks_in_one_group_are_always_there():
    groups = sequence_groups((0, 1), (2, 3))
    assert groups.names == ("world", "sequence")
    assert groups["world"] == ((0, 1, 2, 3),)
    assert (groups.of("sequence", 2), groups.of("world", 2)) == ((2, 3), (0, 1, 2, 3))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"tp": ((0, 1), (1, 2))}, r"groups.tp=\(\(0, 1\), \(1, 2\)\): each of 4 ranks must be in exactly one group"),
        ({"tp": ((0, 1),)}, "each of 4 ranks must be in exactly one group"),
        ({"tp": ((0, 1), (2, 3, 4))}, "each of 4 ranks must be in exactly one group"),
        ({"tp": ((0, 1, 2), (3,))}, "its groups differ in size"),
        ({"world": ((0, 1), (2, 3))}, "this name is kept for all ranks in one group"),
    ],
)
def test_a_partition_has_every_rank_once_in_groups_of_one_size(named, message):
    with pytest.raises(ValueError, match=message):
        ParallelGroups(4, named)


def test_groups_may_differ_in_size_where_that_is_said():
    groups = ParallelGroups(3, {"tp": ((0, 1), (2,))}, uneven=frozenset({"tp"}))
    assert groups.of("tp", 2) == (2,)


def test_partitions_nest_and_one_that_does_not_is_refused():
    assert ParallelGroups(4, {"sequence": ((0, 1, 2, 3),), "ring": ACROSS}, {"ring": "sequence"})["ring"] == ACROSS
    with pytest.raises(ValueError, match="a group is not within one of 'sequence'"):
        ParallelGroups(4, {"sequence": PAIRS, "ring": ACROSS}, {"ring": "sequence"})
    with pytest.raises(ValueError, match="it lies inside 'sp', which is not there"):
        ParallelGroups(4, {"ring": ACROSS}, {"ring": "sp"})


def test_ranks_that_split_guidance_are_named():
    program = tiny_program(Resident(), gpus=4, cfg="split")
    assert program.groups["sequence"] == PAIRS
    assert program.groups["cfg"] == ACROSS
    title = format_program(program).splitlines()[0]
    assert title.endswith("4 ranks, sequence-parallel groups (0 1) (2 3), cfg groups (0 2) (1 3)")


def test_the_text_names_the_groups_of_a_collective():
    _, _, _, reduce, exchange, _ = format_program(step_of(REDUCE, EXCHANGE), compact=True).splitlines()
    assert reduce == "  compute | all-reduce reduce over tp groups"
    assert exchange == "  compute | all-to-all exchange"


def test_a_collective_over_groups_that_a_program_does_not_have_is_found():
    [problem] = problems(step_of(REDUCE, groups=sequence_groups(*PAIRS)))
    assert problem.message.endswith("is over groups 'tp', which the program does not have")


@pytest.mark.parametrize("shortcuts", [False, True])
def test_collectives_over_several_partitions_take_what_their_bytes_take(shortcuts):
    """100 bytes over the pairs, then 200 over the others, on links of 100 B/s."""
    timeline = simulate(on_node(FOUR, fold=shortcuts), step_of(REDUCE, EXCHANGE))
    assert timeline.represented == ({0: 4} if shortcuts else {0: 1, 1: 1, 2: 1, 3: 1})
    for rank in timeline.represented:
        assert on(timeline, "compute", rank) == [("reduce", 0, 1), ("exchange", 1, 3)]


def test_the_bound_knows_the_groups_of_every_partition():
    assert lower_bounds(on_node(FOUR), step_of(REDUCE, EXCHANGE)) == [pytest.approx(3)]


def test_a_rank_alone_in_its_group_goes_on():
    groups = ParallelGroups(4, {"tp": ((0, 1), (2,), (3,))}, uneven=frozenset({"tp"}))
    timeline = simulate(on_node(FOUR), step_of(REDUCE, groups=groups))
    assert timeline.represented == {0: 2, 2: 2}
    assert (on(timeline, "compute", 0), on(timeline, "compute", 2)) == ([("reduce", 0, 1)], [])


def test_ranks_are_not_alike_where_no_two_could_meet_in_the_groups_of_both_partitions():
    """GPUs 0 and 3 are behind switches: each meets one that is not, in either partition, but 1 and 2 never both."""
    node = FOUR.rewired(switches=(Switch(gpus=(0,), h2d=LINK, d2h=LINK), Switch(gpus=(3,), h2d=LINK, d2h=LINK)))
    for partition, expected in (({"sequence": ACROSS}, {0: 2, 2: 2}), ({"sequence": ACROSS, "tp": PAIRS}, None)):
        groups = ParallelGroups(4, partition)
        program = step_of(*([REDUCE] if "tp" in groups else []), EXCHANGE, groups=groups)
        fabric = Fabric(node, groups)
        folded = fold(fabric, find_symmetry(fabric, program))
        assert (None if folded is None else folded.represented) == expected


@pytest.mark.parametrize("fold", [False, True])
def test_the_engine_and_the_slow_one_agree_on_nested_groups_behind_unequal_links(fold):
    """Pairs within the sequence's four ranks, two of which share an uplink of half the rate."""
    uplink = Switch(gpus=(2, 3), h2d=quantity(50.0), d2h=quantity(50.0))
    kinds = replace(FOUR.wiring.collectives, transport="host-memory")
    node = FOUR.rewired(switches=(uplink,), nvlink=None, collectives=kinds)
    groups = ParallelGroups(4, {"sequence": ((0, 1, 2, 3),), "tp": PAIRS}, {"tp": "sequence"})
    program, scenario = step_of(REDUCE, EXCHANGE, REDUCE, groups=groups), on_node(node, fold=fold)
    timeline = simulate(scenario, program)
    ranks = Reference(scenario, program).run()
    assert set(timeline.represented) == ({0, 2} if fold else {0, 1, 2, 3})
    for rank in timeline.represented:
        ends = [span.end for span in timeline.spans if span.rank == rank and span.kind == "collective"]
        assert ends == pytest.approx([end for _, _, end in ranks[rank].finished])


def test_groups_of_a_built_program_are_the_scenarios():
    scenario = tiny_scenario(Resident(), gpus=2)
    assert build(scenario).groups == sequence_groups((0, 1))
