"""Tables on narrow terminals: no word is broken, and no number.

Every column gets what its longest word takes, and the wider ones share the rest evenly. Cells break between words;
where that is not narrow enough, columns stand closer, long names break at a joint (after `-`, `_`, `.` and the like),
and at last optional columns are left out. Numbers (what stands right) never break.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from offsim.scenario.wording import visible

JOINT = re.compile(r"(?<=[A-Za-z0-9)][-_/.,:=(])(?=[A-Za-z(\"'-])")
ColumnWidths = tuple[int, int]
"""Least and most columns of the terminal that a column of a table can use."""


class FittedTable(Table):
    """A table that knows which of its columns may be left out, and shows what would move a terminal's cursor."""

    optional: tuple[str, ...] = ()
    """Headers, in the order in which they go."""

    def add_column(self, header: RenderableType = "", *rest: Any, **named: Any) -> None:
        """Add a column as rich does, its header made visible."""
        super().add_column(_visible(header), *rest, **named)

    def add_row(self, *cells: RenderableType | None, **named: Any) -> None:
        """Add a row as rich does, its cells made visible."""
        super().add_row(*map(_visible, cells), **named)


def _visible(cell: Any) -> Any:
    """A cell in which every unprintable character is written out, before its width counts."""
    shown = visible(_plain(cell))
    return cell if cell is None or shown == _plain(cell) else shown


def pieces(word: str) -> list[str]:
    """What a word may be broken into.

    >>> pieces("--dit-layerwise-offload"), pieces("prefetch,"), pieces("2026-11")
    (['--dit-', 'layerwise-', 'offload'], ['prefetch,'], ['2026-11'])
    """
    return JOINT.split(word)


def line_spans(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Where each line of a text begins and ends, if it is to be so wide.

    >>> text = "a block's weights, num_blocks_per_group"
    >>> [text[a:b] for a, b in line_spans(text, 12)]
    ["a block's", 'weights,', 'num_blocks_', 'per_group']
    """
    at = 0
    for paragraph in text.split("\n"):
        begin = end = at
        for start, stop in _parts(paragraph, at, width):
            if cell_len(text[begin:stop]) > width and end > begin:
                yield begin, end
                begin = start
            end = stop
        yield begin, end
        at += len(paragraph) + 1


def _parts(paragraph: str, offset: int, width: int) -> Iterator[tuple[int, int]]:
    """Words, or the pieces of those that are longer than a line."""
    for match in re.finditer(r"\S+", paragraph):
        start = offset + match.start()
        for piece in pieces(match.group()) if cell_len(match.group()) > width else [match.group()]:
            yield start, start + len(piece)
            start += len(piece)


def fitted(table: Table, width: int) -> Table:
    """The table itself where it is no wider than `width`; else one that isn't, as far as its words allow."""
    kept = list(table.columns)
    gap = 2 if table.box is None else table.padding[1] + table.padding[3] + 1
    if sum(need(column)[1] for column in kept) + gap * (len(kept) - 1) <= width:
        return table
    for header in (None, *getattr(table, "optional", ())):
        kept = [column for column in kept if column.header != header]
        for whole, gaps in ((True, gap), (True, 2), (False, gap), (False, 2)):
            needs = [need(column, whole=whole) for column in kept]
            room = width - gaps * (len(kept) - 1)
            if sum(least for least, _ in needs) <= room:
                return _rebuilt(table, kept, shared(needs, room), close=gaps < gap)
    return table


def need(column: Column, *, whole: bool = True) -> ColumnWidths:
    """Least and most width of a column: words of its header stay whole, those of cells do or break at their joints."""
    cells = [line for cell in column.cells for line in _plain(cell).split("\n")]
    most = max(map(cell_len, cells), default=0)
    least = most
    if column.justify == "left" and not column.no_wrap:
        words = [word for line in cells for word in line.split()]
        least = max((cell_len(part) for word in words for part in ([word] if whole else pieces(word))), default=0)
    header, least = _plain(column.header), max(least, min(most, column.min_width or 0))
    return max([least, *map(cell_len, header.split())]), max([most, *map(cell_len, header.split("\n"))])


def shared(needs: Sequence[ColumnWidths], room: int) -> list[int]:
    """Widths of columns: what they need at least, and the rest evenly among those that can use more.

    >>> shared([(5, 5), (4, 30), (4, 12)], 27)
    [5, 11, 11]
    """

    def at(level: int) -> list[int]:
        return [min(most, max(least, level)) for least, most in needs]

    level = max((level for level in range(room + 1) if sum(at(level)) <= room), default=0)
    widths = at(level)
    for i, (_, most) in enumerate(needs):
        if sum(widths) < room and widths[i] == level < most:
            widths[i] += 1
    return widths


def _rebuilt(table: Table, columns: Sequence[Column], widths: Sequence[int], *, close: bool) -> Table:
    """A table with these columns, their cells broken into lines."""
    grid = table.box is None
    new = Table(
        title=table.title,
        title_justify=table.title_justify,
        title_style=table.title_style,
        box=table.box,
        show_header=table.show_header,
        show_edge=False,
        pad_edge=False,
        collapse_padding=grid,
        padding=(0, 1, 0, 0) if close else table.padding,
    )
    for column, width in zip(columns, widths, strict=True):
        header = _broken(column.header, width)
        new.add_column(header, justify=column.justify, style=column.style, width=width, overflow="fold")
    for row, *cells in zip(table.rows, *(column.cells for column in columns), strict=True):
        broken = (_broken(cell, width) for cell, width in zip(cells, widths, strict=True))
        new.add_row(*broken, end_section=row.end_section)
    return new


def _broken(cell: object, width: int) -> Text:
    text = cell if isinstance(cell, Text) else Text(str(cell))
    return Text("\n").join(text[a:b] for a, b in line_spans(text.plain, width))


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
