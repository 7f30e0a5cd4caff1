"""A prediction as tables for a terminal, narrow enough for 100 columns.

Every function takes a prediction (or a part of it) and gives rich renderables; nothing is printed here. Steps
that look the same are one row, so a loop of 50 steps reads as three or four.
"""

from collections import Counter
from itertools import groupby
from typing import get_type_hints

from rich.table import Table

from offsim.scenario.policy import Policy
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import Scenario
from offsim.scenario.units import dimension_of, usual_unit

from .hiding import copies_hide, hiding_words
from .layout import Renderable, gb, gib, new_table, pairs, seconds, share, spaced, with_interval
from .metrics import LOSSES, MOVED, PHASE_METRICS, STEP_METRICS, TimedStep, all_steps, timed_steps
from .predict import Prediction, leaves_decoding_out, shortcuts, warnings
from .steps import UseRow

OWNERS_SHOWN = 6
NOTHING = "0.00"
"""What GiB read that are not worth a word."""
CHARGES_SHOWN = 8
NAMES_SHOWN = 10
WORST_FIRST = ("guess", "given", "derived", "published")
LOSS_NAMES = {metric.name.removesuffix("_s"): metric.title for metric in LOSSES}
"""Parts of a step's duration in words, by the field of `Losses` that has them."""


def prediction_report(prediction: Prediction) -> list[Renderable]:
    """Everything that a reader of one prediction wants to see, in order, with empty lines between."""
    parts: list[Renderable] = [prediction_summary(prediction), step_table(prediction), time_table(prediction)]
    parts += [*memory(prediction), *stalls(prediction), *caveats(prediction)]
    return spaced(parts)


def prediction_summary(prediction: Prediction) -> Table:
    """What was asked, and the answer in a few lines."""
    scenario = prediction.scenario
    model, node = scenario.model, scenario.node
    experts = f" x {model.experts} experts" if model.experts > 1 else ""
    weights = f"{model.parameters / 1e9:.2f} B parameters{experts}, {scenario.workload.weight_dtype}"
    hidden = copies_hide(prediction)
    return pairs(
        [
            ("scenario", scenario.name or prediction.program.name),
            ("model", f"{model.name}: {weights}, {model.block_count} blocks"),
            ("workload", workload_words(prediction)),
            *padding(scenario),
            ("node", f"{node.name}: {node.title}"),
            ("policy", policy_words(prediction)),
            ("denoising", total_words(prediction)),
            ("fits", fit_words(prediction)),
            ("calibrated", calibration_words(prediction)),
            *([] if hidden is None else [("copies", hiding_words(hidden))]),
            ("shortcuts", shortcut_words(prediction)),
        ]
    )


def shortcut_words(prediction: Prediction) -> str:
    """What was not simulated because it repeats something that was."""
    used = shortcuts(prediction)
    steps = [f"{used['skipped_steps']} of {used['steps']} steps"] if used["skipped_steps"] else []
    blocks = [f"{used['skipped_blocks']} blocks of simulated steps"] if used["skipped_blocks"] else []
    repeated = [f"{' and '.join(steps + blocks)} are repetitions of others"] if steps or blocks else []
    alike = used["simulated_ranks"] < used["ranks"]
    ranks = [f"{used['simulated_ranks']} of {used['ranks']} ranks simulated"] if alike else []
    return "; ".join(ranks + repeated) or "none: every rank, step and block was simulated"


def workload_words(prediction: Prediction) -> str:
    """Size, steps and parallel layout."""
    scenario = prediction.scenario
    work = scenario.workload
    frames = f"{work.frames} frames, " if (work.frames or 1) > 1 else ""
    size = f"{work.width} x {work.height}, {frames}" if work.width else ""
    gpus = "1 GPU" if work.gpus == 1 else f"{work.gpus} GPUs (Ulysses {scenario.ulysses})"
    forwards = work.forwards(scenario.model)
    kernels = ", eager kernels" if work.kernels == "eager" else ""
    return (
        f"{size}{scenario.tokens:,} tokens, {scenario.steps} steps of {forwards} "
        f"forward{'s' if forwards > 1 else ''}, {gpus}{kernels}"
    )


def padding(scenario: Scenario) -> list[tuple[str, str]]:
    """What is computed besides what was asked for, so that ranks have equal shares, as a line of the summary."""
    work, own, ranks = scenario.workload, scenario.workload.own_tokens(scenario.model), scenario.ulysses
    if scenario.tokens == own:
        return []
    shares = f"({ranks} GPUs share them equally)"
    if work.tokens is None and work.token_sharding == "frames":
        frames = work.token_frames(scenario.model)
        padded = scenario.tokens * frames // own
        return [("padded", f"{frames} latent frames to {padded} {shares}: {scenario.tokens:,} tokens, not {own:,}")]
    return [("padded", f"{own:,} tokens to {scenario.tokens:,} {shares}")]


def policy_words(prediction: Prediction) -> str:
    """The policy's name, version and the parameters that are not at their defaults."""
    policy = prediction.scenario.policy
    changed = [
        " = ".join(as_written(type(policy), key, value))
        for key, value, default in policy_fields(policy)
        if value != default or key == "version"
    ]
    return f"{policy.tag} ({', '.join(changed)})" if changed else policy.tag


def policy_fields(policy: Policy) -> list[tuple[str, object, object]]:
    """Each parameter of a policy as (name, value, default)."""
    default = type(policy)()
    return [(name, getattr(policy, name), getattr(default, name)) for name in policy.parameters]


def as_written(kind: type, field: str, value: object) -> tuple[str, str]:
    """A parameter as a scenario file has it: its key, with the unit, and its value.

    >>> from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
    >>> as_written(DiffusersGroup, "hook_cost", 1e-4), as_written(DiffusersGroup, "stream", True)
    (('hook_cost_us', '100'), ('stream', 'true'))
    """
    dimension = dimension_of(get_type_hints(kind, include_extras=True)[field])
    if dimension is not None:
        suffix, factor = usual_unit(dimension, float(str(value)))
        return f"{field}_{suffix}", f"{float(str(value)) / factor:g}"
    return field, str(value).lower() if isinstance(value, bool) else str(value)


def total_words(prediction: Prediction) -> str:
    """Total, its interval and the bound that no schedule can beat."""
    total = with_interval(prediction.total, prediction.total_interval)
    return f"{total}, lower bound {seconds(prediction.lower_bound)}; steady step {seconds(prediction.steady)}"


def fit_words(prediction: Prediction) -> str:
    """Whether it fits: how full device and host memory get, or what is missing where."""
    lack = prediction.out_of_memory
    if lack is not None:
        return (
            f"NO: out of {lack.where} memory in phase {lack.phase} on rank {lack.rank}: needs "
            f"{gib(lack.needed)} GiB, has {gib(lack.available)}, short of {gib(lack.shortfall)} GiB"
        )
    node, ranks = prediction.scenario.node, prediction.scenario.workload.gpus
    device = node.gpu.memory.value - node.gpu.context.value
    host = max(phase.pinned + phase.pageable for phase in prediction.phases) * ranks
    without = " (decoding's activations left out)" if leaves_decoding_out(prediction.scenario) else ""
    return (
        f"yes: {gib(prediction.peak_allocated)} of {gib(device)} GiB per GPU{without}, "
        f"{gib(host)} of {gib(node.host.memory.value)} GiB host memory"
    )


def step_table(prediction: Prediction) -> Table:
    """Durations and traffic by step; equal consecutive steps are one row."""
    heads = [metric.title for metric in STEP_METRICS if metric.title and metric not in LOSSES]
    table = new_table("Steps (GB: what each rank moves)", *heads)
    rows = [(step.row, step_cells(step)) for step in timed_steps(prediction)]
    for cells, group in groupby(rows, key=lambda row: row[1]):
        table.add_row(step_numbers([step for step, _ in group]), *cells)
    table.add_section()
    table.add_row("total", *step_cells(all_steps(prediction)), style="bold")
    table.add_row("lower bound", "", seconds(prediction.lower_bound))
    return table


def step_numbers(steps: list[UseRow]) -> str:
    first, last = steps[0].index, steps[-1].index
    return f"{first}" if first == last else f"{first}-{last}"


def step_cells(step: TimedStep) -> tuple[str, ...]:
    """The cells of a step's row after its number."""
    duration = with_interval(step.row.duration, (step.low, step.high))
    return (step.row.use.kind, duration, *(gb(metric.amount(step)) for metric in MOVED))


def time_table(prediction: Prediction) -> Table:
    """The first, a steady and the switch step, split into disjoint parts."""
    steps, switch = timed_steps(prediction), prediction.switch
    first, steady = steps[0], steps[prediction.steady_index]
    shown = [(f"steady step {steady.row.index}", steady)]
    if seconds(first.row.duration) != seconds(steady.row.duration):
        shown.insert(0, ("step 0", first))
    if switch is not None:
        shown.append((f"switch step {switch.index}", steps[switch.index]))
    table = new_table("Where the time went", "", *(title for title, _ in shown))
    for metric in LOSSES:
        table.add_row(metric.title, *(share(metric.amount(step), step.row.duration) for _, step in shown))
    table.add_section()
    table.add_row("duration", *(share(step.row.duration, step.row.duration) for _, step in shown), style="bold")
    return table


def memory(prediction: Prediction) -> list[Renderable]:
    """Peaks by phase, and what fills the device at the highest."""
    ranks = prediction.scenario.workload.gpus
    phase, *device, pinned, pageable = (metric.title for metric in PHASE_METRICS if metric.title)
    host = (f"{kind}\nper {where}" for where in ("rank", "node") for kind in (pinned, pageable))
    table = new_table("Memory [GiB]", phase, *device, *host)
    for peak in prediction.phases:
        levels = (peak.pinned, peak.pageable, peak.pinned * ranks, peak.pageable * ranks)
        reserved = f"at most {gib(peak.reserved)}" if peak.reserved_at_most else gib(peak.reserved)
        table.add_row(peak.phase, gib(peak.allocated), reserved, *(gib(b) if b else "-" for b in levels))
    top = max(prediction.phases, key=lambda phase: phase.allocated)
    owners = [f"{owner} {gib(size)}" for owner, size in top.largest[:OWNERS_SHOWN] if gib(size) != NOTHING]
    others = gib(sum(size for _, size in top.largest[len(owners) :]))
    owners += [f"others {others}"] if others != NOTHING else []
    return [table, pairs([(f"at the peak ({top.phase})", ", ".join(owners))])]


def stalls(prediction: Prediction) -> list[Renderable]:
    """The stall ledger over all steps: who waited because of whom, largest first."""
    sums: dict[tuple[str, str], float] = {}
    for charge in prediction.ledger():
        key = (charge.waiting, charge.culprit)
        sums[key] = sums.get(key, 0.0) + charge.seconds
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    if not ordered:
        return []
    table = new_table("Stalls over all steps (share of the total)", "waiting", "because of", "lost")
    table.columns[1].justify = "left"
    for (waiting, culprit), lost in ordered[:CHARGES_SHOWN]:
        table.add_row(waiting, culprit, share(lost, prediction.total))
    if len(ordered) > CHARGES_SHOWN:
        rest = sum(lost for _, lost in ordered[CHARGES_SHOWN:])
        table.add_row(f"{len(ordered) - CHARGES_SHOWN} more", "", share(rest, prediction.total))
    return [table]


def calibration_words(prediction: Prediction) -> str:
    """Whether all values in use were measured on the node, and where they come from."""
    counts = Counter(quantity.provenance for _, quantity in prediction.in_use)
    words = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return f"{'yes' if prediction.calibrated else 'no'}: of {counts.total()} values in use {words}"


def caveats(prediction: Prediction) -> list[Renderable]:
    """The weakest values by name, and the warnings."""
    rows = weakest(prediction.uncalibrated)
    rows += [("warning", message) for message in warnings(prediction)]
    return [pairs(rows)] if rows else []


def weakest(uncalibrated: list[tuple[str, Quantity]]) -> list[tuple[str, str]]:
    """The names of the values with the worst provenance that occurs."""
    for provenance in WORST_FIRST:
        names = [key for key, quantity in uncalibrated if quantity.provenance == provenance]
        if names:
            more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            return [(f"weakest ({provenance})", ", ".join(names[:NAMES_SHOWN]) + more)]
    return []
