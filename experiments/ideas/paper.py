"""Kept outputs: tables and sentences as text of one width."""

import textwrap
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

WIDTH = 120


def shown(table: Table) -> str:
    """A table as text."""
    console = Console(width=WIDTH, highlight=False, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def paragraphs(lines: Iterable[str]) -> str:
    """One item per line, wrapped."""
    return "".join(textwrap.fill(line, WIDTH, initial_indent="- ", subsequent_indent="  ") + "\n" for line in lines)
