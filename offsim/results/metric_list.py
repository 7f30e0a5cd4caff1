"""The metrics as tables: every name with its unit and meaning, by what it is said of."""

from collections.abc import Iterator, Mapping
from typing import Any

from .entry import list_table
from .layout import Renderable, pairs
from .metrics import PHASE_METRICS, PREDICTION_METRICS, SCENARIO_METRICS, STALL_METRICS, STEP_METRICS, Metric

Metrics = tuple[Metric[Any], ...]
UNIT_WORDS = {"s": "seconds", "GB": "10^9 bytes", "GiB": "2^30 bytes", "": ""}
KIND_WORDS = {str: "text", int: "count", bool: "yes or no"}
METRIC_GROUPS: Mapping[str, Metrics] = {
    "A prediction as a whole: run --json, best --json, columns of sweeps": PREDICTION_METRICS,
    "What is asked: scenario in JSON, columns of sweeps": SCENARIO_METRICS,
    "A denoising step: steps in JSON, and frames of predictions": STEP_METRICS,
    "A phase: phases in JSON": PHASE_METRICS,
    "A stall: ledger in JSON": STALL_METRICS,
}
"""What metrics are said of, and where they stand -> the metrics."""


def metric_tables(groups: Mapping[str, Metrics]) -> Iterator[Renderable]:
    """A table of metrics for each group."""
    for title, metrics in groups.items():
        table = list_table(title, "name", "unit", "meaning")
        for metric in metrics:
            table.add_row(metric.name, metric.unit or KIND_WORDS[metric.kind], metric.meaning)
        yield table


def metric_entry(name: str, groups: Mapping[str, Metrics]) -> list[Renderable]:
    """What a metric is, for each group that has one of this name; empty if none does."""
    return [
        pairs([("metric", name), *_unit(metric), ("meaning", metric.meaning), ("said of", title)])
        for title, metrics in groups.items()
        for metric in metrics
        if metric.name == name
    ]


def _unit(metric: Metric[Any]) -> list[tuple[str, str]]:
    words = f"{metric.unit}: {UNIT_WORDS[metric.unit]}" if metric.unit else KIND_WORDS[metric.kind]
    return [("unit", words)]
