"""Public names at the top of modules, and those of them that have two definitions.

    python -m tests.unit.public_names

A name with one meaning is found by a search and needs no look at where it comes from. Left out: `main`, which every
script has, and names that a module merely imports.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("offsim", "calibration")
EVERYWHERE = {"main", "TYPE_CHECKING"}


def defined_twice(packages: Iterable[str] = PACKAGES) -> dict[str, list[str]]:
    """Name -> the modules that define it, of names with several definitions."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(path for package in packages for path in (ROOT / package).rglob("*.py")):
        for name in sorted(set(public_names(path.read_text(encoding="utf-8"))) - EVERYWHERE):
            found[name].append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return {name: modules for name, modules in sorted(found.items()) if len(modules) > 1}


def public_names(text: str) -> Iterator[str]:
    """Names of functions, classes and values that a module defines, but for those with an underscore before them.

    >>> list(public_names("A, B = 1, 2\\n_c = 3\\nd: int = 4\\ndef e(): f = 5\\nif A:\\n    class G: h = 6\\n"))
    ['A', 'B', 'd', 'e', 'G']
    """
    for statement in ast.parse(text).body:
        yield from (name for name in _defined(statement) if not name.startswith("_"))


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
    elif isinstance(statement, ast.If | ast.Try | ast.With):
        for inner in ast.iter_child_nodes(statement):
            if isinstance(inner, ast.stmt):
                yield from _defined(inner)


def listing(names: dict[str, list[str]]) -> str:
    """A line per name, with the modules that define it."""
    return "\n".join(f"{name}: {', '.join(modules)}" for name, modules in names.items())


if __name__ == "__main__":
    print(listing(defined_twice()))
