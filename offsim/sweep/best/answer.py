"""The best policies as tables and sentences, narrow enough for 100 columns, or as plain data.

What differs by less than the prediction interval is said not to be told apart.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.text import Text

from offsim.results.errors import relative_error, total_with_error
from offsim.results.layout import Renderable, gib, new_table, pairs, seconds, spaced
from offsim.results.predict import Prediction
from offsim.results.tables import LOSS_NAMES
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario

from ..panels import SAME
from .run import Answer
from .space import Candidate

SCHEMA_VERSION = 1
FRONT_SHOWN = 12
SMALL = 0.005
"""Share of a step that is not worth a word."""
PLACEMENTS = {"text_encoder": "text encoder", "vae": "VAE"}


class Choice(NamedTuple):
    """One of the best, as it is shown."""

    candidate: Candidate
    prediction: Prediction
    low: float
    high: float

    def same_as(self, other: "Choice") -> bool:
        """Whether their intervals overlap."""
        return self.low <= other.high and other.low <= self.high


def choices_of(answer: Answer) -> list[Choice]:
    """The best with their intervals."""
    return [Choice(candidate, found, *total_with_error(found)) for candidate, found in answer.best]


def report(answer: Answer) -> list[Renderable]:
    """Everything that a reader wants to see, in order, with empty lines between."""
    choices = choices_of(answer)
    parts: list[Renderable] = [_asked(answer)]
    if not choices:
        return spaced([*parts, Text(_nothing_fits(answer))])
    parts += [_best(choices), pairs([("-", sentence) for sentence in sentences(answer, choices)])]
    parts += [_recipes(choices), _front(answer), pairs([("-", note) for note in notes(answer, choices)])]
    return spaced(parts)


def _asked(answer: Answer) -> Renderable:
    found = answer.asked
    scenario = found.scenario
    gpu, work = scenario.node.gpu, scenario.workload
    lack = found.out_of_memory
    fits = f"does not fit ({lack.where} memory)" if lack else f"{gib(found.peak_allocated)} GiB"
    return pairs(
        [
            ("scenario", f"{scenario.name or scenario.model.name}: {scenario.model.name}, {scenario.tokens:,} tokens"),
            ("node", f"{work.gpus} of {scenario.node.gpus} GPUs of {scenario.node.name}"),
            ("memory", f"{gib(gpu.memory.value - gpu.context.value)} GiB per GPU besides the CUDA context"),
            ("asked", f"{words(scenario.policy)}: {seconds(found.total)}, {fits}"),
            (
                "searched",
                f"{answer.considered:,} candidates: {answer.lacking:,} don't fit, {answer.pruned:,} cannot win by "
                f"their lower bounds, {answer.timed:,} simulated",
            ),
        ]
    )


def _nothing_fits(answer: Answer) -> str:
    lack = answer.asked.out_of_memory
    least = f"; what was asked lacks {gib(lack.shortfall)} GiB of {lack.where} memory" if lack else ""
    return f"None of them fits{least}: give more --vram, a smaller size or a narrower workload.weight_dtype."


def words(policy: Policy) -> str:
    """A policy by its name and what is not as by default.

    >>> from offsim.scenario.policy import FullModel
    >>> words(FullModel(vae="resident"))
    'full-model pageable, VAE resident'
    """
    name, version = str(type(policy).__struct_config__.tag), getattr(policy, "version", "")
    parts = [f"{name} {version}".strip()]
    default = type(policy)()
    for field in policy.__struct_fields__:
        value = getattr(policy, field)
        if field != "version" and value != getattr(default, field):
            parts.append(f"{PLACEMENTS[field]} {value}" if field in PLACEMENTS else f"{field}={value}")
    return ", ".join(parts)


def _best(choices: Sequence[Choice]) -> Renderable:
    title = (
        f"Best of each policy, with the interval of its total. Times within {100 * SAME:g} % count as equal: "
        "then the least memory comes first."
    )
    table = new_table(title, "", "policy", "step", "total", "GPU\nGiB", "host\nGiB", "what binds")
    for column in (1, 6):
        table.columns[column].justify = "left"
    for number, choice in enumerate(choices, 1):
        found = choice.prediction
        host = max(phase.pinned + phase.pageable for phase in found.phases) * found.scenario.workload.gpus
        change = f"\n({choice.candidate.change})" if choice.candidate.change else ""
        table.add_row(
            str(number),
            words(choice.candidate.scenario.policy) + change,
            seconds(found.steady),
            f"{seconds(found.total)}\n[{choice.low:.4g}-{choice.high:.4g}]",
            gib(found.peak_allocated),
            f"{host / 2**30:,.0f}",
            binds(found),
        )
    return table


def binds(prediction: Prediction) -> str:
    """What a steady step's time goes to, largest first."""
    step = prediction.steps[prediction.steady_index]
    shares = {name: part / step.duration for name, part in step.losses._asdict().items()}
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{LOSS_NAMES[name]} {100 * part:.0f} %" for name, part in ordered if part > SMALL)


def sentences(answer: Answer, choices: Sequence[Choice]) -> Iterator[str]:
    """Which of the best can be told apart, and what they gain over what was asked."""
    first, others = choices[0], choices[1:]
    same = [first, *(other for other in others if first.same_as(other))]
    width = 100 * relative_error(first.prediction.program)
    if len(same) > 1:
        numbers = ", ".join(str(choices.index(choice) + 1) for choice in same)
        spread = max(c.prediction.total for c in same) / min(c.prediction.total for c in same) - 1
        least = min(same, key=lambda choice: choice.candidate.memory)
        yield (
            f"{numbers} differ by at most {100 * spread:.1f} %, less than their prediction intervals: they are not "
            f"told apart. The least GPU memory of them takes {choices.index(least) + 1}."
        )
    elif others:
        lead = choices[1].prediction.total / first.prediction.total - 1
        yield f"1 leads by {100 * lead:.1f} %: more than the prediction intervals (about {width:.1f} % either way)."
    asked = answer.asked
    low, high = total_with_error(asked)
    change = first.prediction.total / asked.total - 1
    apart = "" if first.high < low or high < first.low else ", which is within the prediction intervals"
    yield f"1 takes {abs(100 * change):.1f} % {'less' if change <= 0 else 'more'} time than what was asked{apart}."
    if not first.candidate.recipes:
        offered = next((i for i, choice in enumerate(choices, 1) if choice.candidate.recipes), None)
        yield "No system is known to offer 1 yet" + (f"; the best that one offers is {offered}." if offered else ".")


def _recipes(choices: Sequence[Choice]) -> Renderable:
    rows = []
    for number, choice in enumerate(choices, 1):
        found = [f"{recipe.system}: {recipe.text}" for recipe in choice.candidate.recipes]
        rows += [(str(number), text) for text in found or ["no system is known to offer this yet"]]
    return pairs([("To paste", ""), *rows])


def _front(answer: Answer) -> Renderable:
    table = new_table("Time against memory: nothing is as fast with less", "GPU GiB", "total", "policy")
    table.columns[2].justify = "left"
    for candidate, total in thinned(answer.front):
        change = f" ({candidate.change})" if candidate.change else ""
        table.add_row(gib(candidate.memory), seconds(total), words(candidate.scenario.policy) + change)
    return table


def thinned(front: Sequence[tuple[Candidate, float]]) -> list[tuple[Candidate, float]]:
    """Both ends and evenly spaced ones between."""
    last = len(front) - 1
    if last < FRONT_SHOWN:
        return list(front)
    return [front[round(i * last / (FRONT_SHOWN - 1))] for i in range(FRONT_SHOWN)]


def notes(answer: Answer, choices: Sequence[Choice]) -> Iterator[str]:
    """What a reader must know before believing it."""
    if len(answer.front) > FRONT_SHOWN:
        yield f"{len(answer.front) - FRONT_SHOWN} more points of the front are in --json."
    yield "Changes in brackets run the same request otherwise; the result is the same."
    if any(choice.candidate.requests > 1 for choice in choices):
        yield "Where several requests run at once, the time is that of all of them together."
    unmeasured = {key for choice in choices for key, _ in choice.prediction.uncalibrated}
    if unmeasured:
        yield (
            f"{len(unmeasured)} values behind this were not measured on {answer.asked.scenario.node.name}. The "
            "intervals are the errors of predictions on calibrated nodes; what those values are off by is not in them."
        )


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as plain data: seconds and bytes."""
    return {
        "schema_version": SCHEMA_VERSION,
        "asked": _asked_json(answer.asked),
        "device_bytes": _device(answer.asked.scenario),
        "candidates": answer.considered,
        "do_not_fit": answer.lacking,
        "pruned": answer.pruned,
        "simulated": answer.timed,
        "best": [_choice_json(choice, choices_of(answer)[0]) for choice in choices_of(answer)],
        "front": [{**_candidate_json(candidate), "total_s": total} for candidate, total in answer.front],
        "uncalibrated": sorted({key for _, found in answer.best for key, _ in found.uncalibrated}),
    }


def _device(scenario: Scenario) -> float:
    return scenario.node.gpu.memory.value - scenario.node.gpu.context.value


def _asked_json(found: Prediction) -> dict[str, Any]:
    scenario = found.scenario
    return {
        "name": scenario.name,
        "model": scenario.model.name,
        "node": scenario.node.name,
        "gpus": scenario.workload.gpus,
        "policy": words(scenario.policy),
        "total_s": found.total,
        "total_interval_s": list(total_with_error(found)),
        "peak_allocated_bytes": found.peak_allocated,
        "fits": found.out_of_memory is None,
    }


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    work, policy = candidate.scenario.workload, candidate.scenario.policy
    return {
        "policy": {"name": candidate.policy, **{field: getattr(policy, field) for field in policy.__struct_fields__}},
        "cfg": work.cfg_mode(candidate.scenario.model),
        "sequence_parallel": candidate.scenario.ulysses,
        "requests": candidate.requests,
        "change": candidate.change,
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
        "recipes": [recipe._asdict() for recipe in choice.candidate.recipes],
    }
