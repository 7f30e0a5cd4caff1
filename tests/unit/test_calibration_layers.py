"""The order of calibration's rooms: a room imports only from rooms to its left, and there are no cycles."""

from pathlib import Path

import networkx as nx
import pytest

from tests.unit.test_layers import ROOT, dotted, imports

ROOMS = ("samples", "kernels", "probes", "replays", "live", "fit", "calibrate", "validate", "verbs")
MODULES = sorted((ROOT / "calibration").rglob("*.py"))


def room_of(module: str) -> str | None:
    """The room of a dotted module name, or None outside calibration's rooms."""
    parts = module.split(".")
    return parts[1] if parts[0] == "calibration" and len(parts) > 1 and parts[1] in ROOMS else None


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_room_of_the_calibration_imports_only_from_rooms_to_its_left(path):
    own = room_of(dotted(path))
    for name in imports(path):
        other = room_of(name)
        if own and other:
            assert ROOMS.index(other) <= ROOMS.index(own), f"{dotted(path)} imports {name}"


def test_nothing_but_the_entry_of_the_verbs_lies_outside_the_rooms():
    outside = {path.name for path in (ROOT / "calibration").glob("*.py")}
    assert outside == {"__init__.py", "verbs.py"}
    assert {path.parent.name for path in (ROOT / "calibration").glob("*/*.py")} == set(ROOMS) - {"verbs"}


def test_modules_of_the_calibration_import_each_other_without_cycles():
    names = {dotted(path) for path in MODULES}
    graph = nx.DiGraph()
    for path in MODULES:
        others = names - {dotted(path)}  # a script may import itself by name, for the processes that it starts
        graph.add_edges_from((dotted(path), name) for name in imports(path, top_level=True) if name in others)
    for package in [name for name in graph if (ROOT / Path(*name.split("."))).is_dir()]:
        graph.remove_edges_from([(child, package) for child in names if child.startswith(f"{package}.")])
    assert list(nx.simple_cycles(graph)) == []


def test_probes_know_the_commands_of_a_program_and_not_the_engine():
    probes = [path for path in MODULES if room_of(dotted(path)) == "probes"]
    known = ("offsim.program", "offsim.scenario")
    used = {name for path in probes for name in imports(path) if name.startswith("offsim")}
    assert used and not [name for name in used if not name.startswith(known)]
