"""From which size on copies hide behind kernels by their sums alone, and where a report says so."""

import pytest
from msgspec.structs import replace

from calibration.validate.simpler import Sums
from offsim.program.first_order import HidingSize, copy_rate, forward_seconds, hiding_size
from offsim.program.load import load_scenario
from offsim.results.hiding import copies_hide, hiding_words
from offsim.results.predict import predict
from offsim.results.steps import step_rows
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import Scenario

LAYERWISE = "wan2.2-8xh100-nvlink-layerwise"


def scenario(name: str = LAYERWISE, **changes: object) -> Scenario:
    """A catalogue scenario of two steps."""
    return load_scenario({"extends": name, "workload": {"steps": 2}, **changes})


def test_the_size_is_the_first_at_which_kernels_last_as_long_as_the_copies():
    asked = scenario()
    found = hiding_size(asked, 28e9)
    assert (found.unit, found.here) == ("frames", 81) and found.first is not None
    before, there = (
        forward_seconds(replace(asked, workload=replace(asked.workload, frames=found.first - back))) for back in (4, 0)
    )
    assert before < 28e9 / copy_rate(asked) <= there


def test_of_an_image_it_is_a_number_of_tokens():
    found = hiding_size(scenario("flux.1-dev-rtx4090-layerwise"), 20e9)
    assert (found.unit, found.here) == ("tokens", 4096)
    assert found.first is not None and 1000 < found.first < 100_000


def test_nothing_to_copy_hides_at_once_and_a_mountain_never():
    assert hiding_size(scenario(), 0.0).first == 1
    assert hiding_size(scenario(), 1e18) == HidingSize("frames", 81, None)


def test_kernels_at_half_the_rate_hide_as_much_at_a_smaller_size():
    slow = replace(scenario(), workload=replace(scenario().workload, compute_efficiency=0.3))
    usual, slower = (hiding_size(one, 28e9).first for one in (scenario(), slow))
    assert slower is not None and usual is not None and slower < usual


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"name": "sglang-layerwise", "version": "v2"}, True),
        ({"name": "scheduled-layerwise", "resident_layers": 10}, True),
        ({"name": "sglang-layerwise", "version": "v2", "pinned": False}, False),
        ({"name": "scheduled-layerwise", "resident_layers": 40}, False),
        ("full-model", False),
        ("resident", False),
        ("fsdp", False),
    ],
    ids=str,
)
def test_it_is_said_where_blocks_are_streamed_from_pinned_memory(policy, said):
    made = predict(scenario(policy=policy))
    assert (copies_hide(made) is not None) is said


def test_residents_let_copies_hide_at_a_smaller_size():
    sizes = [
        copies_hide(predict(scenario(policy={"name": "scheduled-layerwise", "resident_layers": r}))) for r in (0, 20)
    ]
    assert all(size is not None and size.first is not None for size in sizes)
    assert sizes[1] < sizes[0]


def test_the_words_tell_never_always_and_from_when_on():
    said = [hiding_words(HidingSize("frames", 81, first)) for first in (None, 1, 1005)]
    assert [one.split(",")[0] for one in said] == [
        "hide behind kernels at no length",
        "hide behind kernels at any length",
        "hide behind kernels from 1",
    ]


def test_the_first_order_model_counts_no_collectives_and_shares_links_among_copies():
    """8 GPUs of 55.2 GB/s each read at most 400 GB/s of host memory: 50 each, so 1 s of copies takes 1.104 s."""
    made = scenario()
    socket = replace(made.node.host.sockets[0], read=Quantity(4e11, "given", "a test"))
    socket = replace(socket, total=socket.read)
    pcie = replace(made.node.wiring.pcie, h2d=Quantity(55.2e9, "given", "a test"))
    node = made.node.rewired(pcie=pcie, sockets=(tuple(range(8)),))
    made = replace(made, node=replace(node, host=replace(node.host, sockets=(socket,))))
    assert Sums(0.5, 9.0, 1.0).first_order(made) == pytest.approx(1.104)
    assert Sums(2.0, 9.0, 1.0).first_order(made) == 2.0


def test_steps_are_those_of_the_program():
    made = predict(scenario())
    assert copies_hide(made) == hiding_size(made.scenario, step_rows(made.program, made.timeline)[1].h2d_bytes / 2)
