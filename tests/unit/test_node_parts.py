"""A node is put together of parts by name; what is named is whole, and a machine is called by what it has."""

import pytest

from offsim.program.load import load_scenario
from offsim.scenario import catalogue
from offsim.scenario.document_kind import kind_of_file
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import CATALOGUE_KIND, load_node, load_part
from offsim.scenario.node import Node
from offsim.scenario.parts import PARTS, first_gpus

FLUX = {"schema": 2, "model": "flux.1-dev", "policy": "resident", "workload": {"width": 512, "height": 512}}


def node_of(**table) -> Node:
    """The node of a table as a scenario writes it."""
    return load_scenario(FLUX | {"node": table}).node


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part in PARTS for name in catalogue.names(CATALOGUE_KIND[part])]
)
def test_every_part_of_the_catalogue_is_whole(part, name):
    assert load_part(name, part)


def test_three_names_make_a_node_that_is_called_by_its_gpus():
    node = node_of(gpu="l40s", host="hgx", wiring="pcie5-x16-x8")
    assert (node.name, node.title, node.gpus) == ("l40s-x8", "8 x L40S", 8)
    assert node.gpu == load_part("l40s", "gpu")


def test_the_same_parts_by_name_and_in_a_node_of_the_catalogue_are_equal():
    named, node = node_of(gpu="rtx4090", host="two-socket-x86", wiring="pcie4-x16-x8"), load_node("rtx4090-x8")
    assert (named.gpu, named.wiring) == (node.gpu, node.wiring)


def test_a_named_gpu_leaves_nothing_of_the_one_that_it_replaces():
    """An H100 SXM has a backend `sage` and products that copies slow; an L40S has neither."""
    node = node_of(extends="h100-sxm-x8", gpu="l40s")
    assert node.gpu == load_part("l40s", "gpu")
    assert (node.name, node.title) == ("l40s-x8", "8 x L40S, changed from h100-sxm-x8")


def test_a_gpu_that_extends_another_keeps_the_rest_of_it():
    node = node_of(extends="rtx4090-x8", gpu={"extends": "rtx4090", "memory_GiB": 47})
    assert node.gpu.memory.value == 47 * 2**30
    assert node.gpu.gemm == load_part("rtx4090", "gpu").gemm


def test_a_gpu_under_another_name_is_shown_by_it():
    assert node_of(extends="rtx4090-x8", gpu={"name": "RTX 4090 D"}).title == "8 x RTX 4090 D, changed from rtx4090-x8"


def test_a_changed_link_is_still_the_same_machine():
    node = node_of(extends="rtx4090-x8", wiring={"pcie": {"h2d_GBps": 12}})
    assert (node.name, node.title) == ("rtx4090-x8", load_node("rtx4090-x8").title)


@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
def test_fewer_gpus_are_the_first_ones_with_their_sockets_and_switches(gpus):
    wiring = node_of(extends="h100-pcie-switch", wiring={"gpus": gpus}).wiring
    assert wiring.sockets == (tuple(range(gpus)),)
    assert [switch.gpus for switch in wiring.switches] == [
        tuple(gpu for gpu in pair if gpu < gpus) for pair in ((0, 1), (2, 3), (4, 5), (6, 7)) if pair[0] < gpus
    ]


def test_one_gpu_of_eight_is_on_one_socket():
    node = node_of(extends="rtx4090-x8", wiring={"gpus": 1})
    assert (node.wiring.sockets, node.title) == (((0,),), "1 x RTX 4090, changed from rtx4090-x8")


def test_a_wiring_that_extends_another_has_its_first_gpus():
    assert node_of(gpu="l40s", host="hgx", wiring={"extends": "pcie5-x16-x8", "gpus": 2}).wiring.sockets == ((0, 1),)


def test_gpus_that_a_wiring_lacks_are_refused_with_the_key():
    with pytest.raises(ScenarioError, match=r"wiring\.sockets: leaves out gpu 8"):
        node_of(extends="rtx4090-x8", wiring={"gpus": 9})


def test_sockets_that_go_take_their_own_memory_with_them():
    node = {"wiring": {"sockets": [[0, 1], [2, 3]]}, "host": {"sockets": ["first", "second"]}}
    assert first_gpus(node, 2) == {"wiring": {"sockets": [[0, 1]]}, "host": {"sockets": ["first"]}}
    assert first_gpus(node, 3) == {"wiring": {"sockets": [[0, 1], [2]]}, "host": {"sockets": ["first", "second"]}}


def test_what_is_wrong_in_a_node_file_is_said_with_that_files_name(tmp_path):
    (tmp_path / "node.toml").write_text('extends = "rtx4090-x8"\n[gpu]\ncontext_GiB = 30\n')
    (tmp_path / "mine.toml").write_text(
        'model = "flux.1-dev"\npolicy = "resident"\nworkload = { width = 512, height = 512 }\n'
        'node = { extends = "node.toml", name = "mine" }\n'
    )
    with pytest.raises(ScenarioError, match=r"node\.toml: gpu\.context: leaves nothing"):
        load_scenario(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('gpu = "l40s"\nhost = "hgx"\nwiring = "pcie5-x16-x8"\n', "nodes"),
        ('extends = "pcie5-x16-x8"\ngpus = 2\n', "wirings"),
        ('extends = "h100-pcie"\npcie.duplex = 2\n', "nodes"),
        ('extends = "l40s"\nname = "L40S 24 GB"\nmemory_GiB = 24\n', "gpus"),
        ("memory_GB = 64\npageable_h2d_GBps = 5\n", "hosts"),
    ],
)
def test_what_a_file_is_of_is_told_by_its_keys_and_by_what_it_extends(tmp_path, text, kind):
    (tmp_path / "file.toml").write_text(text)
    assert kind_of_file(str(tmp_path / "file.toml")) == kind
