"""The best policies as plain data: seconds and bytes, keys of `SCHEMA_VERSION`."""

from typing import Any

from offsim.results.errors import total_with_error
from offsim.scenario.scenario import Scenario

from .answer import Choice, choices_of, device_bytes, notes, unmeasured_keys, words
from .run import Answer
from .space import Candidate

SCHEMA_VERSION = 1


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as plain data: seconds and bytes."""
    choices = choices_of(answer)
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": _scenario_json(answer.scenario),
        "asked": _asked_json(answer),
        "candidates": answer.considered,
        "do_not_fit": answer.lacking,
        "pruned": answer.pruned,
        "simulated": answer.timed,
        "best": [_choice_json(choice, choices[0]) for choice in choices],
        "front": [{**_candidate_json(candidate), "total_s": total} for candidate, total in answer.front],
        "notes": list(notes(answer, choices)),
        "uncalibrated": unmeasured_keys(choices),
    }


def _scenario_json(scenario: Scenario) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "model": scenario.model.name,
        "node": scenario.node.name,
        "gpus": scenario.workload.gpus,
        "device_bytes": device_bytes(scenario),
    }


def _asked_json(answer: Answer) -> dict[str, Any]:
    found = answer.asked
    if found is None:
        return {"policy": words(answer.scenario.policy), "refused": answer.refused}
    return {
        "policy": words(answer.scenario.policy),
        "total_s": found.total,
        "total_interval_s": list(total_with_error(found)),
        "peak_allocated_bytes": found.peak_allocated,
        "fits": found.out_of_memory is None,
    }


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    work, policy = candidate.scenario.workload, candidate.scenario.policy
    return {
        "policy": {"name": candidate.policy, **{field: getattr(policy, field) for field in policy.parameters}},
        "cfg": work.cfg_mode(candidate.scenario.model),
        "sequence_parallel": candidate.scenario.ulysses,
        "gpus": work.gpus,
        "change": candidate.change,
        "rounding": candidate.rounding,
        "peak_allocated_bytes": candidate.memory,
    }


def _choice_json(choice: Choice, first: Choice) -> dict[str, Any]:
    found = choice.prediction
    step = found.steps[found.steady_index]
    return {
        **_candidate_json(choice.candidate),
        "total_s": found.total,
        "total_interval_s": [choice.low, choice.high],
        "steady_step_s": step.duration,
        "told_apart_from_first": not choice.same_as(first),
        "lower_bound_s": found.lower_bound,
        "steady_losses_s": step.losses._asdict(),
        "pinned_host_bytes_per_rank": found.pinned_per_rank,
        "recipes": [recipe._asdict() for recipe in choice.candidate.launch_lines],
    }
