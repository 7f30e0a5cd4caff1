"""SGLang's layerwise offload with 40 blocks: copies per forward, blocking copies, live blocks.

The expected counts come from executing SGLang's hook rules by hand for n = 40.
"""

from typing import NamedTuple

import pytest

from offsim.program.build import build
from offsim.program.commands import Allocate, Command, Copy, Free, Synchronize
from offsim.program.load import check_scenario
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.scenario.load import load_node
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload
from tests.golden.tiny import tiny_model


class Counts(NamedTuple):
    copies: int
    blocking: int
    peak: int


def counts(policy: SGLangLayerwise) -> Counts:
    """Of one forward in the steady state: every step is one forward, and the last one is looked at."""
    model, work = tiny_model(blocks=40, experts=1), Workload(tokens=64, steps=4, cfg="none")
    scenario = Scenario(model, work, load_node("h100-sxm-x8"), policy)
    check_scenario(scenario)
    *before, last = [section.commands for section in build(scenario).sections if section.use.kind != "decode"]
    live: set[str] = set()
    for commands in before:
        follow(commands, live)
    copies = [i for i, command in enumerate(last) if isinstance(command, Copy)]
    blocking = [i for i in copies if isinstance(last[i + 1], Synchronize)]
    return Counts(len(copies), len(blocking), follow(last, live))


def follow(commands: tuple[Command, ...], live: set[str]) -> int:
    """Apply the commands to the live blocks on the device; returns the most at any time."""
    most = len(live)
    for command in commands:
        if isinstance(command, Allocate) and command.buffer.split(".")[-1].isdigit():
            live.add(command.buffer)
        elif isinstance(command, Free):
            live.discard(command.buffer)
        most = max(most, len(live))
    return most


def test_v0_copies_all_but_the_first_block_and_holds_three():
    assert counts(SGLangLayerwise(version="v0")) == Counts(39, 0, 3)


@pytest.mark.parametrize("prefetch", [1, 2, 4, 5, 8, 10])
def test_v1_holds_two_groups_and_the_first_block(prefetch):
    copies, blocking, peak = counts(SGLangLayerwise(version="v1", prefetch=prefetch))
    assert (copies, blocking) == (39, 0)
    assert peak == 2 * prefetch + 1


@pytest.mark.parametrize("prefetch", [1, 2, 3, 4, 5, 7, 8, 10, 15, 20])
def test_v2_copies_every_block_and_holds_two_groups(prefetch):
    assert counts(SGLangLayerwise(version="v2", prefetch=prefetch)) == Counts(40, 0, 2 * prefetch)


@pytest.mark.parametrize(
    ("prefetch", "blocking"), [(21, 2), (24, 8), (25, 10), (30, 10), (35, 5), (39, 1), (40, 40), (0.99, 40)]
)
def test_from_more_than_half_the_blocks_on_v2_blocks_and_holds_them_all(prefetch, blocking):
    assert counts(SGLangLayerwise(version="v2", prefetch=prefetch)) == Counts(40, blocking, 40)


@pytest.mark.parametrize("residency", ["leading", "strided"])
@pytest.mark.parametrize("resident", [1, 10, 25, 39])
def test_v3_copies_what_is_not_resident(resident, residency):
    policy = SGLangLayerwise(version="v3", resident_layers=resident, residency=residency)
    copies, blocking, peak = counts(policy)
    assert (copies, blocking) == (40 - resident, 0)
    assert peak == min(resident + 2, 40)
