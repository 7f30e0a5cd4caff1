"""The order of the rooms: a room imports only from rooms to its left, and there are no cycles."""

import ast
from pathlib import Path

import networkx as nx
import pytest

from offsim.program.pages import pages

ROOT = Path(__file__).parents[2]
ROOMS = ("scenario", "program", "engine", "results", "sweep", "cli")
MODULES = sorted((ROOT / "offsim").rglob("*.py"))


def room_of(module: str) -> str | None:
    """The room of a dotted module name, or None outside offsim's rooms."""
    parts = module.split(".")
    if parts[0] != "offsim" or len(parts) < 2:
        return None
    return parts[1] if parts[1] in ROOMS else None


def dotted(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path, *, top_level: bool = False) -> list[str]:
    """Dotted names that a module imports, relative ones resolved; `top_level`: only at import time."""
    tree = ast.parse(path.read_text())
    nodes = _executed(tree) if top_level else list(ast.walk(tree))
    package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            found += [prefix, *(f"{prefix}.{alias.name}" for alias in node.names)]
    return found


def _executed(tree: ast.Module) -> list[ast.AST]:
    """Nodes that run at import: not inside functions, not under TYPE_CHECKING."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found.append(node)
        waiting.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_room_imports_only_from_rooms_to_its_left(path):
    own = room_of(dotted(path))
    for name in imports(path):
        other = room_of(name)
        if own and other:
            assert ROOMS.index(other) <= ROOMS.index(own), f"{dotted(path)} imports {name}"


def test_modules_import_each_other_without_cycles():
    names = {dotted(path) for path in MODULES}
    graph = nx.DiGraph()
    for path in MODULES:
        graph.add_edges_from((dotted(path), name) for name in imports(path, top_level=True) if name in names)
    for package in [name for name in graph if name != "offsim" and (ROOT / Path(*name.split("."))).is_dir()]:
        graph.remove_edges_from([(child, package) for child in names if child.startswith(f"{package}.")])
    assert list(nx.simple_cycles(graph)) == []


def test_offsim_never_imports_torch():
    assert not [path for path in MODULES if any(name.split(".")[0] == "torch" for name in imports(path))]


def test_only_the_live_part_of_the_calibration_imports_torch():
    outside = [path for path in (ROOT / "calibration").rglob("*.py") if "live" not in path.parts]
    assert outside
    assert not [path for path in outside if any(name.split(".")[0] == "torch" for name in imports(path))]


OUTSIDE_PAGES = [
    path
    for room in ("offsim", "calibration")
    for path in sorted((ROOT / room).rglob("*.py"))
    if "program/systems" not in path.as_posix()
]


@pytest.mark.parametrize("path", OUTSIDE_PAGES, ids=dotted)
def test_no_policy_is_told_by_its_type_outside_its_page(path):
    types = {page.parameters.__name__ for page in pages().values()}
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    asked = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass")]
    names = {name.id for call in asked for name in ast.walk(call) if isinstance(name, ast.Name)}
    assert not names & types


@pytest.mark.parametrize("room", ["results", "sweep"])
def test_results_and_sweeps_know_no_policy_by_name(room):
    for path in sorted((ROOT / "offsim" / room).rglob("*.py")):
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not texts & set(pages()), path


def test_the_engine_reads_no_value_of_a_node_without_saying_so():
    """All go through ValuesInUse; symmetry only asks which values are equal, and what is equal is not what counts."""
    sources = [*(ROOT / "offsim" / "engine").glob("*.py"), ROOT / "offsim" / "results" / "memory.py"]
    found = [
        f"{path.name}:{node.lineno}"
        for path in sources
        if path.name not in ("values_in_use.py", "symmetry.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if _reads_a_value(node)
    ]
    assert found == []


def _reads_a_value(node: ast.AST) -> bool:
    """Whether it takes a quantity's number, or asks a curve: an agenda has a method `at`, too."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "at":
        return ast.unparse(node.func.value).rpartition(".")[2].lstrip("_") not in ("agenda", "values", "self")
    return isinstance(node, ast.Attribute) and node.attr == "value"
