"""A prediction as one document of plain data, as `run --json` prints it: the names are those of `metrics`."""

from typing import Any

from offsim.scenario.scenario import Scenario

from .memory import PhasePeak
from .metrics import PHASE_METRICS, SCENARIO_METRICS, STALL_METRICS, STEP_METRICS, metrics_of, timed_steps, values
from .predict import Prediction, shortcuts, warnings

SCHEMA_VERSION = 2
"""The version of all documents with these names. docs/schema_2.md says what each name of version 1 became."""


def run_document(prediction: Prediction) -> dict[str, Any]:
    """A prediction as plain data: what was asked, every metric, every step, phase and stall, and what to beware of."""
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": asked_document(prediction.scenario),
        **metrics_of(prediction),
        "steps": [values(STEP_METRICS, step) for step in timed_steps(prediction)],
        "phases": [_phase(peak) for peak in prediction.phases],
        "ledger": [values(STALL_METRICS, charge) for charge in prediction.ledger()],
        "uncalibrated": [{"key": key, "provenance": q.provenance} for key, q in prediction.uncalibrated],
        "shortcuts": shortcuts(prediction),
        "warnings": warnings(prediction),
    }


def asked_document(scenario: Scenario) -> dict[str, Any]:
    """What a scenario asks as plain data."""
    return {"name": scenario.name, **values(SCENARIO_METRICS, scenario)}


def _phase(peak: PhasePeak) -> dict[str, Any]:
    largest = [{"owner": owner, "allocated_GiB": size / 2**30} for owner, size in peak.largest]
    return {**values(PHASE_METRICS, peak), "largest": largest}
