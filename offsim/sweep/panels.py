"""A grid's rows as questions: per panel (a topology) and line (a GPU count), which policy is best?

The axes that set the policy compete. The axis that sets `workload.gpus` makes the lines (without one, the
last other axis). Every combination of the remaining axes is a panel of its own.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from offsim.results.metrics import LOSSES

from .axis import Axis, competing, joined
from .grid import Compared, Labels
from .row import Row

SAME = 0.005
"""Share by which two times must differ to be told apart: less than any of the inputs is known to."""
TOTAL_SPAN = ("total_s", "total_low_s", "total_high_s")
STEADY_SPAN = ("steady_step_s", "steady_step_low_s", "steady_step_high_s")
ANSWERED = {
    *TOTAL_SPAN,
    *STEADY_SPAN,
    *(f"steady_{metric.name}" for metric in LOSSES),
    "switch_step_s",
    "peak_allocated_GiB",
    "oom_where",
    "oom_shortfall_GiB",
    "prefetch_blocks",
}
"""Columns that may be empty and that an answer is made from."""


class PanelLine(NamedTuple):
    """The competing policies of one GPU count."""

    label: str
    entries: dict[str, Row]
    """Rows by the policy's label; combinations that did not finish are missing."""

    def fitting(self) -> dict[str, Row]:
        """The entries that run and fit, fastest first."""
        fits = {label: row for label, row in self.entries.items() if row.status == "ok"}
        return dict(sorted(fits.items(), key=lambda entry: total(entry[1]).value))

    def best(self) -> list[str]:
        """The fastest policy that fits and those that can't be told from it, least GPU memory first."""
        fits = self.fitting()
        first = next(iter(fits.values()), None)
        tied = [label for label, row in fits.items() if first and order(total(row), total(first)) == 0]
        return sorted(tied, key=lambda label: fits[label].number("peak_allocated_GiB"))


class Panel(NamedTuple):
    """One table of the answer."""

    title: str
    line_axis: str
    lines: list[PanelLine]


class Case(NamedTuple):
    """Two policies on one panel's line."""

    where: str
    ours: Row
    other: Row

    @property
    def fits(self) -> bool:
        """Whether both fit; else their times are as if they did."""
        return self.ours.status == self.other.status == "ok"


class TimeRange(NamedTuple):
    """A time and the interval of what is not known."""

    value: float
    low: float
    high: float


def total(row: Row) -> TimeRange:
    """The denoising time of a row [s]."""
    return _span(row, TOTAL_SPAN)


def steady(row: Row) -> TimeRange:
    """The duration of a row's steady step [s]."""
    return _span(row, STEADY_SPAN)


def _span(row: Row, names: Sequence[str]) -> TimeRange:
    """A time that is there: rows that ran have all of them."""
    return TimeRange(*(row.number(name, missing=float("inf")) for name in names))


def order(ours: TimeRange, other: TimeRange) -> int:
    """The order of two times: -1 if ours is shorter, 1 if longer, 0 if the intervals come closer than `SAME`."""
    if ours.high < other.low * (1 - SAME):
        return -1
    return 1 if ours.low > other.high * (1 + SAME) else 0


def change(ours: TimeRange, other: TimeRange) -> float:
    """How much longer ours is [share]; negative if it is shorter."""
    return ours.value / other.value - 1


def changes(ours: TimeRange, other: TimeRange) -> TimeRange:
    """How much longer ours is [share], with the interval of what is not known."""
    return TimeRange(change(ours, other), ours.low / other.high - 1, ours.high / other.low - 1)


def panels(axes: Sequence[Axis], rows: Iterable[Row]) -> list[Panel]:
    """The rows by panel and line, each in the order of the grid."""
    policies, line = competing(axes), _line_axis(axes)
    rest = [i for i in range(len(axes)) if i not in policies and i != line]
    found: dict[Labels, dict[str, PanelLine]] = {}
    for row in rows:
        lines = found.setdefault(tuple(row.labels[i] for i in rest), {})
        label = row.labels[line] if line is not None else "all"
        entries = lines.setdefault(label, PanelLine(label, {})).entries
        entries[joined(row.labels, policies) or row.policy] = row
    name = axes[line].name if line is not None else ""
    return [Panel(" / ".join(labels), name, list(lines.values())) for labels, lines in found.items()]


def _line_axis(axes: Sequence[Axis]) -> int | None:
    """Which axis makes the lines."""
    others = [i for i in range(len(axes)) if i not in competing(axes)]
    counts = [i for i in others if "workload.gpus" in axes[i].keys]
    return next(iter(counts or others[-1:]), None)


def case_of(panel: Panel, line: PanelLine, compared: Compared) -> Case | None:
    """The two policies that a grid compares, on a line where both run."""
    ours, other = (line.entries.get(label) for label in compared)
    if ours is None or other is None or not (ours.ran and other.ran):
        return None
    return Case(place(panel, line), ours, other)


def place(panel: Panel, line: PanelLine) -> str:
    """Where a line stands: `one uplink, gpus=4`."""
    return ", ".join(part for part in (panel.title, heading(panel, line)) if part)


def heading(panel: Panel, line: PanelLine) -> str:
    """The line's axis and label: `gpus=4`."""
    return f"{panel.line_axis}={line.label}" if panel.line_axis else line.label


def cases(found: Iterable[Panel], compared: Compared) -> list[Case]:
    """Every place where both policies that a grid compares run."""
    pairs = (case_of(panel, line, compared) for panel in found for line in panel.lines)
    return [case for case in pairs if case is not None]
