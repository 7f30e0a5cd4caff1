"""Documents of schema 1 mean what they meant: nodes as the catalogue had them, scenarios and grids over them."""

from pathlib import Path

import pytest

from offsim.program.load import load_scenario
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import load_node
from offsim.scenario.node_values import node_values
from offsim.scenario.schema_1 import node_of_schema_1
from offsim.sweep.grid import load_grid
from tests.changed_nodes import slowdowns

OLD = sorted((Path(__file__).parent / "data/schema_1").glob("*.toml"))
QUESTION = {
    "schema": 1,
    "model": "flux.1-dev",
    "policy": "sglang-layerwise",
    "workload": {"width": 1024, "height": 1024},
}
SOCKET = {"read_GBps": 100, "write_GBps": 90, "total_GBps": 150}


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_a_node_file_of_schema_1_is_the_node_that_the_catalogue_has_today(path):
    old, new = load_node(str(path)), load_node(path.stem)
    was, today = numbers(old), numbers(new)
    assert was == {key: today[key] for key in was}
    assert today.keys() - was.keys() <= {"host.cross_socket"}
    assert present(slowdowns(old)) == present(slowdowns(new))
    assert (old.title, old.notes, old.wiring.sockets) == (new.title, new.notes, new.wiring.sockets)


def numbers(node):
    """Every value that is no slowdown."""
    found = {key: value for key, value in node_values(node) if "interference" not in key}
    return {key: getattr(value, "points", None) or value.value for key, value in found.items()}


def present(found):
    return {pair: slowdown for pair, slowdown in found.items() if slowdown}


def test_a_scenario_of_schema_1_may_change_a_node_of_today():
    node = load_scenario(QUESTION | {"node": {"extends": "rtx4090-x8", "pcie": {"h2d_GBps": 12}}}).node
    assert node.wiring.pcie.h2d.value == 12e9
    assert node.host == load_node("rtx4090-x8").host


def test_a_document_without_a_schema_may_have_the_keys_of_either():
    for node in ({"pcie": {"h2d_GBps": 12}}, {"wiring": {"pcie": {"h2d_GBps": 12}}}):
        question = {key: value for key, value in QUESTION.items() if key != "schema"}
        found = load_scenario(question | {"node": {"extends": "rtx4090-x8", **node}})
        assert found.node.wiring.pcie.h2d.value == 12e9


def test_a_list_of_interference_replaces_the_inherited_one():
    pairs = (("gemm", "D2H"), ("all-to-all", "H2D"))
    entries = [{"victim": victim, "aggressor": aggressor, "slowdown": 0.1} for victim, aggressor in pairs]
    node = load_scenario(QUESTION | {"node": {"extends": "h100-sxm-x8", "interference": entries}}).node
    assert len(present(slowdowns(load_node("h100-sxm-x8")))) == 7
    assert present(slowdowns(node)) == dict.fromkeys(pairs, 0.1)


def test_kinds_of_collectives_that_a_list_does_not_name_stay_as_they_were():
    entry = {"victim": "gemm", "aggressor": "H2D", "slowdown": 0.1}
    node = load_scenario(QUESTION | {"node": {"extends": "rtx4090-x8", "interference": [entry]}}).node
    inherited = {("all-to-all", "all-gather"): 2.3, ("all-gather", "all-to-all"): 0.16}
    assert present(slowdowns(node)) == {("gemm", "H2D"): 0.1, **inherited}


def test_the_axis_of_a_grid_of_schema_1_sets_the_key_where_it_stands_today():
    axes = {"link": {"key": "node.pcie.h2d_GBps", "values": [10, 20]}}
    scenario = {key: value for key, value in QUESTION.items() if key != "schema"} | {"node": "rtx4090-x8"}
    grid = load_grid({"schema": 1, "name": "links", "scenario": scenario, "axes": axes})
    assert [found.scenario.node.wiring.pcie.h2d.value for found in grid.combinations] == [10e9, 20e9]


def test_sockets_of_one_rate_become_one_entry_and_of_several_stay_apart():
    sockets = [{"gpus": [0], **SOCKET}, {"gpus": [1], **SOCKET}]
    alike = node_of_schema_1({"name": "two", "host": {"sockets": sockets}})
    assert (alike["wiring"]["sockets"], alike["host"]["sockets"]) == ([[0], [1]], [SOCKET])
    sockets[1] = {**sockets[1], "read_GBps": 50}
    unlike = node_of_schema_1({"name": "two", "host": {"sockets": sockets}})
    assert unlike["host"]["sockets"] == [SOCKET, {**SOCKET, "read_GBps": 50}]


@pytest.mark.parametrize(
    ("victim", "aggressor"), [("gemm", "all-gather"), ("all-to-all", "all-to-all"), ("all-gather", "collective")]
)
def test_an_aggressor_that_had_no_effect_is_refused(victim, aggressor):
    entry = {"victim": victim, "aggressor": aggressor, "slowdown": 0.1}
    with pytest.raises(ScenarioError, match=r"node\.gpu\.interference=.*expected a table"):
        load_scenario(QUESTION | {"node": {"extends": "rtx4090-x8", "interference": [entry]}})
