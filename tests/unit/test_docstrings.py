"""Docstrings are understood alone, as a hover window shows them: they name what they are about.

Their examples are what happens.
"""

import ast
import doctest
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for room in ("offsim", "calibration") for path in (ROOT / room).rglob("*.py"))
WITH_EXAMPLES = [path for path in (*MODULES, ROOT / "tests/doc_page.py") if ">>> " in path.read_text(encoding="utf-8")]
WITHOUT_SUBJECT = re.compile(r"(Of|The same|As|Its?|Per|By|To|On|Until|With|Without|For|From|>>>)\b")
"""Beginnings that refer to something outside the docstring, or to nothing."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=relative)
def test_examples_in_docstrings_hold(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(import_module(name))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_docstrings_of_public_names_begin_with_what_they_are_about(path: Path) -> None:
    found = public_docstrings(ast.parse(path.read_text(encoding="utf-8")))
    assert {name: text for name, text in found if WITHOUT_SUBJECT.match(text)} == {}


def public_docstrings(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The docstrings of functions and classes, and the strings below fields and constants, by public names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, ast.get_docstring(node) or ""
        body = getattr(node, "body", None)
        for target, text in pairwise(body if isinstance(body, list) else ()):
            named = isinstance(target, ast.AnnAssign | ast.Assign) and isinstance(text, ast.Expr)
            if named and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
                name = ast.unparse(target.target if isinstance(target, ast.AnnAssign) else target.targets[0])
                if not name.removeprefix("self.").startswith("_"):
                    yield name, text.value.value.strip()


def test_fields_and_functions_have_docstrings_and_what_is_private_does_not_count() -> None:
    text = (
        'A = 1\n"""Of it."""\nclass B:\n    """The same."""\n    _c = 2\n    """As ever."""\n\ndef _d():\n    "Its"\n'
    )
    assert list(public_docstrings(ast.parse(text))) == [("A", "Of it."), ("B", "The same.")]
