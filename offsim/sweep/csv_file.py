"""The table as CSV: what is missing is empty, truth values are in lower case, and no text is taken for more than text.

Programs for tables run a cell that begins with = + - or @, so such text gets an apostrophe in front. Numbers don't,
nor does text that is a number, nor the lone - of an axis that does not apply. Whatever would break a line or a
terminal stands there as its escape.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from typing import Any, BinaryIO

from offsim.scenario.wording import one_line

from .axis import EMPTY

FORMULA = ("=", "+", "-", "@")
HARMLESS = re.compile(rf"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|{re.escape(EMPTY)}", re.ASCII)


def write_csv(file: BinaryIO, names: Sequence[str], lines: Iterable[Sequence[Any]]) -> int:
    """Write a head and the lines below it; returns how many lines there were."""
    text = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    out = csv.writer(text, lineterminator="\n")
    out.writerow([cell(name) for name in names])
    count = 0
    for line in lines:
        out.writerow([cell(value) for value in line])
        count += 1
    text.detach()
    return count


def cell(value: object) -> object:
    """A cell as CSV has it.

    >>> [cell(value) for value in ("=1+1", "-0.5", "-", "two\\nlines", -1.5, None, True)]
    ["'=1+1", '-0.5', '-', 'two\\\\nlines', -1.5, '', 'true']
    """
    if isinstance(value, str):
        text = value if value.isprintable() else one_line(value)
        return f"'{text}" if text.startswith(FORMULA) and not HARMLESS.fullmatch(text) else text
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value
