"""Signed errors of predictions, case by case: predicted / measured - 1."""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, NamedTuple

from msgspec import structs

from offsim.results.predict import predict
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import Scenario
from offsim.sweep.workers import Workers

from .records import FIRST_STEPS, ReplayRecord, class_of, steady_resident
from .simpler import SIMPLER, steady_step_seconds, sums_of, with_equal_shares, without_contention


class CaseError(NamedTuple):
    """One replayed case: what was measured, what is predicted, and the errors."""

    node: str
    name: str
    kind: str
    """The case's class: copy-bound, balanced, compute-bound, contended, blocking, swap."""
    shape: str
    """Cases of one shape compete: model, blocks, tokens, GPUs, node."""
    measured: float
    """Measured steady step of the policy over that of the resident run."""
    predicted: float
    policy_error: float
    """Error of the policy's steady step in seconds."""
    resident_error: float
    first_steps: tuple[float, ...]
    """Errors of the first steps in seconds, each against the mean of its repetitions."""
    switch_error: float | None
    memory_error: float | None
    noise: float | None
    simpler: tuple[float, ...]
    """Errors of the simpler models' ratios, in the order of SIMPLER."""
    gpus: int
    pageable: bool
    """Whether the policy copies from or to memory that is not pinned."""
    predicted_beside: float | None = None
    """The ratio if host memory is as fast as it was read beside the case; None where that was not read."""

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def case_error(record: ReplayRecord) -> CaseError:
    """Predict one record with its node's profile."""
    case, profile = record.case, str(record.profile)
    scenario, reference = case.scenario(profile), case.resident(profile)
    prediction = predict(scenario)
    resident = resident_step(reference, record)
    indices = record.steady_indices
    steps = [step.duration for step in prediction.steps]
    own = median(steps[i] for i in indices)
    sums, reference_sums = sums_of(scenario, indices[-1]), sums_of(reference, case.steps - 1)
    switch = record.switch_index
    ratios = (
        sums.larger / reference_sums.larger,
        steady_step_seconds(without_contention(scenario), indices)
        / resident_step(without_contention(reference), record),
        steady_step_seconds(with_equal_shares(scenario), indices) / resident,
        sums.first_order(scenario) / reference_sums.first_order(reference),
    )
    peak = record.scored_peak
    return CaseError(
        record.node,
        case.name,
        class_of(case, sums.copy / resident),
        f"{record.node} {case.shape} {case.blocks} {case.tokens} {case.step_end} {case.all_to_all_calls}",
        record.ratio,
        own / resident,
        own / record.policy() - 1,
        resident / record.resident() - 1,
        tuple(_against(record, steps, i) for i in range(min(FIRST_STEPS, case.steps))),
        None if switch is None else _against(record, steps, switch),
        None if not peak else prediction.peak_allocated / peak - 1,
        record.noise,
        tuple(ratio / record.ratio - 1 for ratio in ratios),
        case.gpus,
        case.pageable,
        _beside(record, scenario, reference, indices),
    )


def _beside(record: ReplayRecord, scenario: Scenario, reference: Scenario, indices: list[int]) -> float | None:
    """Predicted ratio on the node with its host memory as it was then."""
    if record.host_read is None:
        return None
    own = steady_step_seconds(with_host_read(scenario, record.host_read), indices)
    return own / resident_step(with_host_read(reference, record.host_read), record)


def resident_step(reference: Scenario, record: ReplayRecord) -> float:
    """Predicted seconds of a resident step, read as it is measured: of as many steps those after the first 0.2 s."""
    steps = max(len(run) for run in record.resident_steps)
    workload = structs.replace(reference.workload, steps=steps)
    found = predict(structs.replace(reference, workload=workload)).steps
    return steady_resident([[step.duration for step in found]])


def with_host_read(scenario: Scenario, read: float) -> Scenario:
    """The scenario on a node of one socket whose GPUs together read `read` bytes/s; its total in proportion."""
    sockets = scenario.node.host.sockets
    if len(scenario.node.wiring.sockets) > 1:
        return scenario
    factor, source = read / sockets[0].read.value, "read beside the replay"
    changed = {
        name: Quantity(getattr(sockets[0], name).value * factor, "measured", source) for name in ("read", "total")
    }
    host = structs.replace(scenario.node.host, sockets=(structs.replace(sockets[0], **changed),))
    return structs.replace(scenario, node=structs.replace(scenario.node, host=host))


def _against(record: ReplayRecord, steps: list[float], index: int) -> float:
    measured = [run[index] for run in record.policy_steps]
    return steps[index] * len(measured) / sum(measured) - 1


def all_errors(records: list[ReplayRecord]) -> list[CaseError]:
    """The errors of every record, predicted on all cores."""
    if len(records) < 3:
        return [case_error(record) for record in records]
    with Workers() as pool:
        return list(pool.map(case_error, records))


def cases_read_beside(errors: list[CaseError]) -> list[CaseError]:
    """Cases beside which host memory was read, as predicted with that rate."""
    return [e._replace(predicted=e.predicted_beside) for e in errors if e.predicted_beside is not None]


def ratio_error(error: CaseError) -> float:
    """Error of the policy's steady step relative to its resident run."""
    return error.error


def memory_error(error: CaseError) -> float | None:
    """Error of the peak of allocated memory; None where memory is not scored."""
    return error.memory_error


def seconds_error(error: CaseError) -> float:
    """Error of the policy's steady step in seconds."""
    return error.policy_error


class ErrorSummary(NamedTuple):
    """Statistics of the absolute errors of a group of cases."""

    n: int
    median: float
    p95: float
    worst: float
    """The error that is furthest from 0, with its sign."""
    worst_name: str
    within: tuple[float, float, float]
    """Shares of cases within 1, 3 and 5 %."""


def summary_of_cases(
    errors: Iterable[CaseError], of: Callable[[CaseError], float | None] = ratio_error
) -> ErrorSummary | None:
    """Statistics of a group's errors; None if the group is empty."""
    return summary_of([(value, error.name) for error in errors if (value := of(error)) is not None])


def summary_of(found: list[tuple[float, str]]) -> ErrorSummary | None:
    """Statistics of signed errors, given with the names of their cases; None if there are none."""
    if not found:
        return None
    sizes = sorted(abs(value) for value, _ in found)
    worst, name = max(found, key=lambda pair: abs(pair[0]))
    n = len(sizes)
    # The smallest size that at least 95 % of all do not exceed.
    p95 = sizes[min(n - 1, -(-95 * n // 100) - 1)]
    within = [sum(size <= bound for size in sizes) / n for bound in (0.01, 0.03, 0.05)]
    return ErrorSummary(n, median(sizes), p95, worst, name, (within[0], within[1], within[2]))


class Winners(NamedTuple):
    """Pairs of policies on the same shape: how many are ordered right, and which are not."""

    right: int
    wrong: tuple[tuple[str, str], ...]


def winners(errors: list[CaseError], apart: float = 0.03) -> Winners:
    """The pairs whose measured ratios differ by more than `apart`, by whether the prediction orders them right."""
    right, wrong = 0, []
    for i, a in enumerate(errors):
        for b in errors[i + 1 :]:
            if a.shape != b.shape or abs(a.measured / b.measured - 1) <= apart:
                continue
            if (a.measured < b.measured) == (a.predicted < b.predicted):
                right += 1
            else:
                wrong.append((a.name, b.name))
    return Winners(right, tuple(wrong))


def cases_json(errors: list[CaseError]) -> list[dict[str, Any]]:
    """One object of plain data per case, with the simpler models by name."""
    return [
        error._asdict() | {"error": error.error, "simpler": dict(zip(SIMPLER, error.simpler, strict=True))}
        for error in errors
    ]
