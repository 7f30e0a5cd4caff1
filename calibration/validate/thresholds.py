"""What predictions are held to: bounds on one statistic of one group of cases, and what came out.

A bound with a `target` has not reached it: its limit is the level that was measured, so that no change makes it worse,
and every run says what is missing.
A bound whose group has no measurements is neither kept nor broken, and says so; one of an unknown group is an error.
"""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from offsim.scenario.faults import ScenarioError

from .diffusers_prediction import ForwardError
from .errors import (
    CaseError,
    ErrorSummary,
    cases_read_beside,
    memory_error,
    ratio_error,
    seconds_error,
    summary_of,
    summary_of_cases,
    winners,
)
from .records import CASE_CLASSES

THRESHOLDS = Path(__file__).with_name("thresholds.toml")
Select = Callable[[list[CaseError]], list[CaseError]]


def _those(wanted: Callable[[CaseError], bool]) -> Select:
    """Selects the cases for which this holds."""
    return lambda errors: [error for error in errors if wanted(error)]


def _contended_beside(errors: list[CaseError]) -> list[CaseError]:
    """Contended cases as predicted with the rate of host memory that was read beside them."""
    return [error for error in cases_read_beside(errors) if error.kind == "contended"]


ONE_GPU, TWO_GPUS, EXCLUDING_PAGEABLE = "one GPU", "two GPUs", "one GPU but pageable"
CASES: dict[str, Select] = {
    **{name: _those(lambda error, kind=name: error.kind == kind) for name in CASE_CLASSES},  # type: ignore[misc]
    "all": _those(lambda _: True),
    ONE_GPU: _those(lambda error: error.gpus == 1),
    TWO_GPUS: _those(lambda error: error.gpus == 2),
    EXCLUDING_PAGEABLE: _those(lambda error: error.gpus == 1 and not error.pageable),
    "contended, host memory read beside": _contended_beside,
}
"""Name of a group -> the function that selects its cases."""


class ReplayGroup(NamedTuple):
    """Which cases of replays a threshold judges, and which of their errors."""

    cases: Select
    error: Callable[[CaseError], float | None]


REPLAY_GROUPS = {
    **{name: ReplayGroup(cases, ratio_error) for name, cases in CASES.items()},
    **{f"{name}, in seconds": ReplayGroup(cases, seconds_error) for name, cases in CASES.items()},
    "memory": ReplayGroup(CASES["all"], memory_error),
}
"""Group of a threshold -> what it judges: the step relative to the resident run's, the step in seconds, or memory."""
FORWARD_GROUPS: dict[str, Callable[[ForwardError], float | None]] = {
    "library streamed": lambda error: error.error if error.record.kind == "streamed" else None,
    "library pageable": lambda error: error.error if error.record.kind == "pageable" else None,
    "library memory": lambda error: error.memory_error,
}
"""Group of a threshold -> the error of a forward of the real diffusers library; None: the forward is not in it."""
WINNER_GROUP = "winners"
GROUPS = (*REPLAY_GROUPS, WINNER_GROUP, *FORWARD_GROUPS)


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bound on one statistic of one group of errors."""

    group: str
    statistic: Literal["median", "p95", "worst", "wrong"]
    limit: float
    target: float | None = None
    """What is aimed for, where the limit lies above it; else None."""


class Verdict(NamedTuple):
    """A threshold and the value that came out."""

    threshold: Threshold
    value: float | None
    """The statistic that came out; None where nothing was measured."""
    detail: str

    @property
    def kept(self) -> bool | None:
        return None if self.value is None else self.value <= self.threshold.limit

    @property
    def missed(self) -> bool:
        """Whether the value keeps its limit and not its target."""
        target = self.threshold.target
        return bool(self.kept) and target is not None and self.value is not None and self.value > target

    @property
    def words(self) -> str:
        """The value that came out beside what is allowed, in a sentence."""
        bound = self.threshold
        if self.value is None:
            return f"{bound.group}: {bound.statistic} ({self.detail})"
        allowed = bound.target if self.missed and bound.target is not None else bound.limit
        word = "aimed for" if self.missed else "allowed"
        if bound.group == WINNER_GROUP:
            return f"{self.value:.0f} pairs in the wrong order, at most {allowed:.0f} {word}: {self.detail}"
        value, limit = f"{100 * self.value:.2f} %", f"{100 * allowed:.2f} %"
        return f"{bound.group}: {bound.statistic} |error| {value}, at most {limit} {word} ({self.detail})"


def judge(errors: list[CaseError], path: Path = THRESHOLDS, forwards: Sequence[ForwardError] = ()) -> list[Verdict]:
    """The verdicts on every threshold of the file; raises ScenarioError for a file or a group that is none."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        bounds = msgspec.convert(raw["threshold"], list[Threshold])
    except (KeyError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{path}: no list of thresholds ({error})") from None
    unknown = [bound.group for bound in bounds if bound.group not in GROUPS]
    if unknown:
        raise ScenarioError(f"{path}: group {unknown[0]!r}: one of {', '.join(GROUPS)}")
    return [_judge(bound, errors, forwards) for bound in bounds]


def _judge(bound: Threshold, errors: list[CaseError], forwards: Sequence[ForwardError]) -> Verdict:
    if bound.group == WINNER_GROUP:
        order = winners(errors)
        count = len(order.wrong) if order.right or order.wrong else None
        return Verdict(bound, count, "; ".join(f"{a} and {b}" for a, b in order.wrong) or "no pair of policies")
    found = _forwards(bound.group, forwards) if bound.group in FORWARD_GROUPS else _replays(bound.group, errors)
    if found is None:
        return Verdict(bound, None, "nothing measured")
    values = {"median": found.median, "p95": found.p95, "worst": abs(found.worst)}
    return Verdict(bound, values[bound.statistic], f"worst {found.worst_name} {100 * found.worst:+.1f} %")


def _replays(name: str, errors: list[CaseError]) -> ErrorSummary | None:
    group = REPLAY_GROUPS[name]
    return summary_of_cases(group.cases(errors), group.error)


def _forwards(name: str, errors: Sequence[ForwardError]) -> ErrorSummary | None:
    """What errors of the library's forwards come to, of one kind or of their memory."""
    found = [(FORWARD_GROUPS[name](error), error.record.name) for error in errors]
    return summary_of([(value, case) for value, case in found if value is not None])
