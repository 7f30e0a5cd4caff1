"""The node catalogue: loads, names its sources, and stays within what the hardware allows."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from msgspec import Struct

from offsim.scenario import catalogue
from offsim.scenario.decode import normalise
from offsim.scenario.load import load_node
from offsim.scenario.node import Node
from offsim.scenario.node_values import file_key, node_values
from offsim.scenario.quantity import Curve, Quantity

NODES = catalogue.names("nodes")
RAW_PCIE = {"gen4": 31.51e9, "gen5": 63.02e9}
"""x16 after 128b/130b, each direction [bytes/s]."""
PARTS = {
    "H200 SXM": ("gen5", 989e12),
    "H200 NVL": ("gen5", 835.5e12),
    "H100 SXM": ("gen5", 989e12),
    "H100 PCIe": ("gen5", 756e12),
    "A100 SXM 80GB": ("gen4", 312e12),
    "A100 PCIe 80GB": ("gen4", 312e12),
    "RTX 4090": ("gen4", 165.2e12),
    "RTX 5090": ("gen5", 209.5e12),
    "L40S": ("gen4", 362e12),
    "MI300X": ("gen5", 1307e12),
}
"""Part -> PCIe generation and datasheet peak in dense bf16 [FLOP/s]."""


def numbers(value: object, path: str = "") -> Iterator[tuple[str, Quantity | Curve]]:
    """Every quantity and curve inside a struct, with its path."""
    if isinstance(value, Quantity | Curve):
        yield path, value
    elif isinstance(value, Struct):
        for field in value.__struct_fields__:
            yield from numbers(getattr(value, field), f"{path}.{field}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f"{path}.{key}")
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from numbers(item, f"{path}[{i}]")


@pytest.mark.parametrize("name", NODES)
def test_every_node_loads_under_its_file_name(name):
    assert load_node(name).name == name


@pytest.mark.parametrize("name", NODES)
def test_every_number_names_its_source(name):
    for path, number in numbers(load_node(name)):
        assert number.source.strip(), path
        assert number.provenance != "given", path


@pytest.mark.parametrize("name", [n for n in NODES if not n.startswith(("h200", "h100-sxm-x2"))])
def test_only_nodes_that_were_measured_say_measured(name):
    assert [path for path, number in numbers(load_node(name)) if number.provenance == "measured"] == []


@pytest.mark.parametrize("name", NODES)
def test_no_copy_is_faster_than_the_raw_pcie_link(name):
    node = load_node(name)
    raw = RAW_PCIE[PARTS[node.gpu.name][0]]
    links = [node.wiring.pcie, *node.wiring.switches]
    copies = [rate.value for link in links for rate in (link.h2d, link.d2h)]
    copies += [node.host.pageable_h2d.value, node.host.pageable_d2h.value, node.host.fresh_d2h.value]
    if node.wiring.collectives is not None and node.wiring.collectives.transport != "nvlink":
        copies += [
            kind.rate.highest() for kind in (node.wiring.collectives.all_to_all, node.wiring.collectives.all_gather)
        ]
    assert max(copies) <= raw


@pytest.mark.parametrize("name", NODES)
def test_both_directions_reach_between_one_and_two_links(name):
    assert 1 <= load_node(name).wiring.pcie.duplex.value <= 2


@pytest.mark.parametrize("name", NODES)
def test_no_kernel_is_faster_than_the_datasheet_peak(name):
    gpu = load_node(name).gpu
    peak = PARTS[gpu.name][1]
    assert all(curve.highest() <= peak for curve in (gpu.gemm, *gpu.attention.values()))


@pytest.mark.parametrize("name", NODES)
def test_more_rows_never_slow_a_matrix_product(name):
    assert all(slow <= fast for (_, slow), (_, fast) in pairwise(load_node(name).gpu.gemm.points))


@pytest.mark.parametrize("name", [n for n in NODES if load_node(n).wiring.nvlink is not None])
def test_no_collective_is_faster_than_the_nvlink_side(name):
    node = load_node(name)
    fastest = max(node.wiring.collectives.all_to_all.rate.highest(), node.wiring.collectives.all_gather.rate.highest())
    assert fastest <= node.wiring.nvlink.send.value


@pytest.mark.parametrize("name", NODES)
def test_host_memory_in_total_lies_between_one_direction_and_both(name):
    for socket in load_node(name).host.sockets:
        assert max(socket.read.value, socket.write.value) <= socket.total.value
        assert socket.total.value <= socket.read.value + socket.write.value + 1


def test_derived_numbers_of_the_measured_nodes_follow_from_the_measurements():
    nvlink, host_memory, single = (load_node(n) for n in ("h200-x2-nvlink", "h200-x2-host-memory", "h200-x1"))
    assert nvlink.wiring.pcie.duplex.value == pytest.approx(35.1 / 55.2 + 35.1 / 53.65, abs=0.005)  # 1.29
    assert single.wiring.pcie.duplex.value == pytest.approx(44 / 55.2 + 44 / 55.1, abs=0.0005)  # 1.596
    assert nvlink.host.sockets[0].read.value == 2 * 53.7e9
    # 580 MB buffer, 290 MB cross in 20.7 ms, the last 3.3 ms of them alone at 23.4 GB/s (= MB/ms).
    shared_all_to_all = (290 - 23.4 * 3.3) / (20.7 - 3.3)
    assert shared_all_to_all == pytest.approx(12.2, abs=0.05)
    weight = host_memory.wiring.collectives.all_to_all.weight.value
    assert weight == pytest.approx(12.2 / 40.3, abs=0.0005)  # 0.303
    # With that weight, half the host's read rate splits as it was measured.
    copy = 53.7 / (1 + weight)
    assert copy == pytest.approx(40.3, rel=0.025)
    assert weight * copy == pytest.approx(12.2, rel=0.025)


@pytest.mark.parametrize(
    ("name", "buffer", "seconds"),
    [
        ("h200-x2-nvlink", 16e6, 73e-6),
        ("h200-x2-nvlink", 580e6, 925e-6),
        ("h200-x2-nvlink", 1160e6, 1783e-6),
        ("h200-x2-host-memory", 16e6, 390e-6),
        ("h200-x2-host-memory", 580e6, 12.4e-3),
        ("h200-x2-host-memory", 1160e6, 24.58e-3),
    ],
)
def test_latency_and_rate_give_back_the_measured_all_to_all(name, buffer, seconds):
    kind = load_node(name).wiring.collectives.all_to_all
    sent = buffer / 2
    assert kind.latency.value + sent / kind.rate.at(sent) == pytest.approx(seconds, rel=0.005)


@pytest.mark.parametrize("name", ["h100-sxm-x8", "h200-x2-host-memory"])
def test_the_key_that_results_name_a_value_by_is_the_one_of_a_file(name):
    """One of everything is within every range, in the usual unit: 1 GB/s, 1 us, 1 W."""
    for key, value in node_values(load_node(name)):
        written = file_key(key, value)
        curve = {"points_TFLOPS": [[1, 1]], "provenance": "guess", "source": "example"}
        one = curve if isinstance(value, Curve) and written == key else 1.0
        assert _at(normalise(_nested(written, one), Node, None), key) is not None, written


def _nested(key, value):
    """A document that has a value at a dotted key; of arrays, their only entry."""
    step, _, rest = key.partition(".")
    name, inner = step.partition("[")[0], _nested(rest, value) if rest else value
    return {name: [inner] if name != step else inner}


def _at(table, key):
    """What stands at a key of fields, in arrays in the only entry."""
    for step in key.split("."):
        name = step.partition("[")[0]
        table = table[name][0] if name != step else table[name]
    return table
