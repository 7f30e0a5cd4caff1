"""How results look on a terminal: table style, numbers with units, rendering to text."""

import os
import sys
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from offsim.scenario.wording import visible

from .fitting import FittedTable, fitted

Renderable = Table | Text


class PastedText(Text):
    """Lines for a shell or for Python: where one is too long for the terminal, it goes on as these read it."""


GIB = 2.0**30
CONTINUES = " \\"
"""What ends a line that shells and Python go on reading in the next one."""
PIPED_WIDTH = 100
"""Columns where the output is no terminal and COLUMNS is not set."""


def render(*parts: Renderable) -> str:
    """Tables and texts as one text for standard output: as wide as that is, with colours only on a terminal."""
    console = Console(highlight=False, markup=False, emoji=False, width=None if width_is_known() else PIPED_WIDTH)
    with console.capture() as captured:
        for part in parts:
            console.print(_shown(part, console.width), soft_wrap=isinstance(part, PastedText))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _shown(part: Renderable, width: int) -> Renderable:
    if isinstance(part, PastedText):
        lines = (continued(line, width) for line in visible(part.plain).split("\n"))
        return Text("\n".join(lines))
    return fitted(part, width) if isinstance(part, Table) else Text(visible(part.plain))


def continued(line: str, width: int) -> str:
    """A line broken between words, each but the last part with a backslash at its end; a comment as several ones.

    >>> print(continued("--num-gpus 4 --enable-cfg-parallel", 24))
    --num-gpus 4 \\
      --enable-cfg-parallel
    """
    end, start = ("", "# ") if line.startswith("#") else (CONTINUES, "  ")
    parts = list[str]()
    for word in line.split(" "):
        if parts and len(parts[-1]) + len(word) + len(end) < width:
            parts[-1] += f" {word}"
        else:
            parts.append(f"{start if parts else ''}{word}")
    return f"{end}\n".join(parts)


def width_is_known() -> bool:
    """Whether standard output is a terminal, or COLUMNS says how wide what reads it is."""
    return (sys.stdout is not None and sys.stdout.isatty()) or "COLUMNS" in os.environ


def spaced(parts: Iterable[Renderable]) -> list[Renderable]:
    """The parts with an empty line between any two."""
    return [piece for part in parts for piece in (Text(), part)][1:]


def new_table(title: str, first: str, *columns: str, optional: tuple[str, ...] = ()) -> Table:
    """A table with a left-aligned first column and right-aligned others; what is optional goes where it is narrow."""
    table = FittedTable(
        title=visible(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    table.optional = optional
    return table


def pairs(rows: list[tuple[str, str]]) -> Table:
    """Names and values side by side, the values wrapped."""
    table = FittedTable.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def seconds(value: float) -> str:
    """A duration in the unit that suits it, with three decimals.

    >>> seconds(13.9061), seconds(0.0123), seconds(7e-6), seconds(0)
    ('13.906 s', '12.300 ms', '7.000 us', '0 s')
    """
    if value == 0:
        return "0 s"
    unit, factor = ("s", 1.0) if value >= 0.9995 else ("ms", 1e3) if value >= 0.9995e-3 else ("us", 1e6)
    return f"{value * factor:.3f} {unit}"


def with_interval(value: float, ends: tuple[float, float]) -> str:
    """A time, and what it lies between where that reads differently.

    >>> with_interval(13.91, (13.68, 13.91)), with_interval(2.0, (2.0, 2.0))
    ('13.910 s [13.680-13.910]', '2.000 s')
    """
    low, high = map(seconds, ends)
    if low == high:
        return seconds(value)
    same_unit = low.rpartition(" ")[2] == high.rpartition(" ")[2] == seconds(value).rpartition(" ")[2]
    shown = f"{low.partition(' ')[0]}-{high.partition(' ')[0]}" if same_unit else f"{low} - {high}"
    return f"{seconds(value)} [{shown}]"


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A number with so many decimals; what rounds to nothing has no minus.

    >>> fixed(-0.04, 1), fixed(-0.06, 1), fixed(-0.04, 1, "+"), fixed(2.0, 2)
    ('0.0', '-0.1', '+0.0', '2.00')
    """
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def gib(bytes_: float) -> str:
    return f"{bytes_ / GIB:,.2f}"


def gb(bytes_: float) -> str:
    return f"{bytes_ / 1e9:,.2f}" if bytes_ else "-"


def share(part: float, whole: float) -> str:
    """Seconds and percent of the whole."""
    if part < 1e-9:
        return "-"
    return f"{seconds(part)} {100 * part / whole:5.1f}%"
