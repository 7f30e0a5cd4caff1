"""Measurements as they are kept: a JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offsim.scenario.faults import Place, reason
from offsim.scenario.files import read_within

from .sample_file import LARGEST_MEASUREMENT_FILE


def lines_in(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    """Every line of a folder's files of this pattern, in the order of their names."""
    for path in sorted(folder.glob(pattern)):
        yield from read_lines(path)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every JSON object of a file, one a line; raises ScenarioError for a line that is none."""
    for number, line in enumerate(_content(path).splitlines(), 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Place(path).fault(f"line {number} is no JSON object ({reason(error)})") from None
        if not isinstance(found, dict):
            raise Place(path).fault(f"line {number} is no JSON object")
        yield found


def _content(path: Path) -> bytes:
    try:
        return read_within(path, LARGEST_MEASUREMENT_FILE)
    except OSError as error:
        raise Place(path).fault(reason(error)) from None
