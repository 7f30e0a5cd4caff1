"""`offsim validate`: errors of all predictions that committed measurements can check, and what they must keep to.

The simpler models are those of `simpler`; noise is a case's first repetition against its second. The published runs of
the seeds are checked by `python -m experiments.seeds`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from calibration.replays.cases import without_kind
from offsim.cli_catalogue import FINE, emit, write, write_json
from offsim.results.layout import Renderable, new_table, pairs, spaced

from .diffusers_prediction import ForwardError, forward_error
from .diffusers_records import read_forwards
from .diffusers_report import forward_json, forwards_tables
from .errors import (
    CaseError,
    ErrorSummary,
    Winners,
    all_errors,
    cases_json,
    cases_read_beside,
    memory_error,
    seconds_error,
    summary_of_cases,
    winners,
)
from .intervals import errors_by_kind, not_as_kept
from .records import CASE_CLASSES, NODES, NODES_BEFORE_RULE, Failure, read_records
from .simpler import SIMPLER
from .thresholds import THRESHOLDS, Verdict, judge

BROKEN = 1
BESIDE_TITLE = "cases beside which host memory was read: the same with that rate in place of the profile's"
CLASS_HEADS = (
    "n: cases. median, p95, worst: of the errors (predicted / measured - 1), without their sign but for the worst; "
    "95 % are at most p95. <=1/3/5 %: percent of the cases that are off by at most 1, 3 and 5 %.\n"
    "max, alone, equal, first-order: the median errors of simpler models: the larger of computing and copying; nothing "
    "slows anything else; collectives and copies share links equally; the larger of kernels and copies, without "
    "collectives (ChunkFlow's). noise: by how much a case's two runs differ."
)
CASE_HEADS = (
    "measured, predicted: the case's steady step, in steady steps of the same model with everything on the GPU. "
    "class: what the step waits for."
)
TITLE = (
    "|error| of the steady step relative to its resident run "
    "(medians: simpler models max, alone, equal, first-order; noise)"
)


def validate_command(*, json: bool, root: Path = NODES, thresholds: Path = THRESHOLDS) -> int:
    """Print all errors; 1 if a threshold is broken, or if the errors behind intervals are not those that are kept."""
    records, failures = read_records(root)
    forwards, failed = read_forwards(root)
    if not records and not forwards:
        return write("no measurements to validate: calibration/nodes holds no node with a profile and replays\n")
    failures += [Failure(*failure) for failure in failed]
    errors, of_forwards = all_errors(records), [forward_error(record) for record in forwards]
    verdicts = judge(errors, thresholds, of_forwards)
    broken = any(verdict.kept is False for verdict in verdicts)
    changed = not_as_kept(errors_by_kind(records, errors, forwards, of_forwards)) if root == NODES else []
    if json:
        write_json(_json(errors, verdicts, failures, of_forwards))
    else:
        tables = forwards_tables(of_forwards)
        emit(*spaced([*validation_report(errors, failures), *tables]))
        write("\n".join(["", judgement(verdicts), *changed, ""]))
    return BROKEN if broken or changed else FINE


def judgement(verdicts: list[Verdict]) -> str:
    """Lines for thresholds that are broken or have no data, and how many are kept."""
    lines = [f"broken: {verdict.words}" for verdict in verdicts if verdict.kept is False]
    lines += [f"not reached: {verdict.words}" for verdict in verdicts if verdict.missed]
    lines += [f"no data for a threshold: {verdict.words}" for verdict in verdicts if verdict.kept is None]
    judged = [verdict for verdict in verdicts if verdict.kept is not None]
    kept = sum(verdict.kept is True for verdict in judged)
    missed = sum(verdict.missed for verdict in judged)
    reached = f"; {missed} of them only as far as measured, their target is not reached" if missed else ""
    without = f"; {len(verdicts) - len(judged)} without data" if len(judged) < len(verdicts) else ""
    return "\n".join([*lines, f"{kept} of {len(judged)} thresholds kept{reached}{without}"])


def validation_report(errors: list[CaseError], failures: list[Failure]) -> list[Renderable]:
    """All tables of a validation: classes, other quantities, cases, winners."""
    since = [error for error in errors if error.node not in NODES_BEFORE_RULE]
    parts: list[Renderable] = [classes(errors), Text(CLASS_HEADS)]
    if 0 < len(since) < len(errors):
        parts.append(classes(since, "the same, of nodes that were measured after the rule was settled"))
    alone = [error for error in errors if error.gpus == 1]
    if 0 < len(alone) < len(errors):
        parts.append(classes(alone, "the same, on one GPU"))
        parts.append(classes([error for error in errors if error.gpus > 1], "the same, on two GPUs"))
    nodes = dict.fromkeys(error.node for error in errors)
    if len(nodes) > 1:
        parts.append(by_node(errors))
    read_beside = cases_read_beside(errors)
    if read_beside:
        parts.append(classes(read_beside, BESIDE_TITLE))
    parts += [quantities(errors), *(case_table(node, errors) for node in nodes), Text(CASE_HEADS)]
    parts.append(_order(winners(errors)))
    if failures:
        parts.append(pairs(_reasons(failures)))
    return parts


def _reasons(failures: list[Failure]) -> list[tuple[str, str]]:
    """What is not scored; cases of one node that share a reason are counted."""
    cases: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        cases.setdefault((failure.node, failure.error), []).append(failure.case)
    return [
        (f"{node} {names[0]}" if len(names) == 1 else f"{node}, {len(names)} cases", error)
        for (node, error), names in cases.items()
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f} %"


def classes(errors: list[CaseError], title: str = TITLE) -> Table:
    """A table of steady steps relative to the resident run, by class, beside simpler models and the noise floor."""
    return _summaries_of(_by_class(errors), title, "class")


def by_node(errors: list[CaseError]) -> Table:
    """A table of steady steps relative to the resident run, node by node."""
    nodes = dict.fromkeys(error.node for error in errors)
    groups = [(node, [error for error in errors if error.node == node]) for node in nodes]
    return _summaries_of(groups, "the same, by node", "node")


def _summaries_of(groups: list[tuple[str, list[CaseError]]], title: str, first: str) -> Table:
    columns = ("n", "median", "p95", "worst", "<=1/3/5 %", *SIMPLER, "noise")
    table = new_table(title, first, *columns, optional=("first-order", "equal", "alone", "noise"))
    table.columns[0].no_wrap = True
    for name, group in groups:
        found = summary_of_cases(group)
        if found is not None:
            table.add_row(name, *_summary_cells(found), *_simpler_cells(group), _cell(group, _noise))
    return table


def _by_class(errors: list[CaseError]) -> list[tuple[str, list[CaseError]]]:
    return [*((name, [e for e in errors if e.kind == name]) for name in CASE_CLASSES), ("all", errors)]


def _noise(error: CaseError) -> float | None:
    return error.noise


def _cell(group: list[CaseError], of: Callable[[CaseError], float | None]) -> str:
    found = summary_of_cases(group, of)
    return "-" if found is None else _percent(found.median)


def _simpler_cells(group: list[CaseError]) -> list[str]:
    return [_cell(group, partial(_simpler, i)) for i in range(len(SIMPLER))]


def _simpler(index: int, error: CaseError) -> float | None:
    return error.simpler[index]


def _first_step(index: int, error: CaseError) -> float | None:
    return error.first_steps[index] if index < len(error.first_steps) else None


def _summary_cells(found: ErrorSummary) -> tuple[str, ...]:
    within = "/".join(f"{100 * share:.0f}" for share in found.within)
    return str(found.n), _percent(found.median), _percent(found.p95), _signed(found.worst), within


def quantities(errors: list[CaseError]) -> Table:
    """A table of everything else that is predicted: seconds, first steps, switches, memory."""
    table = new_table("|error| of other quantities", "quantity", "n", "median", "p95", "worst", "<=1/3/5 %")
    rows: list[tuple[str, Callable[[CaseError], float | None]]] = [
        ("policy, steady step [s]", seconds_error),
        ("resident run, steady step [s]", lambda e: e.resident_error),
        *((f"step {i} [s]", partial(_first_step, i)) for i in range(4)),
        ("switch step [s]", lambda e: e.switch_error),
        ("peak allocated memory", memory_error),
    ]
    for name, of in rows:
        found = summary_of_cases(errors, of)
        if found is not None:
            table.add_row(name, *_summary_cells(found))
    return table


def case_table(node: str, errors: list[CaseError]) -> Table:
    """A table of every case of a node; its kind is the node's."""
    columns = ("class", "measured", "predicted", "error", "noise")
    table = new_table(f"cases on {node}", "case", *columns, optional=("noise", "class"))
    for error in errors:
        if error.node == node:
            noise = "-" if error.noise is None else _signed(error.noise)
            ratio, predicted = f"{error.measured:.3f}", f"{error.predicted:.3f}"
            table.add_row(without_kind(error.name), error.kind, ratio, predicted, _signed(error.error), noise)
    return table


def _order(order: Winners) -> Table:
    wrong = [("wrong", f"{a} and {b}") for a, b in order.wrong]
    total = order.right + len(order.wrong)
    return pairs(
        [("winners", f"{order.right} of {total} pairs that differ by more than 3 % are in the right order"), *wrong]
    )


def _json(
    errors: list[CaseError], verdicts: list[Verdict], failures: list[Failure], forwards: list[ForwardError]
) -> dict[str, object]:
    thresholds = [
        msgspec.to_builtins(v.threshold) | {"value": v.value, "kept": v.kept, "missed": v.missed, "detail": v.detail}
        for v in verdicts
    ]
    order = winners(errors)
    return {
        "schema_version": 2,
        "classes": _summaries(errors),
        "classes_since_the_rule": _summaries([error for error in errors if error.node not in NODES_BEFORE_RULE]),
        "winners": {"right": order.right, "wrong": [list(pair) for pair in order.wrong]},
        "cases": cases_json(errors),
        "library": [forward_json(error) for error in forwards],
        "thresholds": thresholds,
        "failures": [failure._asdict() for failure in failures],
    }


def _summaries(errors: list[CaseError]) -> dict[str, dict[str, object]]:
    """Class -> its statistics, with the medians of the simpler models and of the noise."""
    found: dict[str, dict[str, object]] = {}
    for name, group in _by_class(errors):
        own = summary_of_cases(group)
        if own is not None:
            simpler = {model: _median(group, partial(_simpler, i)) for i, model in enumerate(SIMPLER)}
            found[name] = own._asdict() | {"simpler_medians": simpler, "noise_median": _median(group, _noise)}
    return found


def _median(group: list[CaseError], of: Callable[[CaseError], float | None]) -> float | None:
    found = summary_of_cases(group, of)
    return None if found is None else found.median
