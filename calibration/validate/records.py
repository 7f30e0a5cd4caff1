"""Committed replays: what was measured on which node, and in which class a case belongs.

A steady step is the median of a run's settled steps: of the policy the steps from the third on that do not switch
experts, of the resident run the steps that begin after its first 0.2 s, in which the clock settles. What is compared is
their ratio, since both drift together with the chip's temperature.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from calibration.replays.cases import ReplayCase, replay_case
from calibration.samples.json_lines import lines_in
from offsim.scenario.faults import Place, ScenarioError
from offsim.scenario.wording import shown

NODES = Path(__file__).parents[1] / "nodes"
RunSteps = list[list[float]]
"""Seconds of every step of every run."""
PROFILE_POINTER = "profile-of.txt"
"""Name of the file that names the node whose profile stands for a folder's."""
SETTLING = 0.2
"""Seconds at the beginning of a resident run that don't count."""
FIRST_STEADY = 2
FIRST_STEPS = 4
CASE_CLASSES = ("copy-bound", "balanced", "compute-bound", "contended", "blocking", "swap")
NODES_BEFORE_RULE = ("h200-x1-a", "h200-x1-b", "h200-x1-c")
"""Nodes whose replays were known when it was decided how a steady step is read and what is scored."""


def nodes_under(root: Path = NODES) -> Iterator[tuple[Path, Path]]:
    """Folders of nodes, each with the profile that its measurements are predicted with.

    That is its own, or the one of the node that `profile-of.txt` names: of a machine of the same part, where this one
    could not be calibrated. Raises ScenarioError where that one has none.
    """
    for folder in sorted(root.glob("*")):
        if (folder / "profile.toml").is_file() or (folder / PROFILE_POINTER).is_file():
            yield folder, profile_of(folder)


def profile_of(folder: Path) -> Path:
    """The profile of a node's folder; raises ScenarioError where there is none."""
    other = folder / PROFILE_POINTER
    named = other.read_text(encoding="utf-8").strip() if other.is_file() else folder.name
    path = folder.parent / named / "profile.toml"
    if not path.is_file():
        said = f"{other}: {named!r}" if other.is_file() else str(folder)
        raise ScenarioError(f"{said}: no profile.toml there")
    return path


class ReplayRecord(NamedTuple):
    """What was measured of one case on one node."""

    node: str
    profile: Path
    case: ReplayCase
    policy_steps: RunSteps
    """Durations of the policy's steps [s], repetition by repetition."""
    resident_steps: RunSteps
    peak_allocated: float | None = None
    memory_not_scored: str = ""
    """Why the peak does not count; empty if it does."""
    host_read: float | None = None
    """What all GPUs together read of host memory, beside this case [bytes/s]; not read before November 25, 2026."""
    beside_steps: RunSteps = []
    """Durations of the steps of a policy that took turns with this one, where there was one [s]."""
    not_scored: str = ""
    """Why the case does not count; empty if it does."""

    @property
    def scored_peak(self) -> float | None:
        """The peak of allocated memory, if it was measured and counts."""
        return None if self.memory_not_scored else self.peak_allocated

    @property
    def has_settled(self) -> bool:
        """Whether every resident run lasted until the clock had settled: others are not scored."""
        return all(settled_steps(run) for run in self.resident_steps)

    @property
    def steady_indices(self) -> list[int]:
        """Indices of the policy's steps that count as steady."""
        experts = self.experts
        return [i for i in range(FIRST_STEADY, len(experts)) if experts[i] == experts[i - 1]]

    @property
    def experts(self) -> list[int]:
        """The expert that runs at each step: with two, the second half is the other one's."""
        steps = self.case.steps
        return [int(self.case.experts == 2 and 2 * i >= steps) for i in range(steps)]

    @property
    def switch_index(self) -> int | None:
        """Index of the step at which the expert changes; None with one expert."""
        experts = self.experts
        return next((i for i in range(1, len(experts)) if experts[i] != experts[i - 1]), None)

    def policy(self, repetition: int | None = None) -> float:
        """Seconds of the policy's steady step, over all repetitions or in one."""
        runs = self.policy_steps if repetition is None else [self.policy_steps[repetition]]
        return median(run[i] for run in runs for i in self.steady_indices)

    def resident(self, repetition: int | None = None) -> float:
        """Seconds of a steady step of the interleaved resident runs, over all repetitions or in one."""
        runs = self.resident_steps if repetition is None else [self.resident_steps[repetition]]
        return steady_resident(runs)

    @property
    def ratio(self) -> float:
        """The policy's steady step over that of the resident runs, which is what is scored."""
        return self.policy() / self.resident()

    @property
    def noise(self) -> float | None:
        """Relative difference of the first repetition's ratio from the second's; None with one repetition."""
        if len(self.policy_steps) < 2:
            return None
        first, second = (self.policy(i) / self.resident(i) for i in (0, 1))
        return first / second - 1


def steady_resident(runs: list[list[float]]) -> float:
    """Seconds of a steady step of resident runs: the median of settled ones; of a run too short for any, all count."""
    return median(step for run in runs for step in settled_steps(run) or run)


def settled_steps(run: list[float]) -> list[float]:
    """Steps of a run that begin after the settling time.

    >>> settled_steps([0.15, 0.15, 0.15, 0.16])
    [0.15, 0.16]
    """
    found, begun = [], 0.0
    for step in run:
        if begun > SETTLING:
            found.append(step)
        begun += step
    return found


class Failure(NamedTuple):
    """A case that could not be measured or does not count, with the reason."""

    node: str
    case: str
    error: str


def read_records(root: Path = NODES) -> tuple[list[ReplayRecord], list[Failure]]:
    """Committed replays under `root` that count, and what of the others does not, with the reason."""
    records, failures = all_records(root)
    short = "not scored: its resident run ended before the clock settled"
    failures += [Failure(r.node, r.case.name, short) for r in records if not r.has_settled]
    failures += [Failure(r.node, r.case.name, f"not scored: {r.not_scored}") for r in records if r.not_scored]
    kept = [record for record in records if record.has_settled and not record.not_scored]
    failures += [
        Failure(r.node, r.case.name, f"memory not scored: {r.memory_not_scored}") for r in kept if r.memory_not_scored
    ]
    return kept, failures


def all_records(root: Path = NODES) -> tuple[list[ReplayRecord], list[Failure]]:
    """All committed replays under `root`, whether they count or not, and the cases that could not be measured."""
    records: list[ReplayRecord] = []
    failures: list[Failure] = []
    for folder, profile in nodes_under(root):
        for line in lines_in(folder, "replays*.jsonl"):
            if "error" in line:
                failures.append(Failure(folder.name, str(line["case"]), str(line["error"])))
            else:
                records.append(_checked(folder, profile, line))
    return records, failures


def _checked(folder: Path, profile: Path, line: dict[str, Any]) -> ReplayRecord:
    try:
        return _record(folder.name, profile, line)
    except (KeyError, TypeError, ValueError) as error:
        said = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise Place(folder).fault(f"replays: case {shown(line.get('case'))}: {said}") from None


def _record(node: str, profile: Path, line: dict[str, Any]) -> ReplayRecord:
    case = replay_case(line["scenario"])
    return ReplayRecord(
        node,
        profile,
        case,
        _decoded(line["policy_steps"], RunSteps),
        _decoded(line["resident_steps"], RunSteps),
        _decoded(line.get("peak_allocated"), float | None),
        _decoded(line.get("memory_not_scored", ""), str),
        median(reads) if (reads := _decoded(line.get("host_read_Bps") or [], list[float])) else None,
        _decoded(line.get("beside_steps", []), RunSteps),
        _decoded(line.get("not_scored", ""), str),
    )


def _decoded(value: Any, kind: Any) -> Any:
    """A value of a replay's line; ValidationError (a ValueError) if it is of another type."""
    return msgspec.convert(value, kind)


def class_of(case: ReplayCase, copy_share: float) -> str:
    """The class of a case; `copy_share` is the predicted copy time of a steady step over its resident time."""
    policy = case.policy
    if policy.tag == "full-model":
        return "swap"
    if not getattr(policy, "pinned", True) or getattr(policy, "hook_synchronize", False):
        return "blocking"
    if case.kind == "x2-host-memory" and policy.tag != "resident":
        return "contended"
    if copy_share > 1.05:
        return "copy-bound"
    return "compute-bound" if copy_share < 0.95 else "balanced"
