"""One fit in progress: samples by probe, and the summary of what is known so far."""

from typing import NamedTuple, TypeVar

import numpy as np
from msgspec import Struct

from calibration.samples.sample_file import Header, ProbeSample
from offsim.scenario.quantity import Quantity

from .estimate import Estimate
from .node_toml import six_digits, unit_of
from .summary import SummaryRow

Otherwise = TypeVar("Otherwise", Quantity, None)


class Fitted(NamedTuple):
    """A profile and what to say about it."""

    toml: str
    summary: list[SummaryRow]


class Fit:
    """One fit: its samples by probe, and the rows of the summary as values come."""

    def __init__(self, headers: list[Header], samples: list[ProbeSample]) -> None:
        self.header = headers[-1]
        self.inventory = headers[-1].inventory
        self.samples = samples
        self.rows: list[SummaryRow] = []

    def of(self, probe: str) -> list[ProbeSample]:
        """The samples of a probe that have readings."""
        return [s for s in self.samples if s.probe == probe and any(s.readings.values())]

    def measured(self, key: str, part: type[Struct], estimate: Estimate, source: str) -> Quantity:
        """A fitted value as a node has it, noted in the summary.

        `key` is the value's place in a node, with dots; it ends in a field of `part`, which says the unit.
        """
        estimate = estimate.not_negative()
        suffix, factor = unit_of(part, key.rpartition(".")[2])
        note = estimate.note if estimate.identified else f"{estimate.note}; not identified".lstrip("; ")
        interval = "" if estimate.interval is None else " to ".join(six_digits(x / factor) for x in estimate.interval)
        error = "" if estimate.held_out_error is None else f"{100 * estimate.held_out_error:.1f} %"
        value = f"{six_digits(estimate.value / factor)} {suffix}".strip()
        self.rows.append(SummaryRow(key, value, interval, error, estimate.n, note))
        said = f"{source}, n = {estimate.n}"
        return Quantity(estimate.value, "measured", said, estimate.note, estimate.interval)

    def measured_or(
        self, key: str, part: type[Struct], estimate: Estimate | None, source: str, otherwise: Otherwise
    ) -> Quantity | Otherwise:
        """A fitted value as `measured` gives it, or `otherwise` where there is no estimate."""
        return otherwise if estimate is None else self.measured(key, part, estimate, source)


def note_table(fit: Fit, name: str, value: str, errors: list[float], samples: list[ProbeSample]) -> None:
    """Add a table to the summary: what it holds, and the errors of sizes that it does not hold."""
    shown = f"{100 * float(np.median(np.abs(errors))):.1f} %" if errors else ""
    worst = f"worst {100 * max(errors, key=abs):+.1f} %" if errors else ""
    fit.rows.append(SummaryRow(name, value, "", shown, len(samples), worst))


def bytes_of(sample: ProbeSample) -> float:
    """The bytes of a sample's configuration."""
    return float(sample.config["bytes"])
