"""A node as text: keys with units, plain values before tables, and what a node takes for granted left out."""

import pytest
from msgspec import structs

from calibration.fit.node_toml import node_toml, unit_of
from calibration.validate.records import NODES
from offsim.scenario.gpu import GPU, Clock
from offsim.scenario.load import load_node
from offsim.scenario.quantity import Quantity
from offsim.scenario.wiring import PCIe


@pytest.mark.parametrize("path", sorted(NODES.glob("*/profile.toml")), ids=lambda path: path.parent.name)
def test_a_profile_that_is_loaded_and_written_again_is_the_same_text(path):
    assert node_toml(load_node(str(path))) == path.read_text(encoding="utf-8")


def test_units_are_those_of_the_fields_dimensions_and_plain_numbers_have_none():
    assert unit_of(PCIe, "h2d") == ("GBps", 1e9)
    assert unit_of(Clock, "window") == ("ms", 1e-3)
    assert unit_of(GPU, "gemm_shapes") == ("TFLOPS", 1e12)
    assert unit_of(PCIe, "duplex") == ("", 1.0)


@pytest.mark.parametrize(("interval", "written"), [((49e9, 51e9), True), ((50.1e9, 51e9), False)])
def test_an_interval_that_its_value_lies_outside_of_is_left_out(interval, written):
    node = load_node("h200-x1")
    pcie = structs.replace(node.wiring.pcie, h2d=Quantity(50e9, "measured", "here", "noisy", interval))
    lines = node_toml(node.rewired(pcie=pcie)).splitlines()
    shown = ", interval = [49, 51]" if written else ""
    expected = 'h2d_GBps = { value = 50, provenance = "measured", source = "here", condition = "noisy"'
    assert f"{expected}{shown} }}" in lines


def test_what_a_node_takes_for_granted_is_not_written():
    text = node_toml(load_node("h200-x1"))
    assert "queue_depth" not in text and "pinned_rounding" not in text
    assert "unpack_GBps" in text
