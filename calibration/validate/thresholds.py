"""What predictions are held to: bounds on one statistic of one group of cases, and what came out.

A bound with a `target` has not reached it: its limit is the level that was measured, so that no change makes it worse,
and every run says what is missing.
A bound whose group has no measurements is neither kept nor broken, and says so; one of an unknown group is an error.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from offsim.scenario.scenario import ScenarioError

from .diffusers_prediction import LibraryError
from .errors import CaseError, Summary, beside, memory_error, seconds_error, summary, summary_of, winners
from .records import CLASSES

THRESHOLDS = Path(__file__).with_name("thresholds.toml")
LIBRARY = ("library streamed", "library pageable", "library memory")
"""Forwards of the real diffusers library."""
ONE_GPU, TWO_GPUS, BESIDE = "one GPU", "two GPUs", "contended, host memory read beside"
BUT_PAGEABLE, IN_SECONDS = f"{ONE_GPU} but pageable", ", in seconds"
"""Steps relative to the resident run's unless they are `in seconds`."""
REPLAYS = (*CLASSES, "all", ONE_GPU, TWO_GPUS, BUT_PAGEABLE, BESIDE)
GROUPS = (*REPLAYS, *(name + IN_SECONDS for name in REPLAYS), "memory", "winners", *LIBRARY)


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bound on one statistic of one group."""

    group: str
    statistic: Literal["median", "p95", "worst", "wrong"]
    limit: float
    target: float | None = None
    """What is aimed for, where the limit lies above it."""


class Verdict(NamedTuple):
    """A threshold and what came out."""

    threshold: Threshold
    value: float | None
    """None where nothing was measured."""
    detail: str

    @property
    def kept(self) -> bool | None:
        return None if self.value is None else self.value <= self.threshold.limit

    @property
    def missed(self) -> bool:
        """Whether it keeps its limit and not its target."""
        target = self.threshold.target
        return bool(self.kept) and target is not None and self.value is not None and self.value > target

    @property
    def words(self) -> str:
        """What came out beside what is allowed."""
        bound = self.threshold
        if self.value is None:
            return f"{bound.group}: {bound.statistic} ({self.detail})"
        allowed = bound.target if self.missed and bound.target is not None else bound.limit
        word = "aimed for" if self.missed else "allowed"
        if bound.group == "winners":
            return f"{self.value:.0f} pairs in the wrong order, at most {allowed:.0f} {word}: {self.detail}"
        value, limit = f"{100 * self.value:.2f} %", f"{100 * allowed:.2f} %"
        return f"{bound.group}: {bound.statistic} |error| {value}, at most {limit} {word} ({self.detail})"


def judge(errors: list[CaseError], path: Path = THRESHOLDS, library: Sequence[LibraryError] = ()) -> list[Verdict]:
    """A verdict on every threshold of the file."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        bounds = msgspec.convert(raw["threshold"], list[Threshold])
    except (KeyError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{path}: no list of thresholds ({error})") from None
    unknown = [bound.group for bound in bounds if bound.group not in GROUPS]
    if unknown:
        raise ScenarioError(f"{path}: group {unknown[0]!r}: one of {', '.join(GROUPS)}")
    return [_judge(bound, errors, library) for bound in bounds]


def _judge(bound: Threshold, errors: list[CaseError], library: Sequence[LibraryError]) -> Verdict:
    if bound.group == "winners":
        order = winners(errors)
        count = len(order.wrong) if order.right or order.wrong else None
        return Verdict(bound, count, "; ".join(f"{a} and {b}" for a, b in order.wrong) or "no pair of policies")
    found = _library(bound.group, library) if bound.group in LIBRARY else _replays(bound.group, errors)
    if found is None:
        return Verdict(bound, None, "nothing measured")
    values = {"median": found.median, "p95": found.p95, "worst": abs(found.worst)}
    return Verdict(bound, values[bound.statistic], f"worst {found.worst_name} {100 * found.worst:+.1f} %")


def _replays(name: str, errors: list[CaseError]) -> Summary | None:
    group = group_of(name.removesuffix(IN_SECONDS), errors)
    if name == "memory":
        return summary(group, memory_error)
    return summary(group, seconds_error) if name.endswith(IN_SECONDS) else summary(group)


def _library(name: str, errors: Sequence[LibraryError]) -> Summary | None:
    """What errors of the library's forwards come to, of one kind or of their memory."""
    kind = name.removeprefix("library ")
    if kind == "memory":
        return summary_of([(e.memory_error, e.record.name) for e in errors if e.memory_error is not None])
    return summary_of([(e.error, e.record.name) for e in errors if e.record.kind == kind])


def group_of(name: str, errors: list[CaseError]) -> list[CaseError]:
    """The cases of a threshold's group."""
    if name == BESIDE:
        return [error for error in beside(errors) if error.kind == "contended"]
    if name == TWO_GPUS:
        return [error for error in errors if not error.on_one_gpu]
    if name.startswith(ONE_GPU):
        one = [error for error in errors if error.on_one_gpu]
        return [error for error in one if name == ONE_GPU or "pageable" not in error.name]
    return [error for error in errors if name in ("all", "memory", error.kind)]
