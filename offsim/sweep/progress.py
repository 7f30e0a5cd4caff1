"""How far along: a bar on standard error where that is a terminal, else lines now and then if it takes long."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .announce import announced


class RateColumn(ProgressColumn):
    """How many a second were finished lately; those that were there before don't count."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f} {self.unit}/s" if task.speed else f"- {self.unit}/s")


@contextmanager
def progress_bar(unit: str, *, quiet: bool, console: Console | None = None) -> Iterator[Progress]:
    """A bar with the number done, their rate and the time left, while the body adds to its tasks; silent if `quiet`."""
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    with bar, announced(unit, lambda: _share(bar), quiet=quiet or console.is_terminal):
        yield bar


def _share(bar: Progress) -> float:
    """How much of the last task is done of what it began with; nothing as long as nobody knows how much it is."""
    task = bar.tasks[-1] if bar.tasks else None
    if task is None or not task.total:
        return 0.0
    before = task.fields.get("before", 0)
    return float((task.completed - before) / max(task.total - before, 1))
