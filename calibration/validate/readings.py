"""The errors that the same replays would show if a steady step were read otherwise.

    python -m calibration.validate.readings

How a steady step is read, that runs whose clock had not settled don't count, and which peaks don't were decided after
the replays of the first nodes had been seen; what those choices are worth is seen on the nodes since. Measured and
predicted steps are read alike. Left out: other choices of classes and of cases, which were made before.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from rich.table import Table

from calibration.replays.cases import Case
from calibration.samples.script import run_script
from offsim.results.layout import new_table, render, spaced
from offsim.results.predict import predict
from offsim.sweep.workers import Workers

from .errors import Summary, summary_of
from .records import NODES, SEEN, Record, all_records, settled

Statistic = Callable[[Iterable[float]], float]


class Reading(NamedTuple):
    """One way to read a steady step."""

    name: str
    statistic: Statistic
    only_settled: bool
    """Resident steps from 0.2 s on, instead of all but step 0."""
    every_line: bool
    """Also where the resident run ended before 0.2 s."""


READINGS = (
    Reading("mean, step 1 on, every run", mean, only_settled=False, every_line=True),
    Reading("mean, step 1 on", mean, only_settled=False, every_line=False),
    Reading("mean, settled", mean, only_settled=True, every_line=False),
    Reading("median, step 1 on, every run", median, only_settled=False, every_line=True),
    Reading("median, step 1 on", median, only_settled=False, every_line=False),
    Reading("median, settled: scored", median, only_settled=True, every_line=False),
)


class Predicted(NamedTuple):
    """What the simulator says of a record."""

    steps: list[float]
    resident: float
    peak: float


def predicted(record: Record) -> Predicted:
    """Predict a record with its node's profile."""
    profile = str(record.profile)
    own, reference = predict(record.case.scenario(profile)), predict(record.case.resident(profile))
    return Predicted([step.duration for step in own.steps], reference.steps[-1].duration, own.peak_allocated)


def measured_ratio(record: Record, reading: Reading) -> float:
    """Steady step over resident step, so read."""
    policy = [run[i] for run in record.policy_steps for i in record.steady_indices]
    chosen = [settled(run) if reading.only_settled else run[1:] for run in record.resident_steps]
    return reading.statistic(policy) / reading.statistic(step for run in chosen for step in run)


def error_of(record: Record, told: Predicted, reading: Reading) -> float:
    """Signed error of the ratio, so read."""
    ratio = reading.statistic(told.steps[i] for i in record.steady_indices) / told.resident
    return ratio / measured_ratio(record, reading) - 1


class Pair(NamedTuple):
    """A record and its prediction."""

    record: Record
    told: Predicted


def all_pairs(root: Path = NODES) -> list[Pair]:
    """Every committed record, predicted on all cores."""
    records, _ = all_records(root)
    with Workers() as pool:
        return [Pair(*pair) for pair in zip(records, pool.map(predicted, records), strict=True)]


def groups(pairs: list[Pair]) -> list[tuple[str, list[Pair]]]:
    """The nodes that were known when the rule was settled, those since, and all."""
    seen = [pair for pair in pairs if pair.record.node in SEEN]
    since = [pair for pair in pairs if pair.record.node not in SEEN]
    return [("before the rule", seen), ("since", since), ("all", pairs)]


class Row(NamedTuple):
    """Errors of one group of nodes, so read."""

    reading: str
    nodes: str
    errors: list[tuple[float, str]]
    """Signed, with the case's name."""
    pinned: list[tuple[float, str]]
    """Those of policies that copy nothing from or to pageable memory."""


def _row(reading: str, nodes: str, errors: list[tuple[Case, float]]) -> Row:
    pinned = [(error, case.name) for case, error in errors if not case.pageable]
    return Row(reading, nodes, [(error, case.name) for case, error in errors], pinned)


def steady_rows(pairs: list[Pair]) -> list[Row]:
    """Of the steady step relative to its resident run."""
    rows = []
    for reading in READINGS:
        for title, group in groups(pairs):
            counted = [pair for pair in group if reading.every_line or pair.record.has_settled]
            rows.append(_row(reading.name, title, [(p.record.case, error_of(*p, reading)) for p in counted]))
    return rows


def memory_rows(pairs: list[Pair]) -> list[Row]:
    """Of the peak, wherever it was measured and where it is scored."""
    rows = []
    for name, every in (("every peak", True), ("scored", False)):
        for title, group in groups(pairs):
            counted = [p for p in group if p.record.peak_allocated and (every or p.record.scored_peak)]
            errors = [(p.record.case, p.told.peak / (p.record.peak_allocated or 1) - 1) for p in counted]
            rows.append(_row(name, title, errors))
    return rows


def table_of(title: str, rows: list[Row]) -> Table:
    """Rows that have errors."""
    columns = ("nodes", "n", "median", "p95", "worst", "not pageable")
    table = new_table(title, "reading", *columns)
    for row in rows:
        found = summary_of(row.errors)
        if found is not None:
            pinned = summary_of(row.pinned)
            cells = [str(found.n), f"{100 * found.median:.2f} %", f"{100 * found.p95:.2f} %"]
            table.add_row(row.reading, row.nodes, *cells, _worst(found), _worst(pinned))
    return table


def _worst(found: Summary | None) -> str:
    return "-" if found is None else f"{100 * found.worst:+.2f} %"


def main() -> None:
    """Print both tables."""
    pairs = all_pairs()
    steady = table_of("|error| of the steady step relative to its resident run", steady_rows(pairs))
    print(render(*spaced([steady, table_of("|error| of peak allocated memory", memory_rows(pairs))])), end="")


if __name__ == "__main__":
    from calibration.validate import readings  # the name under which worker processes find what they do

    run_script(readings.main)
