"""Examples in docstrings are what happens: readers see them where they point at a name."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITH_EXAMPLES = [
    path
    for path in (*ROOT.glob("offsim/**/*.py"), *ROOT.glob("calibration/**/*.py"), ROOT / "tests/doc_page.py")
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", sorted(WITH_EXAMPLES), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_in_docstrings_hold(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(import_module(name))
    assert found.attempted and not found.failed
