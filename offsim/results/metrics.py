"""What offsim says of a scenario, each quantity once: its name, unit, meaning, and how it is read off a result.

`run --json` and `best --json`, the columns of sweeps and exports, the tables on a terminal and the Python API take
their names from here. A name ends in its unit. Its beginning says what was made of the quantity of a step or a phase:
`total_` is the sum over all steps, `steady_` and `switch_` are one step's, `peak_` is the highest over all phases.
`node_` counts all ranks; without it a quantity is one rank's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from offsim.program.pages import page_of
from offsim.program.uses import Use
from offsim.scenario.scenario import Scenario

from .attribution import Losses
from .memory import PhasePeak
from .steps import Charge, UseRow

if TYPE_CHECKING:
    from .predict import Prediction

UNIT_FACTORS = {"s": 1.0, "GB": 1e9, "GiB": 2.0**30}
"""Unit at the end of a name -> how many seconds or bytes it is."""
EACH, TOGETHER = ", by each rank", ", by all ranks together"
Value = str | int | float | bool | None
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Metric(Generic[Subject]):
    """One quantity of a subject: a scenario, a prediction, a step, a phase or a stall."""

    name: str
    """The metric's key in JSON and its column in tables."""
    meaning: str
    read: Callable[[Subject], Value]
    """The quantity in seconds or bytes; None where there is none."""
    kind: type = float
    """Python's type of the values: str, int, float or bool."""
    title: str = ""
    """A few words for the head of a column on a terminal."""
    optional: bool = False
    """Whether a subject may have none."""

    @property
    def unit(self) -> str:
        """The unit at the end of the metric's name; empty if it has none."""
        last = self.name.rpartition("_")[2]
        return last if last in UNIT_FACTORS else ""

    def of(self, subject: Subject) -> Value:
        """The quantity of a subject, in its unit."""
        value = self.read(subject)
        return value if value is None or not self.unit else float(value) / UNIT_FACTORS[self.unit]

    def amount(self, subject: Subject) -> float:
        """The quantity of a subject in seconds or bytes; 0 where there is none."""
        return float(self.read(subject) or 0.0)


def values(metrics: tuple[Metric[Subject], ...], subject: Subject) -> dict[str, Value]:
    """All these quantities of one subject by name."""
    return {metric.name: metric.of(subject) for metric in metrics}


class TimedStep(NamedTuple):
    """A denoising step, and the interval that its duration lies in."""

    row: UseRow
    low: float
    high: float


ALL_STEPS = Use("denoise")
"""Stands for the whole denoising loop."""


def timed_steps(prediction: "Prediction") -> list[TimedStep]:
    """The steps of a prediction with their intervals."""
    return [TimedStep(row, *ends) for row, ends in zip(prediction.steps, prediction.intervals, strict=True)]


def all_steps(prediction: "Prediction") -> TimedStep:
    """All steps of a prediction as if they were one; how their losses add up is left out."""
    steps = prediction.steps
    moved = [sum(parts) for parts in zip(*((s.h2d_bytes, s.d2h_bytes, s.collective_bytes) for s in steps), strict=True)]
    return TimedStep(UseRow(ALL_STEPS, prediction.total, Losses(), *moved), *prediction.total_interval)


class Whole(NamedTuple):
    """A prediction with what many of its metrics are made of, worked out once."""

    prediction: "Prediction"
    steady: TimedStep
    """The median step that is neither the first nor a switch."""
    total: TimedStep
    """All steps as if they were one."""


def whole(prediction: "Prediction") -> Whole:
    """The subject of `PREDICTION_METRICS`."""
    usual = prediction.steady_index
    steady = TimedStep(prediction.steps[usual], *prediction.intervals[usual])
    return Whole(prediction, steady, all_steps(prediction))


def _prefetch_blocks(scenario: Scenario) -> int | None:
    return page_of(scenario.policy).blocks_ahead(scenario, scenario.policy)


SCENARIO_METRICS: tuple[Metric[Scenario], ...] = (
    Metric("model", "Name of the model", lambda s: s.model.name, str),
    Metric("node", "Name of the node", lambda s: s.node.name, str),
    Metric("policy", "Name of the offload policy", lambda s: s.policy.tag, str),
    Metric("gpus", "GPUs in use, one rank each", lambda s: s.workload.gpus, int),
    Metric("tokens", "Image tokens of one sample, padding included", lambda s: s.tokens, int, optional=True),
    Metric("steps", "Denoising steps", lambda s: s.steps, int),
    Metric("weight_dtype", "What the transformer's weights are stored as", lambda s: s.workload.weight_dtype, str),
    Metric(
        "prefetch_blocks",
        "Blocks that a layerwise policy fetches ahead; none for others",
        _prefetch_blocks,
        int,
        optional=True,
    ),
)
"""What a scenario asks."""

LOSSES: tuple[Metric[TimedStep], ...] = (
    Metric("compute_s", "Time in which kernels compute", lambda s: s.row.losses.compute, title="compute"),
    Metric(
        "exposed_copy_s",
        "Time in which the compute stream waits for copies",
        lambda s: s.row.losses.exposed_copy,
        title="exposed copies",
    ),
    Metric(
        "exposed_collective_s",
        "Time in which the compute stream runs or awaits collectives",
        lambda s: s.row.losses.exposed_collective,
        title="exposed collectives",
    ),
    Metric(
        "contention_s",
        "Time lost because others use the same links and multiprocessors",
        lambda s: s.row.losses.contention,
        title="contention",
    ),
    Metric(
        "host_bound_s",
        "Time in which the host has issued nothing to do",
        lambda s: s.row.losses.host_bound,
        title="host-bound",
    ),
)
"""The disjoint parts of a step's duration: they add up to it."""

MOVED: tuple[Metric[TimedStep], ...] = (
    Metric("h2d_GB", f"Copied from host to device{EACH}", lambda s: s.row.h2d_bytes, title="H2D"),
    Metric("d2h_GB", f"Copied from device to host{EACH}", lambda s: s.row.d2h_bytes, title="D2H"),
    Metric("collective_GB", f"Sent in collectives{EACH}", lambda s: s.row.collective_bytes, title="collective"),
)
"""What a rank moves in a step."""

DURATION: tuple[Metric[TimedStep], ...] = (
    Metric("step_s", "Duration of the step on its slowest rank", lambda s: s.row.duration, title="duration"),
    Metric("step_low_s", "Shortest duration over what is not known of the node", lambda s: s.low),
    Metric("step_high_s", "Longest duration over what is not known of the node", lambda s: s.high),
)

STEP_METRICS: tuple[Metric[TimedStep], ...] = (
    Metric("index", "Number of the step, from 0", lambda s: s.row.index, int, title="step"),
    Metric("phase", "denoise, or switch where the expert changes", lambda s: s.row.use.kind, str, title="phase"),
    *DURATION,
    *LOSSES,
    *MOVED,
)
"""What is said of each step."""

PHASE_METRICS: tuple[Metric[PhasePeak], ...] = (
    Metric("phase", "load, encode, denoise, switch or decode", lambda p: p.phase, str, title="\nphase"),
    Metric(
        "allocated_GiB",
        "Most device memory allocated at once",
        lambda p: p.allocated,
        title="device\nallocated",
    ),
    Metric(
        "reserved_GiB",
        "Device memory that torch's allocator has reserved so far",
        lambda p: p.reserved,
        title="device\nreserved",
    ),
    Metric("reserved_at_most", "Whether reserved_GiB is an upper bound", lambda p: p.reserved_at_most, bool),
    Metric("pinned_host_GiB", "Most pinned host memory of one rank", lambda p: p.pinned, title="pinned"),
    Metric("pageable_host_GiB", "Most pageable host memory of one rank", lambda p: p.pageable, title="pageable"),
)
"""What is said of the memory of each phase."""

STALL_METRICS: tuple[Metric[Charge], ...] = (
    Metric("step", "Number of the step", lambda c: c.step, int),
    Metric("waiting", "What waited", lambda c: c.waiting, str),
    Metric("culprit", "What it was held up by", lambda c: c.culprit, str),
    Metric("lost_s", "Time lost", lambda c: c.seconds),
)
"""What is said of each entry of the stall ledger."""


def _steady(metric: Metric[TimedStep]) -> Metric[Whole]:
    return Metric(f"steady_{metric.name}", f"Steady step: {_lower(metric)}", lambda w: metric.read(w.steady))


def _total(metric: Metric[TimedStep]) -> Metric[Whole]:
    return Metric(f"total_{metric.name}", f"All steps: {_lower(metric)}", lambda w: metric.read(w.total))


def _node_total(metric: Metric[TimedStep]) -> Metric[Whole]:
    meaning = f"All steps: {_lower(metric).removesuffix(EACH)}{TOGETHER}"
    return Metric(f"total_node_{metric.name}", meaning, lambda w: _ranks(w) * metric.amount(w.total))


def _lower(metric: Metric[TimedStep]) -> str:
    return metric.meaning[:1].lower() + metric.meaning[1:]


def _ranks(subject: Whole) -> int:
    return subject.prediction.scenario.workload.gpus


def _most_host(subject: Whole) -> float:
    """Pinned and pageable host memory of all ranks at the highest [bytes]."""
    return max(peak.pinned + peak.pageable for peak in subject.prediction.phases) * _ranks(subject)


def _lack(name: str, meaning: str, of: str, kind: type = float) -> Metric[Whole]:
    """A quantity of what doesn't fit; None if everything does."""
    return Metric(name, f"{meaning}; none if it fits", lambda w: getattr(w.prediction.out_of_memory, of, None), kind)


PREDICTION_METRICS: tuple[Metric[Whole], ...] = (
    Metric("total_s", "Denoising: the sum of all steps", lambda w: w.total.row.duration),
    Metric("total_low_s", "Shortest total over what is not known of the node", lambda w: w.total.low),
    Metric("total_high_s", "Longest total over what is not known of the node", lambda w: w.total.high),
    Metric(
        "lower_bound_s", "Total that no schedule of these kernels and copies beats", lambda w: w.prediction.lower_bound
    ),
    *map(_steady, (*DURATION, *LOSSES, *MOVED)),
    Metric(
        "switch_step_s",
        "Duration of the step at which the expert changes; none if none does",
        lambda w: w.prediction.switch.duration if w.prediction.switch else None,
    ),
    *map(_total, MOVED),
    *map(_node_total, MOVED),
    Metric(
        "peak_allocated_GiB", "Most device memory allocated at once, per GPU", lambda w: w.prediction.peak_allocated
    ),
    Metric(
        "peak_reserved_GiB",
        "Most device memory that torch's allocator reserves, per GPU",
        lambda w: w.prediction.peak_reserved,
    ),
    Metric("peak_pinned_host_GiB", "Most pinned host memory of one rank", lambda w: w.prediction.pinned_per_rank),
    Metric(
        "peak_node_pinned_host_GiB",
        "Most pinned host memory of all ranks",
        lambda w: w.prediction.pinned_per_rank * _ranks(w),
    ),
    Metric("peak_node_host_GiB", "Most host memory of all ranks, pinned and pageable", _most_host),
    Metric("fits", "Whether device and host memory suffice", lambda w: w.prediction.out_of_memory is None, bool),
    _lack("oom_where", "Memory that is short: device or host", "where", str),
    _lack("oom_phase", "Phase in which most is short", "phase", str),
    _lack("oom_rank", "Rank on which it is short", "rank", int),
    _lack("oom_needed_GiB", "What that memory would have to have", "needed"),
    _lack("oom_available_GiB", "What that memory has", "available"),
    _lack("oom_shortfall_GiB", "What that memory lacks", "shortfall"),
    Metric(
        "calibrated", "Whether every value in use was measured on this node", lambda w: w.prediction.calibrated, bool
    ),
)
"""What is said of a prediction as a whole."""


def metrics_of(prediction: "Prediction") -> dict[str, Value]:
    """Every metric of a prediction as a whole, by name, in its unit."""
    return values(PREDICTION_METRICS, whole(prediction))
