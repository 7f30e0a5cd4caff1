"""`offsim validate`: errors of all predictions that committed measurements can check, and what they must keep to.

The simpler models are those of `simpler`; noise is a case's first repetition against its second. The published runs of
the seeds are checked by `python -m experiments.seeds`.
"""

import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.table import Table

from offsim.results.layout import Renderable, new_table, pairs, render, spaced

from .errors import CaseError, Summary, Winners, all_errors, as_json, summary, winners
from .records import NODES, Failure, read_records
from .simpler import SIMPLER

THRESHOLDS = Path(__file__).with_name("thresholds.toml")
CLASSES = ("copy-bound", "balanced", "compute-bound", "contended", "blocking", "swap")
FINE, BROKEN = 0, 1


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bound on one statistic of one group."""

    group: str
    statistic: str
    limit: float


class Verdict(NamedTuple):
    """A threshold and what came out."""

    threshold: Threshold
    value: float
    detail: str

    @property
    def kept(self) -> bool:
        return self.value <= self.threshold.limit


def validate_command(*, json: bool, root: Path = NODES, thresholds: Path = THRESHOLDS) -> int:
    """Print all errors; 1 if a threshold is broken."""
    records, failures = read_records(root)
    if not records:
        print("no measurements to validate: calibration/nodes holds no node with a profile and replays")
        return FINE
    errors = all_errors(records)
    verdicts = judge(errors, thresholds)
    broken = [verdict for verdict in verdicts if not verdict.kept]
    if json:
        print(msgspec.json.format(msgspec.json.encode(_json(errors, verdicts, failures)), indent=2).decode())
    else:
        print(render(*spaced(report(errors, failures))))
        for verdict in broken:
            print(f"broken: {_words(verdict)}")
        print(f"{len(verdicts) - len(broken)} of {len(verdicts)} thresholds kept")
    return BROKEN if broken else FINE


def _words(verdict: Verdict) -> str:
    bound = verdict.threshold
    if bound.group == "winners":
        return f"{verdict.value:.0f} pairs in the wrong order, at most {bound.limit:.0f} allowed: {verdict.detail}"
    value, limit = _percent(verdict.value), _percent(bound.limit)
    return f"{bound.group}: {bound.statistic} |error| {value}, at most {limit} allowed ({verdict.detail})"


def judge(errors: list[CaseError], thresholds: Path = THRESHOLDS) -> list[Verdict]:
    """Every threshold whose group has measurements."""
    bounds = msgspec.convert(tomllib.loads(thresholds.read_text(encoding="utf-8"))["threshold"], list[Threshold])
    found = []
    for bound in bounds:
        verdict = _judge(bound, errors)
        if verdict is not None:
            found.append(verdict)
    return found


def _judge(bound: Threshold, errors: list[CaseError]) -> Verdict | None:
    if bound.group == "winners":
        order = winners(errors)
        return Verdict(bound, len(order.wrong), "; ".join(f"{a} and {b}" for a, b in order.wrong))
    group = _group(bound.group, errors)
    found = summary(group, _memory) if bound.group == "memory" else summary(group)
    if found is None:
        return None
    values = {"median": found.median, "p95": found.p95, "worst": abs(found.worst)}
    return Verdict(bound, values[bound.statistic], f"worst {found.worst_name} {_signed(found.worst)}")


def _group(name: str, errors: list[CaseError]) -> list[CaseError]:
    if name == "all but pageable":
        return [error for error in errors if "pageable" not in error.name]
    return [error for error in errors if name in ("all", "memory", error.kind)]


def _memory(error: CaseError) -> float | None:
    return error.memory_error


def report(errors: list[CaseError], failures: list[Failure]) -> list[Renderable]:
    """All tables: classes, other quantities, cases, winners."""
    parts: list[Renderable] = [classes(errors), quantities(errors), cases(errors), _order(winners(errors))]
    if failures:
        parts.append(pairs([(f"{f.node} {f.case}", f.error) for f in failures]))
    return parts


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} %"


def classes(errors: list[CaseError]) -> Table:
    """Steady steps relative to the resident run, by class, beside simpler models and the noise floor."""
    columns = ("n", "median", "p95", "worst", "<=1/3/5 %", *SIMPLER, "noise")
    title = "|error| of the steady step relative to its resident run (medians: simpler models max, alone, equal; noise)"
    table = new_table(title, "class", *columns)
    groups = [(name, [e for e in errors if e.kind == name]) for name in CLASSES]
    for name, group in [*groups, ("all", errors)]:
        found = summary(group)
        if found is not None:
            table.add_row(name, *_summary_cells(found), *_simpler_cells(group), _cell(group, _noise))
    return table


def _noise(error: CaseError) -> float | None:
    return error.noise


def _cell(group: list[CaseError], of: Callable[[CaseError], float | None]) -> str:
    found = summary(group, of)
    return "-" if found is None else _percent(found.median)


def _simpler_cells(group: list[CaseError]) -> list[str]:
    return [_cell(group, partial(_simpler, i)) for i in range(len(SIMPLER))]


def _simpler(index: int, error: CaseError) -> float | None:
    return error.simpler[index]


def _first_step(index: int, error: CaseError) -> float | None:
    return error.first_steps[index] if index < len(error.first_steps) else None


def _summary_cells(found: Summary) -> tuple[str, ...]:
    within = "/".join(f"{100 * share:.0f}" for share in found.within)
    return str(found.n), _percent(found.median), _percent(found.p95), _signed(found.worst), within


def quantities(errors: list[CaseError]) -> Table:
    """Everything else that is predicted: seconds, first steps, switches, memory."""
    table = new_table("|error| of other quantities", "quantity", "n", "median", "p95", "worst", "<=1/3/5 %")
    rows: list[tuple[str, Callable[[CaseError], float | None]]] = [
        ("policy, steady step [s]", lambda e: e.policy_error),
        ("resident run, steady step [s]", lambda e: e.resident_error),
        *((f"step {i} [s]", partial(_first_step, i)) for i in range(4)),
        ("switch step [s]", lambda e: e.switch_error),
        ("peak allocated memory", _memory),
    ]
    for name, of in rows:
        found = summary(errors, of)
        if found is not None:
            table.add_row(name, *_summary_cells(found))
    return table


def cases(errors: list[CaseError]) -> Table:
    """Every case, by node."""
    table = new_table("cases", "case", "node", "class", "measured", "predicted", "error", "noise")
    for error in errors:
        noise = "-" if error.noise is None else _signed(error.noise)
        ratio, predicted = f"{error.measured:.3f}", f"{error.predicted:.3f}"
        table.add_row(error.name, error.node, error.kind, ratio, predicted, _signed(error.error), noise)
    return table


def _order(order: Winners) -> Table:
    wrong = [("wrong", f"{a} and {b}") for a, b in order.wrong]
    total = order.right + len(order.wrong)
    return pairs(
        [("winners", f"{order.right} of {total} pairs that differ by more than 3 % are in the right order"), *wrong]
    )


def _json(errors: list[CaseError], verdicts: list[Verdict], failures: list[Failure]) -> dict[str, object]:
    thresholds = [
        msgspec.to_builtins(v.threshold) | {"value": v.value, "kept": v.kept, "detail": v.detail} for v in verdicts
    ]
    return {
        "schema_version": 1,
        "cases": as_json(errors),
        "thresholds": thresholds,
        "failures": [failure._asdict() for failure in failures],
    }
