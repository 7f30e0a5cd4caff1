"""What stands in the files that a command wrote: readable, harmless, and true."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from .case import WORK, Case, is_text
from .kinds.stores import finished

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet computes."""


def faults_of_files(case: Case, root: Path) -> Iterator[str]:
    """What is wrong with files that a successful command left in its folder."""
    exports = "export" in case.arguments
    for path in sorted((root / WORK).rglob("*")):
        if path.is_symlink() or not path.is_file() or (exports and path.parent != root / WORK):
            continue
        if path.name in ("answer.txt", "results.csv", "rows.csv") and not is_text(_read(path)):
            yield f"control characters in {path.name}"
        elif path.suffix == ".csv" and any(map(_is_formula, _cells(path))):
            yield f"a formula in {path.name}"
        elif path.name in ("trace.json", "t.json"):
            yield from _no_json(path)
    if case.table:
        yield from _other_rows(root / WORK / case.table)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _cells(path: Path) -> Iterator[str]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.reader(file):
            yield from row


def _is_formula(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.startswith(FORMULA) and cell != "-"
    return False


def _no_json(path: Path) -> Iterator[str]:
    try:
        json.loads(_read(path), parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        yield "a trace that is not JSON"


def _other_rows(path: Path) -> Iterator[str]:
    """A store that was damaged gives the rows that the sweep found, or none."""
    right = _read(finished() / "results.csv").splitlines()
    found = _read(path).splitlines() if path.is_file() else []
    if found[:1] != right[:1]:
        yield "law: other columns than were stored"
    elif path.name == "results.csv" and found != right:
        yield "law: other rows than were stored, in a resumed sweep"
    elif not set(found) <= set(right):
        yield "law: other rows than were stored, in an export"
