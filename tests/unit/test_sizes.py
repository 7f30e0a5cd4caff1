"""Modules and functions stay small enough to be read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("offsim", "calibration", "experiments", "tests/oracles")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
MOST_OF_A_MODULE, MOST_OF_A_FUNCTION = 300, 50


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_has_at_most_300_lines_and_a_function_50(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_OF_A_MODULE
    assert {name: lines for name, lines in functions(text) if lines > MOST_OF_A_FUNCTION} == {}


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Every function with its lines, decorators and docstring among them."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, (node.end_lineno or first) - first + 1


def test_a_function_is_as_long_as_what_a_reader_sees_of_it() -> None:
    method = ["    @property", "    def b(self):", "        '''Two", "        lines.'''", "        return 1"]
    text = "\n".join(["class A:", *method, "def c(): return 2"])
    assert dict(functions(text)) == {"b": 5, "c": 1}
