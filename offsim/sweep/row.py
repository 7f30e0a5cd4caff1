# ruff: noqa: N815 - columns carry their units, GiB and GB
"""One combination's result: the columns of the result table, with units in their names."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

from offsim.program.pages import page_of
from offsim.results.memory import OutOfMemory
from offsim.results.predict import Prediction, predict
from offsim.scenario.wording import one_line

from .grid import Combination, Labels

Status = Literal["ok", "out_of_memory", "invalid", "error"]
GIB = 2.0**30


class Row(NamedTuple):
    """What the result table says of a combination; None where there is nothing to say."""

    labels: Labels
    """One per axis: a column each."""
    model: str
    node: str
    policy: str
    gpus: int
    tokens: int | None
    steps: int
    prefetch_blocks: int | None
    status: Status
    reason: str = ""
    steady_step_s: float | None = None
    steady_low_s: float | None = None
    steady_high_s: float | None = None
    switch_step_s: float | None = None
    total_s: float | None = None
    total_low_s: float | None = None
    total_high_s: float | None = None
    lower_bound_s: float | None = None
    compute_s: float | None = None
    exposed_copy_s: float | None = None
    exposed_collective_s: float | None = None
    contention_s: float | None = None
    host_bound_s: float | None = None
    peak_allocated_GiB: float | None = None
    peak_reserved_GiB: float | None = None
    pinned_host_GiB_per_rank: float | None = None
    host_GiB_total: float | None = None
    h2d_GB_per_step: float | None = None
    collective_GB_per_step: float | None = None
    oom_where: str = ""
    oom_phase: str = ""
    shortfall_GiB: float | None = None
    calibrated: bool | None = None
    offsim_version: str = ""
    scenario_hash: str = ""
    node_fingerprint: str = ""

    @property
    def ran(self) -> bool:
        """Whether there is a prediction: it was not refused and did not fail."""
        return self.status in ("ok", "out_of_memory")


class Result(NamedTuple):
    """A row and the values that it rests on without their having been measured there."""

    row: Row
    unmeasured: tuple[tuple[str, str], ...] = ()
    """(node.key, provenance) pairs."""


COLUMNS = Row._fields[1:]
"""Columns after those of the axes, in the order in which they are written."""


def result_of(combination: Combination) -> Result:
    """Simulate one combination."""
    if combination.refused:
        return Result(_head(combination)._replace(status="invalid", reason=combination.refused))
    prediction = predict(combination.scenario)
    found: dict[str, Any] = {**_times(prediction), **_memory(prediction), "calibrated": prediction.calibrated}
    row = _head(combination)._replace(**found)
    unmeasured = ((f"{row.node}.{key}", value.provenance) for key, value in prediction.uncalibrated)
    return Result(row, tuple(unmeasured))


def failed(combination: Combination, error: Exception) -> Result:
    """A combination that could not be simulated, with its error."""
    reason = f"{' / '.join(combination.labels)}: {type(error).__name__}: {error}"
    return Result(_head(combination)._replace(status="error", reason=one_line(" ".join(reason.split()))))


def _head(combination: Combination) -> Row:
    scenario = combination.scenario
    return Row(
        labels=combination.labels,
        model=scenario.model.name,
        node=scenario.node.name,
        policy=scenario.policy.tag,
        gpus=scenario.workload.gpus,
        status="ok",
        offsim_version=offsim_version(),
        scenario_hash=combination.hash,
        node_fingerprint=combination.node_fingerprint,
        steps=scenario.steps,
        tokens=None if combination.refused else scenario.tokens,
        prefetch_blocks=page_of(scenario.policy).blocks_ahead(scenario, scenario.policy),
    )


@cache
def offsim_version() -> str:
    """The version of this program that is installed."""
    try:
        return version("offsim")
    except PackageNotFoundError:
        return "unknown"


def _times(prediction: Prediction) -> dict[str, float | None]:
    """Seconds, and bytes moved, of a prediction; the losses are the steady step's."""
    steady, switch = prediction.steps[prediction.steady_index], prediction.switch
    low, high = prediction.intervals[prediction.steady_index]
    times = {
        "steady_step_s": steady.duration,
        "steady_low_s": low,
        "steady_high_s": high,
        "switch_step_s": switch.duration if switch else None,
        "total_s": prediction.total,
        "total_low_s": prediction.total_interval[0],
        "total_high_s": prediction.total_interval[1],
        "lower_bound_s": prediction.lower_bound,
        "h2d_GB_per_step": steady.h2d_bytes / 1e9,
        "collective_GB_per_step": steady.collective_bytes / 1e9,
        **{f"{category}_s": seconds for category, seconds in steady.losses._asdict().items()},
    }
    return {name: None if value is None else round(value, 6) for name, value in times.items()}


def _memory(prediction: Prediction) -> dict[str, float | str]:
    """Peaks over all phases, and what doesn't fit."""
    phases, ranks = prediction.phases, prediction.scenario.workload.gpus
    sizes = {
        "peak_allocated_GiB": prediction.peak_allocated,
        "peak_reserved_GiB": prediction.peak_reserved,
        "pinned_host_GiB_per_rank": prediction.pinned_per_rank,
        "host_GiB_total": max(phase.pinned + phase.pageable for phase in phases) * ranks,
    }
    lack = _lack(prediction.out_of_memory) if prediction.out_of_memory else {}
    return {name: round(size / GIB, 6) for name, size in sizes.items()} | lack


def _lack(lack: OutOfMemory) -> dict[str, float | str]:
    short = round(lack.shortfall / GIB, 6)
    what = f"out of {lack.where} memory in phase {lack.phase}"
    return {
        "status": "out_of_memory",
        "reason": f"{what}: short of {short:.2f} GiB; times are as if it fitted",
        "oom_where": lack.where,
        "oom_phase": lack.phase,
        "shortfall_GiB": short,
    }
