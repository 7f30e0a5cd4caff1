"""The answer of a sweep as text: per panel who wins and what every policy costs, then sentences."""

from collections.abc import Iterator, Sequence
from io import StringIO
from shutil import get_terminal_size
from textwrap import fill

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from offsim.results.fitting import FittedTable, fitted
from offsim.results.layout import fixed, width_is_known
from offsim.scenario.wording import visible

from .findings import calibration_line, findings
from .grid import Compared, Grid
from .panels import SAME, Panel, PanelLine, TimeRange, case_of, changes, heading, panels, steady, total
from .row import Result, Row

ANSWER_WIDTH = 110
WINNERS = "Best by total time, of ties the least GPU memory"
BRACKETS = "[low high]: how collectives share links with copies is not known"
PANELS = 20
"""Tables shown; a sweep over many sizes has thousands."""
EVERYTHING = (
    f"Steady step / total s; ~ best and ties (within {100 * SAME:g} % or their intervals); "
    "! GiB lacking (times as if none were)"
)


def terminal_width() -> int:
    """What an answer may take of the terminal that it is printed to."""
    return min(ANSWER_WIDTH, get_terminal_size().columns) if width_is_known() else ANSWER_WIDTH


def answer_text(grid: Grid, results: Sequence[Result], stopped: str, folder: str, width: int = ANSWER_WIDTH) -> str:
    """The whole answer, at most `width` columns wide as far as its words allow."""
    file = StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    for part in _parts(grid, results, stopped, folder):
        console.print(_fitting(part, width))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _fitting(part: str | Table, width: int) -> RenderableType:
    """Tables as wide as that, sentences wrapped."""
    if isinstance(part, Table):
        return fitted(part, width)
    start = "\n" if part.startswith("\n") else ""
    wrapped = fill(visible(part), width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
    return Text(start + wrapped.lstrip())


def _parts(grid: Grid, results: Sequence[Result], stopped: str, folder: str) -> Iterator[str | Table]:
    found = panels(grid.axes, [result.row for result in results])
    yield grid.title or grid.name
    for panel in found[:PANELS]:
        yield f"\n{_title(panel)}"
        yield _heading(panel, grid.compare)
        yield _winners(panel, grid.compare)
        yield f"\n{EVERYTHING}"
        yield _everything(panel)
        yield from _notes(panel, grid.compare)
    if len(found) > PANELS:
        yield f"\n... and {len(found) - PANELS:,} more tables of this kind: their rows are in results.csv"
    yield ""
    yield from (f"- {sentence}" for sentence in findings(found, grid.compare))
    if stopped:
        yield f"\nNot complete ({len(results)} of {len(grid.combinations)} combinations): {stopped}"
    if grid.notes:
        yield f"\n{grid.notes}"
    yield f"\n{calibration_line(results)}"
    yield f"Written to {folder}"


def _title(panel: Panel) -> str:
    nodes = {row.text("node") for line in panel.lines for row in line.entries.values()}
    node = f"node {nodes.pop()}" if len(nodes) == 1 else f"{len(nodes)} nodes"
    return f"== {panel.title} ({node})" if panel.title else f"== {node}"


def _heading(panel: Panel, compared: Compared | None) -> str:
    """What the first table shows, and what brackets in it are where there are any."""
    rows = [row for line in panel.lines for row in line.entries.values() if row.ran]
    open_ = any(span.low != span.high for row in rows for span in (steady(row), total(row)))
    over = [f"{' over '.join(compared)} in %"] if compared else []
    return "; ".join([WINNERS, *over, *([BRACKETS] if open_ else [])])


def _table(*columns: str) -> FittedTable:
    table = FittedTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    table.columns[0].justify = "left"
    return table


def _winners(panel: Panel, compared: Compared | None) -> Table:
    """Per line the best policy that fits, and how the two that the grid compares do."""
    columns = ("best that fits", "step s", "switch s", "total s", "GPU GiB", "fit")
    table = _table(panel.line_axis, *columns, *(("step %", "total %") if compared else ()))
    table.optional = ("switch s", "fit")
    table.columns[1].justify = "left"
    for line in panel.lines:
        table.add_row(line.label, *_winner(line), *(_versus(panel, line, compared) if compared else ()))
    return table


def _winner(line: PanelLine) -> list[str]:
    ran = [row for row in line.entries.values() if row.ran]
    fits, best = line.fitting(), line.best()
    share = f"{len(fits)}/{len(ran)}"
    if not ran:
        return ["refused, see below", "", "", "", "", ""]
    if not best:
        return ["none fits", "", "", "", "", share]
    row = fits[best[0]]
    name = best[0] if len(best) == 1 else f"{best[0]}\n(tie of {len(best)})"
    memory = fixed(row.number("peak_allocated_GiB"), 2)
    return [name, _span(steady(row), 2), _switch(row), _span(total(row), 1), memory, share]


def _switch(row: Row) -> str:
    return fixed(row.number("switch_step_s"), 2) if row.text("switch_step_s") else "-"


def _span(span: TimeRange, digits: int) -> str:
    """A time, with its interval if that is visible."""
    shown, low, high = (fixed(value, digits) for value in span)
    return shown if low == high else f"{shown}\n[{low} {high}]"


def _versus(panel: Panel, line: PanelLine, compared: Compared) -> list[str]:
    """By how many percent the first of two policies is slower, in the steady step and in total."""
    case = case_of(panel, line, compared)
    if case is None:
        return ["", ""]
    mark = "" if case.fits else "*"
    return [_percent(changes(measure(case.ours), measure(case.other))) + mark for measure in (steady, total)]


def _percent(span: TimeRange) -> str:
    shown, low, high = (fixed(100 * value, 1, "+") for value in span)
    return shown if low == high else f"{shown}\n[{low} {high}]"


def _everything(panel: Panel) -> Table:
    """Every policy's steady step and total by line, and what it lacks."""
    lines = [line for line in panel.lines if any(row.ran for row in line.entries.values())]
    table = _table("policy", *(heading(panel, line) for line in lines))
    best = [line.best() for line in lines]
    for name in dict.fromkeys(label for line in lines for label in line.entries):
        pairs = zip(lines, best, strict=True)
        table.add_row(name, *(_entry(line.entries.get(name), name in top) for line, top in pairs))
    return table


def _entry(row: Row | None, best: bool) -> str:
    if row is None:
        return "not run"
    if not row.ran:
        return "refused"
    shown = f"{steady(row).value:.2f} / {total(row).value:.1f}"
    if row.status == "ok":
        return f"{'~' if best else ''}{shown}"
    return f"{shown}\n! {row.text('oom_where')} {row.number('oom_shortfall_GiB'):.1f}"


def _notes(panel: Panel, compared: Compared | None) -> Iterator[str]:
    """What the marks mean, and reasons of refusals."""
    found = [case_of(panel, line, compared) for line in panel.lines] if compared else []
    if any(case is not None and not case.fits for case in found):
        yield "* one of the two doesn't fit: as if it did"
    for line in panel.lines:
        for reason in dict.fromkeys(row.reason for row in line.entries.values() if not row.ran):
            yield f"{heading(panel, line)} is refused: {reason}"
