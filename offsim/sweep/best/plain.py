"""The best policies as one document of plain data, as `best --json` prints it: the names are those of `metrics`."""

from typing import Any

from offsim.results.document import SCHEMA_VERSION, asked_document
from offsim.results.errors import kind_of, total_with_error
from offsim.results.layout import GIB
from offsim.results.metrics import PREDICTION_METRICS, SCENARIO_METRICS, Metric, metrics_of, values
from offsim.results.predict import Prediction
from offsim.scenario.policy import Policy

from .answer import Choice, choices_of, device_bytes, notes, policy_in_short
from .run import Answer
from .space import Candidate

WITH_ERROR: tuple[Metric[Prediction], ...] = (
    Metric("total_with_error_low_s", "Total that 95 % of such runs stay above", lambda p: total_with_error(p)[0]),
    Metric("total_with_error_high_s", "Total that 95 % of such runs stay below", lambda p: total_with_error(p)[1]),
)
"""What is not known of the node and the errors of replays, together."""
CHOICE_KINDS: dict[str, type] = {
    "policy_words": str,
    **{metric.name: metric.kind for metric in SCENARIO_METRICS},
    "change": str,
    "rounding": str,
    **{metric.name: metric.kind for metric in PREDICTION_METRICS},
    **{metric.name: metric.kind for metric in WITH_ERROR},
    "told_apart_from_first": bool,
}
"""What is said of one of the best that is a single value, and the kind of that."""


def best_document(answer: Answer) -> dict[str, Any]:
    """The answer to `best` as plain data: what was asked, what was searched, the best, and time against memory."""
    choices = choices_of(answer)
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": {**asked_document(answer.scenario), "device_GiB": device_bytes(answer.scenario) / GIB},
        "asked": _asked(answer),
        "candidates": answer.considered,
        "do_not_fit": answer.lacking,
        "pruned": answer.pruned,
        "simulated": answer.timed,
        "best": [choice_document(choice, choices[0]) for choice in choices],
        "front": [{**_candidate(candidate), "total_s": total} for candidate, total in answer.front],
        "notes": list(notes(answer, choices)),
        "uncalibrated": _uncalibrated(choices),
    }


def choice_document(choice: Choice, first: Choice) -> dict[str, Any]:
    """One of the best as plain data: the candidate, and every metric of its prediction."""
    return {
        **_candidate(choice.candidate),
        **_timed(choice.prediction),
        "told_apart_from_first": not choice.same_as(first),
        "launch_lines": [line._asdict() for line in choice.candidate.launch_lines],
    }


def _asked(answer: Answer) -> dict[str, Any]:
    asked = _policy(answer.scenario.policy)
    return {**asked, "refused": answer.refused} if answer.asked is None else {**asked, **_timed(answer.asked)}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    scenario = candidate.scenario
    return {
        **values(SCENARIO_METRICS, scenario),
        **_policy(scenario.policy),
        "cfg": scenario.workload.cfg_mode(scenario.model),
        "sequence_parallel": scenario.ulysses,
        "change": candidate.change,
        "rounding": candidate.rounding,
        "peak_allocated_GiB": candidate.memory / GIB,
    }


def _policy(policy: Policy) -> dict[str, Any]:
    """A policy by its name, in words, and with all its parameters."""
    return {
        "policy": policy.tag,
        "policy_words": policy_in_short(policy),
        "policy_parameters": {field: getattr(policy, field) for field in policy.parameters},
    }


def _timed(prediction: Prediction) -> dict[str, Any]:
    compared_as = kind_of(prediction.scenario, prediction.program) or None
    return {**metrics_of(prediction), **values(WITH_ERROR, prediction), "compared_as": compared_as}


def _uncalibrated(choices: list[Choice]) -> list[dict[str, str]]:
    """The node's values that any of the best rests on without their having been measured there."""
    found = {key: quantity.provenance for choice in choices for key, quantity in choice.prediction.uncalibrated}
    return [{"key": key, "provenance": provenance} for key, provenance in sorted(found.items())]
