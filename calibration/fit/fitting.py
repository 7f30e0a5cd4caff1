"""One fit in progress: samples by probe, and what is known so far as lines of a node file and of the summary."""

from typing import NamedTuple

import numpy as np

from calibration.samples.sample_file import Header, Sample

from . import toml
from .estimate import Estimate
from .summary import SummaryRow


class Fitted(NamedTuple):
    """A profile and what to say about it."""

    toml: str
    summary: list[SummaryRow]


class Fit:
    """One fit: samples by probe, tables and rows as they come."""

    def __init__(self, headers: list[Header], samples: list[Sample]) -> None:
        self.header = headers[-1]
        self.inventory = headers[-1].inventory
        self.samples = samples
        self.rows: list[SummaryRow] = []
        self.tables: list[tuple[str, list[tuple[str, str]]]] = []

    def of(self, probe: str) -> list[Sample]:
        """Samples of a probe that have readings."""
        return [s for s in self.samples if s.probe == probe and any(s.readings.values())]

    def entry(
        self, key: str, estimate: Estimate | None, unit: str, factor: float, source: str
    ) -> tuple[str, str] | None:
        """A quantity's line, noted in the summary; None where there is nothing."""
        if estimate is None:
            return None
        estimate = estimate.not_negative()
        note = estimate.note if estimate.identified else f"{estimate.note}; not identified".lstrip("; ")
        interval = "" if estimate.interval is None else " to ".join(toml.number(x / factor) for x in estimate.interval)
        error = "" if estimate.held_out_error is None else f"{100 * estimate.held_out_error:.1f} %"
        value = f"{toml.number(estimate.value / factor)} {unit}".strip()
        self.rows.append(SummaryRow(key, value, interval, error, estimate.n, note))
        name = f"{key.rsplit('.', 1)[-1]}_{unit}" if unit else key.rsplit(".", 1)[-1]
        text = toml.quantity(estimate.value, "measured", f"{source}, n = {estimate.n}", estimate, factor)
        return name, text

    def table(self, name: str, entries: list[tuple[str, str] | None]) -> None:
        """Add a table of what is known."""
        self.tables.append((name, [entry for entry in entries if entry is not None]))


def note_table(fit: Fit, name: str, value: str, errors: list[float], samples: list[Sample]) -> None:
    """A table in the summary: what it holds, and the errors of sizes that it does not hold."""
    shown = f"{100 * float(np.median(np.abs(errors))):.1f} %" if errors else ""
    worst = f"worst {100 * max(errors, key=abs):+.1f} %" if errors else ""
    fit.rows.append(SummaryRow(name, value, "", shown, len(samples), worst))


def bytes_of(sample: Sample) -> float:
    """The size of a configuration."""
    return float(sample.config["bytes"])
