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

from calibration.replays.cases import ReplayCase
from calibration.samples.script import run_script
from offsim.results.layout import new_table, render, spaced
from offsim.results.predict import predict
from offsim.sweep.workers import Workers

from .errors import ErrorSummary, summary_of
from .records import NODES, NODES_BEFORE_RULE, ReplayRecord, all_records, settled_steps

Statistic = Callable[[Iterable[float]], float]


class SteadyStepRule(NamedTuple):
    """One way to read a steady step."""

    name: str
    statistic: Statistic
    only_settled: bool
    """Whether resident steps count from 0.2 s on, instead of all but step 0."""
    every_line: bool
    """Whether lines count whose resident run ended before 0.2 s."""


STEADY_STEP_RULES = (
    SteadyStepRule("mean, step 1 on, every run", mean, only_settled=False, every_line=True),
    SteadyStepRule("mean, step 1 on", mean, only_settled=False, every_line=False),
    SteadyStepRule("mean, settled", mean, only_settled=True, every_line=False),
    SteadyStepRule("median, step 1 on, every run", median, only_settled=False, every_line=True),
    SteadyStepRule("median, step 1 on", median, only_settled=False, every_line=False),
    SteadyStepRule("median, settled: scored", median, only_settled=True, every_line=False),
)


class Predicted(NamedTuple):
    """Steps, resident step [s] and peak [bytes] that the simulator predicts for a record."""

    steps: list[float]
    resident: float
    peak: float


def predicted(record: ReplayRecord) -> Predicted:
    """Predict a record with its node's profile."""
    profile = str(record.profile)
    own, reference = predict(record.case.scenario(profile)), predict(record.case.resident(profile))
    return Predicted([step.duration for step in own.steps], reference.steps[-1].duration, own.peak_allocated)


def measured_ratio(record: ReplayRecord, rule: SteadyStepRule) -> float:
    """Measured steady step over resident step, read by this rule."""
    policy = [run[i] for run in record.policy_steps for i in record.steady_indices]
    chosen = [settled_steps(run) if rule.only_settled else run[1:] for run in record.resident_steps]
    return rule.statistic(policy) / rule.statistic(step for run in chosen for step in run)


def reading_error(record: ReplayRecord, told: Predicted, rule: SteadyStepRule) -> float:
    """Signed error of the steady step over the resident step, read by this rule."""
    ratio = rule.statistic(told.steps[i] for i in record.steady_indices) / told.resident
    return ratio / measured_ratio(record, rule) - 1


class PredictedRecord(NamedTuple):
    """A record and its prediction."""

    record: ReplayRecord
    told: Predicted


def all_pairs(root: Path = NODES) -> list[PredictedRecord]:
    """Every committed record with its prediction, predicted on all cores."""
    records, _ = all_records(root)
    with Workers() as pool:
        return [PredictedRecord(*pair) for pair in zip(records, pool.map(predicted, records), strict=True)]


def before_and_since(pairs: list[PredictedRecord]) -> list[tuple[str, list[PredictedRecord]]]:
    """Records of the nodes that were known when the rule was settled, of those since, and all."""
    seen = [pair for pair in pairs if pair.record.node in NODES_BEFORE_RULE]
    since = [pair for pair in pairs if pair.record.node not in NODES_BEFORE_RULE]
    return [("before the rule", seen), ("since", since), ("all", pairs)]


class ReadingErrors(NamedTuple):
    """Errors of one group of nodes, where steady steps are read by one rule."""

    reading: str
    nodes: str
    errors: list[tuple[float, str]]
    """Signed errors, each with its case's name."""
    pinned: list[tuple[float, str]]
    """Those errors of policies that copy nothing from or to pageable memory."""


def _row(reading: str, nodes: str, errors: list[tuple[ReplayCase, float]]) -> ReadingErrors:
    pinned = [(error, case.name) for case, error in errors if not case.pageable]
    return ReadingErrors(reading, nodes, [(error, case.name) for case, error in errors], pinned)


def steady_rows(pairs: list[PredictedRecord]) -> list[ReadingErrors]:
    """Errors of the steady step relative to its resident run, rule by rule and group by group."""
    rows = []
    for rule in STEADY_STEP_RULES:
        for title, group in before_and_since(pairs):
            counted = [pair for pair in group if rule.every_line or pair.record.has_settled]
            rows.append(_row(rule.name, title, [(p.record.case, reading_error(*p, rule)) for p in counted]))
    return rows


def memory_rows(pairs: list[PredictedRecord]) -> list[ReadingErrors]:
    """Errors of the peak, wherever it was measured and where it is scored."""
    rows = []
    for name, every in (("every peak", True), ("scored", False)):
        for title, group in before_and_since(pairs):
            counted = [p for p in group if p.record.peak_allocated and (every or p.record.scored_peak)]
            errors = [(p.record.case, p.told.peak / (p.record.peak_allocated or 1) - 1) for p in counted]
            rows.append(_row(name, title, errors))
    return rows


def table_of(title: str, rows: list[ReadingErrors]) -> Table:
    """A table of the rows that have errors."""
    columns = ("nodes", "n", "median", "p95", "worst", "not pageable")
    table = new_table(title, "reading", *columns)
    for row in rows:
        found = summary_of(row.errors)
        if found is not None:
            pinned = summary_of(row.pinned)
            cells = [str(found.n), f"{100 * found.median:.2f} %", f"{100 * found.p95:.2f} %"]
            table.add_row(row.reading, row.nodes, *cells, _worst(found), _worst(pinned))
    return table


def _worst(found: ErrorSummary | None) -> str:
    return "-" if found is None else f"{100 * found.worst:+.2f} %"


def main() -> None:
    """Print both tables."""
    pairs = all_pairs()
    steady = table_of("|error| of the steady step relative to its resident run", steady_rows(pairs))
    print(render(*spaced([steady, table_of("|error| of peak allocated memory", memory_rows(pairs))])), end="")


if __name__ == "__main__":
    from calibration.validate import readings  # the name under which worker processes find what they do

    run_script(readings.main)
