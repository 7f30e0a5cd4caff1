"""One combination's result as a row of the sweep's table: a cell for each column."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from offsim.results.memory import OutOfMemory
from offsim.results.metrics import PREDICTION_METRICS, SCENARIO_METRICS, UNIT_FACTORS, Metric, Value, metrics_of, values
from offsim.results.predict import Prediction, predict
from offsim.scenario.wording import one_line
from offsim.version import offsim_version

from .grid import Combination, Labels

Status = Literal["ok", "out_of_memory", "invalid", "error"]
DIGITS = 6
"""Decimals that are kept of seconds, GB and GiB."""


class Ending(NamedTuple):
    """How a combination ended."""

    combination: Combination
    status: Status
    reason: str = ""


OUTCOME: tuple[Metric[Ending], ...] = (
    Metric("status", "ok, out_of_memory, invalid (no system would run it) or error", lambda e: e.status, str),
    Metric("reason", "Why it isn't ok", lambda e: e.reason, str),
)
ORIGIN: tuple[Metric[Ending], ...] = (
    Metric("offsim_version", "The offsim that simulated it", lambda _: offsim_version(), str),
    Metric("scenario_hash", "Of the complete scenario, catalogue values included", lambda e: e.combination.hash, str),
    Metric("node_fingerprint", "Of the complete node", lambda e: e.combination.node_fingerprint, str),
)
WRITTEN: dict[str, Metric[Any]] = {
    metric.name: metric for metrics in (SCENARIO_METRICS, OUTCOME, PREDICTION_METRICS, ORIGIN) for metric in metrics
}
"""What the columns after those of the axes say, in the order in which they are written."""
COLUMNS = tuple(WRITTEN)
PLACES = {name: place for place, name in enumerate(COLUMNS)}


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of a combination: `row.number("total_s")`; the names are those of `metrics`."""

    labels: Labels
    """One per axis: a column each."""
    cells: tuple[Value, ...]
    """Values in the order of `COLUMNS`; None where there is nothing to say."""

    def number(self, name: str, missing: float = 0.0) -> float:
        """The number in a column, or `missing`."""
        value = self.cells[PLACES[name]]
        return missing if value is None else float(value)

    def text(self, name: str) -> str:
        """The text in a column; empty where there is none."""
        value = self.cells[PLACES[name]]
        return "" if value is None else str(value)

    def changed(self, **cells: Value) -> "Row":
        """The row with other values in some columns."""
        return replace(self, cells=_cells(dict(zip(COLUMNS, self.cells, strict=True)) | cells))

    @property
    def status(self) -> str:
        """How the combination ended: ok, out_of_memory, invalid or error."""
        return self.text("status")

    @property
    def reason(self) -> str:
        """Why the status isn't ok."""
        return self.text("reason")

    @property
    def policy(self) -> str:
        """The policy's name."""
        return self.text("policy")

    @property
    def ran(self) -> bool:
        """Whether there is a prediction: it was not refused and did not fail."""
        return self.status in ("ok", "out_of_memory")


class Result(NamedTuple):
    """A row and the values that it rests on without their having been measured there."""

    row: Row
    unmeasured: tuple[tuple[str, str], ...] = ()
    """(node.key, provenance) pairs."""


def row_of(labels: Labels, cells: Mapping[str, Value]) -> Row:
    """A row with these values by column, and nothing in all other columns."""
    return Row(labels, _cells(cells))


def _cells(cells: Mapping[str, Value]) -> tuple[Value, ...]:
    return tuple(map(cells.get, COLUMNS))


def result_of(combination: Combination) -> Result:
    """Simulate one combination."""
    if combination.refused:
        return Result(_row(Ending(combination, "invalid", combination.refused), {"tokens": None}))
    prediction = predict(combination.scenario)
    lack = prediction.out_of_memory
    ending = Ending(combination, "out_of_memory", _lacking(lack)) if lack else Ending(combination, "ok")
    return Result(_row(ending, _rounded(prediction)), tuple(_unmeasured(prediction)))


def failed(combination: Combination, error: Exception) -> Result:
    """A combination that could not be simulated, with its error."""
    reason = f"{' / '.join(combination.labels)}: {type(error).__name__}: {error}"
    return Result(_row(Ending(combination, "error", one_line(" ".join(reason.split())))))


def _row(ending: Ending, found: Mapping[str, Value] | None = None) -> Row:
    asked = values(SCENARIO_METRICS, ending.combination.scenario)
    return row_of(ending.combination.labels, {**asked, **values(OUTCOME + ORIGIN, ending), **(found or {})})


def _rounded(prediction: Prediction) -> dict[str, Value]:
    """Every metric of a prediction, those with a unit to as many digits as are kept."""
    return {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in metrics_of(prediction).items()
    }


def _lacking(lack: OutOfMemory) -> str:
    short = lack.shortfall / UNIT_FACTORS["GiB"]
    return f"out of {lack.where} memory in phase {lack.phase}: short of {short:.2f} GiB; times are as if it fitted"


def _unmeasured(prediction: Prediction) -> list[tuple[str, str]]:
    node = prediction.scenario.node.name
    return [(f"{node}.{key}", value.provenance) for key, value in prediction.uncalibrated]
