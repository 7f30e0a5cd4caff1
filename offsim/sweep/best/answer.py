"""The best policies as tables and sentences, narrow enough for 100 columns.

What differs by less than the prediction interval is said not to be told apart.
"""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import NamedTuple

from rich.text import Text

from offsim.results.errors import error_of, kind_of, total_with_error
from offsim.results.layout import GIB, PastedText, Renderable, gib, new_table, pairs, seconds, spaced
from offsim.results.predict import Prediction, leaves_decoding_out, warnings
from offsim.results.tables import LOSS_NAMES, as_written
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario

from ..panels import SAME
from .run import Answer
from .space import Candidate

FRONT_SHOWN = 12
SMALL = 0.005
"""Share of a step that is not worth a word."""
NO_CHANGE = 5e-4
"""Share of a time that would be shown as 0.0 %."""
MUCH = 0.9
"""Share of the device from which on nothing is left to be used for more."""
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


def best_report(answer: Answer) -> list[Renderable]:
    """Everything that a reader wants to see, in order, with empty lines between."""
    choices = choices_of(answer)
    parts: list[Renderable] = [_asked(answer)]
    if not choices:
        return spaced([*parts, Text(_nothing_fits(answer))])
    parts += [_best(choices), pairs([("-", sentence) for sentence in sentences(answer, choices)])]
    parts += [_launch_lines(choices), _front(answer), pairs([("-", note) for note in notes(answer, choices)])]
    return spaced(parts)


def _asked(answer: Answer) -> Renderable:
    scenario, found = answer.scenario, answer.asked
    lack = found.out_of_memory if found else None
    fits = f"does not fit ({lack.where} memory)" if lack else f"{gib(found.peak_allocated)} GiB" if found else ""
    took = f"{seconds(found.total)}, {fits}" if found else f"refused: {answer.refused}"
    return pairs(
        [
            ("scenario", f"{scenario.name or scenario.model.name}: {scenario.model.name}, {scenario.tokens:,} tokens"),
            ("node", f"{scenario.workload.gpus} of {scenario.node.gpus} GPUs of {scenario.node.name}"),
            ("memory", f"{gib(device_bytes(scenario))} GiB per GPU besides the CUDA context"),
            ("asked", f"{policy_in_short(scenario.policy)}: {took}"),
            (
                "searched",
                f"{answer.considered:,} candidates: {answer.lacking:,} don't fit, {answer.pruned:,} cannot win by "
                f"their lower bounds, {answer.timed:,} simulated",
            ),
        ]
    )


def _nothing_fits(answer: Answer) -> str:
    lack = answer.asked.out_of_memory if answer.asked else None
    asked = f"; what was asked lacks {gib(lack.shortfall)} GiB of {lack.where} memory" if lack else ""
    context = answer.scenario.node.gpu.context.value
    least = f"; the least that any needs is --vram {ceil(100 * (answer.least + context) / GIB) / 100:.2f}"
    return (
        f"None of them fits{asked}{least if answer.least else ''}: give more --vram, a smaller size or a narrower "
        "workload.weight_dtype."
    )


def device_bytes(scenario: Scenario) -> float:
    """What a GPU has besides the CUDA context."""
    return scenario.node.gpu.memory.value - scenario.node.gpu.context.value


def policy_in_short(policy: Policy) -> str:
    """A policy by its name and what is not as by default.

    >>> from offsim.program.systems.full_model import FullModel
    >>> policy_in_short(FullModel(vae="resident"))
    'full-model pageable, VAE resident'
    """
    name, version = policy.tag, getattr(policy, "version", "")
    parts = [f"{name} {version}".strip()]
    default = type(policy)()
    for field in policy.parameters:
        value = getattr(policy, field)
        if field != "version" and value != getattr(default, field):
            written = "=".join(as_written(type(policy), field, value))
            parts.append(f"{PLACEMENTS[field]} {value}" if field in PLACEMENTS else written)
    return ", ".join(parts)


def _best(choices: Sequence[Choice]) -> Renderable:
    title = (
        f"Best of each policy, with the interval of its total. Times within {100 * SAME:g} % count as equal: "
        "then what a system offers comes first, then the least memory."
    )
    if any(leaves_decoding_out(choice.candidate.scenario) for choice in choices):
        title += " GPU memory is without decoding's activations, here and below."
    table = new_table(title, "", "policy", "step", "total", "GPU\nGiB", "host\nGiB", "what binds")
    for column in (1, 6):
        table.columns[column].justify = "left"
    for number, choice in enumerate(choices, 1):
        found = choice.prediction
        host = max(phase.pinned + phase.pageable for phase in found.phases) * found.scenario.workload.gpus
        change = f"\n({choice.candidate.changes})" if choice.candidate.changes else ""
        table.add_row(
            str(number),
            policy_in_short(choice.candidate.scenario.policy) + change,
            seconds(found.steady),
            f"{seconds(found.total)}\n{_interval(choice)}",
            gib(found.peak_allocated),
            f"{host / 2**30:,.0f}",
            binds(found),
        )
    return table


def _interval(choice: Choice) -> str:
    """The interval of a total; of a policy that no run was compared with, at most that of its inputs."""
    compared = kind_of(choice.prediction.scenario, choice.prediction.program)
    interval = f"[{_four(choice.low)}-{_four(choice.high)}]" if compared or choice.low < choice.high else ""
    return interval if compared else f"{interval} inputs only".lstrip()


def _four(value: float) -> str:
    """Four digits, zeros at the end too.

    >>> _four(16.2), _four(1234.5)
    ('16.20', '1234')
    """
    return f"{value:#.4g}".rstrip(".")


def binds(prediction: Prediction) -> str:
    """What a steady step's time goes to, largest first."""
    step = prediction.steps[prediction.steady_index]
    shares = {name: part / step.duration for name, part in step.losses._asdict().items()}
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{LOSS_NAMES[name]} {100 * part:.0f}%" for name, part in ordered if part > SMALL)


def sentences(answer: Answer, choices: Sequence[Choice]) -> Iterator[str]:
    """Which of the best can be told apart, and what the first gains over what was asked."""
    first, others = choices[0], choices[1:]
    same = [first, *(other for other in others if first.same_as(other))]
    if len(same) > 1:
        yield _not_told_apart(choices, same)
    elif others:
        lead = min(other.prediction.total for other in others) / first.prediction.total - 1
        yield f"1 is the fastest: the next takes {longer(lead)}, which is more than predictions may be off."
    if answer.asked:
        yield _against_asked(first, answer.asked)
    if answer.front and answer.front[-1][0].memory < MUCH * device_bytes(answer.scenario):
        enough = gib(answer.front[-1][0].memory)
        yield f"More than {enough} GiB of GPU memory buys less than {100 * SAME:g} %."
    if not first.candidate.launch_lines:
        offered = next((i for i, choice in enumerate(choices, 1) if choice.candidate.launch_lines), None)
        yield "No system is known to offer 1 yet" + (f"; the best that one offers is {offered}." if offered else ".")


def _against_asked(first: Choice, asked: Prediction) -> str:
    low, high = total_with_error(asked)
    change = first.prediction.total / asked.total - 1
    if abs(change) < NO_CHANGE:
        return "1 takes as long as what was asked."
    apart = "" if first.high < low or high < first.low else ", which is within the prediction intervals"
    return f"1 takes {abs(100 * change):.1f} % {'less' if change < 0 else 'more'} time than what was asked{apart}."


def _not_told_apart(choices: Sequence[Choice], same: Sequence[Choice]) -> str:
    numbers = ", ".join(str(choices.index(choice) + 1) for choice in same)
    times = [choice.prediction.total for choice in same]
    least = min(same, key=lambda choice: (round(choice.candidate.memory / 2**30, 1), choices.index(choice)))
    spread = 100 * (max(times) / min(times) - 1)
    return (
        f"Which of {numbers} is the fastest cannot be said: their times differ by at most {spread:.1f} %, and "
        f"predictions may be off by more. Of these, {choices.index(least) + 1} takes the least GPU memory."
    )


def longer(share: float) -> str:
    """How much longer something takes, by a share of what it is compared with.

    >>> longer(0.079), longer(3.4)
    ('7.9 % longer', '4.4 times as long')
    """
    return f"{100 * share:.1f} % longer" if share < 1 else f"{1 + share:.1f} times as long"


def _launch_lines(choices: Sequence[Choice]) -> Renderable:
    """Flags and code, below comments that say whose they are."""
    lines = ["To paste"]
    for number, choice in enumerate(choices, 1):
        for recipe in choice.candidate.launch_lines:
            lines += [f"# {number}: {recipe.system}", recipe.text]
        if not choice.candidate.launch_lines:
            lines.append(f"# {number}: no system is known to offer this yet")
    return PastedText("\n".join(lines))


def _front(answer: Answer) -> Renderable:
    table = new_table("Time against memory: nothing is as fast with less", "GPU GiB", "total", "policy", "offered by")
    table.columns[2].justify = table.columns[3].justify = "left"
    for candidate, total in thinned(answer.front):
        change = f" ({candidate.change})" if candidate.change else ""
        system = candidate.launch_lines[0].system.partition(" ")[0] if candidate.launch_lines else "nobody yet"
        table.add_row(
            gib(candidate.memory), seconds(total), policy_in_short(candidate.scenario.policy) + change, system
        )
    return table


def thinned(front: Sequence[tuple[Candidate, float]]) -> list[tuple[Candidate, float]]:
    """Both ends and evenly spaced ones between."""
    last = len(front) - 1
    if last < FRONT_SHOWN:
        return list(front)
    return [front[round(i * last / (FRONT_SHOWN - 1))] for i in range(FRONT_SHOWN)]


def notes(answer: Answer, choices: Sequence[Choice]) -> Iterator[str]:
    """What a reader must know before believing the answer."""
    if not choices:
        return
    if len(answer.front) > FRONT_SHOWN:
        left = len(answer.front) - FRONT_SHOWN
        yield f"{left} more point{'s of the front are' if left > 1 else ' of the front is'} in --json."
    if any(choice.candidate.change for choice in choices):
        yield "What stands in brackets below a policy runs the same request otherwise."
    if any(choice.candidate.rounding for choice in choices):
        yield "Rounded weights are not the same model: compare what comes out."
    encoder = answer.scenario.model.text_encoder
    if encoder and any(choice.candidate.scenario.policy.text_encoder == "sharded" for choice in choices):
        yield (
            f"Memory is with the text encoder streamed layer by layer, as SGLang does since May 2026; a system that "
            f"loads it whole needs {gib(encoder.weight_bytes)} GiB for that phase."
        )
    yield from map(_sentence, _warnings(choices))
    yield _about_intervals(choices)
    unmeasured = unmeasured_keys(choices)
    if unmeasured:
        yield (
            f"{len(unmeasured)} values behind this were not measured on {answer.scenario.node.name}; what they are off "
            "by is not in the intervals."
        )


def _about_intervals(choices: Sequence[Choice]) -> str:
    """What the intervals are."""
    kinds = {c.candidate.policy: kind_of(c.prediction.scenario, c.prediction.program) for c in choices}
    compared = dict.fromkeys(kind for kind in kinds.values() if kind)
    listed = ", ".join(f"{100 * error_of(kind):.1f} % ({kind})" for kind in compared)
    most = max(choice.prediction.scenario.workload.gpus for choice in choices)
    more = "; more than two GPUs were never compared" if most > 2 else ""
    said = f"The intervals are the errors that 95 % of the replays on calibrated nodes kept: {listed}{more}."
    never = [policy for policy, kind in kinds.items() if not kind]
    alone = f"{', '.join(never)}: inputs only, since no run was ever compared; true errors are larger."
    return " ".join([*([said] if compared else []), *([alone] if never else [])])


def _sentence(warning: str) -> str:
    """With a capital letter, unless it begins with a key."""
    begin = warning[:1] if "=" in warning.split()[0] else warning[:1].upper()
    return f"{begin}{warning[1:]}."


def _warnings(choices: Sequence[Choice]) -> list[str]:
    """What each prediction warns of, but for what is said of all in one."""
    found = [warning for choice in choices for warning in warnings(choice.prediction._replace(in_use=[]))]
    return list(dict.fromkeys(found))


def unmeasured_keys(choices: Sequence[Choice]) -> list[str]:
    """Keys of node values that any of the best rests on without their having been measured there."""
    return sorted({key for choice in choices for key, _ in choice.prediction.uncalibrated})
