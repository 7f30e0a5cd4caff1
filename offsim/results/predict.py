"""The answer to a scenario: simulate it and say what came out.

Beyond two ranks it is not known how a collective's weight against copies grows with its peers; where both meet on a
link, the scenario is simulated with both extremes and every time carries the interval between them.
"""

from typing import Any, NamedTuple

from offsim.engine.bounds import lower_bound
from offsim.engine.prepared import Prepared
from offsim.engine.simulate import simulate
from offsim.engine.watch import Watch
from offsim.program.build import build
from offsim.program.commands import Copy, StreamProgram, passages_of
from offsim.program.timeline import Timeline
from offsim.scenario.policy import gathers
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import Scenario

from .memory import OutOfMemory, PhasePeak, out_of_memory, phase_peaks
from .steps import Charge, StepRow, ledger, step_rows, waits

SCHEMA_VERSION = 1


class Prediction(NamedTuple):
    """Everything that a scenario's report shows."""

    scenario: Scenario
    program: StreamProgram
    timeline: Timeline
    steps: list[StepRow]
    intervals: list[tuple[float, float]]
    """Per step: shortest and longest duration over what is not known."""
    total_interval: tuple[float, float]
    phases: list[PhasePeak]
    out_of_memory: OutOfMemory | None
    lower_bound: float
    in_use: list[tuple[str, Quantity]]
    """Values of the node that this rests on, as (key, value); curves with their largest value."""

    @property
    def total(self) -> float:
        """Denoising time [s]: the sum of the steps."""
        return sum(step.duration for step in self.steps)

    @property
    def steady(self) -> float:
        """The median step that is neither the first nor a switch."""
        return self.steps[self.steady_index].duration

    @property
    def steady_index(self) -> int:
        """Index of that step."""
        usual = [s for s in self.steps[1:] if s.phase == "denoise"] or self.steps
        return sorted(usual, key=lambda s: s.duration)[len(usual) // 2].index

    @property
    def switch(self) -> StepRow | None:
        """The step at which the expert changes."""
        return next((step for step in self.steps if step.phase == "switch"), None)

    @property
    def peak_allocated(self) -> float:
        return max(phase.allocated for phase in self.phases)

    @property
    def peak_reserved(self) -> float:
        return max(phase.reserved for phase in self.phases)

    @property
    def pinned_per_rank(self) -> float:
        return max(phase.pinned for phase in self.phases)

    @property
    def uncalibrated(self) -> list[tuple[str, Quantity]]:
        """Those values in use that were not measured on this node."""
        return [(key, value) for key, value in self.in_use if value.provenance != "measured"]

    @property
    def calibrated(self) -> bool:
        return not self.uncalibrated

    def waits(self, index: int) -> dict[str, float]:
        """What a step's compute stream waited for, by name [s]."""
        return waits(self.program, self.timeline, index)

    def ledger(self) -> list[Charge]:
        """The stall ledger of all steps."""
        return ledger(self.program, self.timeline)


def predict(scenario: Scenario, watch: Watch | None = None) -> Prediction:
    """Simulate a scenario and collect its results; `watch` may be asked meanwhile how far it has come.

    Raises DeadlockError for a program that cannot finish, ScenarioError for one that is too long.
    """
    prepared, watch = Prepared(scenario, build(scenario)), watch or Watch()
    program, both = prepared.program, two_weights(scenario, prepared.program)
    watch.runs = 2 if both else 1
    timeline = simulate(scenario, prepared=prepared, watch=watch)
    steps = step_rows(program, timeline)
    others = [steps]
    if both:
        other = simulate(scenario, proportional_weight=True, prepared=prepared, watch=watch)
        others.append(step_rows(program, other))
    peaks = phase_peaks(scenario, program, prepared.values)
    totals = [sum(step.duration for step in rows) for rows in others]
    lack, bound = out_of_memory(scenario, peaks, prepared.values), lower_bound(scenario, program, prepared)
    return Prediction(
        scenario=scenario,
        program=program,
        timeline=timeline,
        steps=steps,
        intervals=[_range([rows[i].duration for rows in others]) for i in range(len(steps))],
        total_interval=_range(totals),
        phases=peaks,
        out_of_memory=lack,
        lower_bound=bound,
        in_use=prepared.values.of(scenario.node),
    )


def _range(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def two_weights(scenario: Scenario, program: StreamProgram) -> bool:
    """Whether collectives of more than two ranks meet weight copies on a link: then both extremes are simulated."""
    node, group = scenario.node, max(len(group) for group in scenario.groups())
    if gathers(scenario.policy):
        group = scenario.workload.gpus
    shared = node.collectives is not None and node.collectives.transport != "nvlink"
    return group > 2 and shared and _copies_ahead(program)


def _copies_ahead(program: StreamProgram) -> bool:
    """Whether any step has copies that run beside kernels: pageable ones block the host instead."""
    distinct = {id(section.commands): section.commands for section in program.sections if section.step is not None}
    passages = {id(passage): passage for commands in distinct.values() for passage in passages_of(commands)}
    return any(
        isinstance(command, Copy) and command.host_memory == "pinned"
        for passage in passages.values()
        for part in passage
        for command in (*part.before, *part.after)
    )


def as_json(prediction: Prediction) -> dict[str, Any]:
    """The prediction as plain data: seconds and bytes, per rank unless a key says total; keys of SCHEMA_VERSION."""
    missing = prediction.out_of_memory
    ranks = prediction.scenario.workload.gpus
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": _names(prediction.scenario),
        "steps": [_step_json(s, i) for s, i in zip(prediction.steps, prediction.intervals, strict=True)],
        "total_s": prediction.total,
        "total_interval_s": list(prediction.total_interval),
        "lower_bound_s": prediction.lower_bound,
        "peak_allocated_bytes": prediction.peak_allocated,
        "peak_reserved_bytes": prediction.peak_reserved,
        "phases": [_phase_json(phase) for phase in prediction.phases],
        "pinned_host_bytes_per_rank": prediction.pinned_per_rank,
        "pinned_host_bytes": prediction.pinned_per_rank * ranks,
        "h2d_bytes": sum(s.h2d_bytes for s in prediction.steps),
        "d2h_bytes": sum(s.d2h_bytes for s in prediction.steps),
        "collective_bytes": sum(s.collective_bytes for s in prediction.steps),
        "h2d_bytes_total": ranks * sum(s.h2d_bytes for s in prediction.steps),
        "d2h_bytes_total": ranks * sum(s.d2h_bytes for s in prediction.steps),
        "collective_bytes_total": ranks * sum(s.collective_bytes for s in prediction.steps),
        "ranks": ranks,
        "out_of_memory": None if missing is None else _lack_json(missing),
        "ledger": [_charge_json(charge) for charge in prediction.ledger()],
        "calibrated": prediction.calibrated,
        "uncalibrated": [{"key": key, "provenance": q.provenance} for key, q in prediction.uncalibrated],
        "shortcuts": shortcuts(prediction),
        "warnings": warnings(prediction),
    }


def shortcuts(prediction: Prediction) -> dict[str, int]:
    """What stands for more than itself: ranks that were simulated, steps and blocks that were not; all exact."""
    timeline = prediction.timeline
    return {
        "ranks": timeline.ranks,
        "simulated_ranks": len(timeline.represented),
        "steps": len(prediction.steps),
        "skipped_steps": sum(repeat.times for repeat in timeline.repeats if not repeat.parts),
        "skipped_blocks": sum(repeat.times * repeat.parts for repeat in timeline.repeats),
    }


def _lack_json(lack: OutOfMemory) -> dict[str, Any]:
    return {
        "where": lack.where,
        "phase": lack.phase,
        "rank": lack.rank,
        "needed_bytes": lack.needed,
        "available_bytes": lack.available,
        "shortfall_bytes": lack.shortfall,
    }


def _charge_json(charge: Charge) -> dict[str, Any]:
    return {"step": charge.step, "waiting": charge.waiting, "culprit": charge.culprit, "lost_s": charge.seconds}


def _names(scenario: Scenario) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "model": scenario.model.name,
        "node": scenario.node.name,
        "policy": type(scenario.policy).__struct_config__.tag,
        "gpus": scenario.workload.gpus,
        "tokens": scenario.tokens,
        "weight_dtype": scenario.workload.weight_dtype,
    }


def _step_json(step: StepRow, interval: tuple[float, float]) -> dict[str, Any]:
    return {
        "index": step.index,
        "phase": step.phase,
        "duration_s": step.duration,
        "interval_s": list(interval),
        "compute_s": step.losses.compute,
        "exposed_copy_s": step.losses.exposed_copy,
        "exposed_collective_s": step.losses.exposed_collective,
        "contention_s": step.losses.contention,
        "host_bound_s": step.losses.host_bound,
        "h2d_bytes": step.h2d_bytes,
        "d2h_bytes": step.d2h_bytes,
        "collective_bytes": step.collective_bytes,
    }


def _phase_json(peak: PhasePeak) -> dict[str, Any]:
    return {
        "phase": peak.phase,
        "allocated_bytes": peak.allocated,
        "reserved_bytes": peak.reserved,
        "reserved_at_most": peak.reserved_at_most,
        "pinned_host_bytes": peak.pinned,
        "pageable_host_bytes": peak.pageable,
        "largest": [{"owner": owner, "bytes": size} for owner, size in peak.largest],
    }


def warnings(prediction: Prediction) -> list[str]:
    """What a reader must know before believing the numbers."""
    found = []
    if prediction.out_of_memory is not None:
        lack = prediction.out_of_memory
        found.append(
            f"out of {lack.where} memory in phase {lack.phase}: short of {lack.shortfall / 2**30:.2f} GiB; "
            "times are as if it fitted"
        )
    if prediction.uncalibrated:
        worst = [key for key, q in prediction.uncalibrated if q.provenance == "guess"]
        listed = ", ".join([*worst[:3], *(["..."] if len(worst) > 3 else [])])
        guesses = f", {len(worst)} of them guessed ({listed})" if worst else ""
        found.append(f"{len(prediction.uncalibrated)} values were not measured on this node{guesses}")
    decoding = _decoding(prediction.scenario)
    if decoding:
        found.append(decoding)
    efficiency = prediction.scenario.workload.compute_efficiency
    if efficiency != 1:
        found.append(
            f"workload.compute_efficiency={efficiency:g} divides every kernel's time: a fitted or given number"
        )
    if efficiency == 1 and prediction.scenario.node.gpu.clock is None:
        found.append(
            "this node has no clock model: a chip at its power limit computes 10 to 20 % longer than in short bursts "
            "(measured on H100 and H200 SXM), which its rates may be of; workload.compute_efficiency allows for it"
        )
    if two_weights(prediction.scenario, prediction.program):
        found.append("how collectives share links with copies beyond 2 ranks is not known: times carry both extremes")
    return found


def leaves_decoding_out(scenario: Scenario) -> bool:
    """Whether peaks are without the activations of decoding: they are not known, or tokens don't say what size."""
    vae = scenario.model.vae
    return vae is None or not vae.workspace_per_pixel * scenario.workload.pixels()


def _decoding(scenario: Scenario) -> str:
    """What the decoding phase's memory lacks."""
    vae, work = scenario.model.vae, scenario.workload
    if vae is None:
        return "decoding needs more than shown: this model's VAE is not known"
    if not work.pixels():
        return "decoding needs more than shown: its activations follow from width, height and frames, not from tokens"
    shown, whole = vae.workspace_per_pixel * work.pixels(), vae.whole(work.pixels(), work.frames or 1)
    if not whole:
        return "" if shown else "decoding needs more than shown: this model's VAE activations are not known"
    has = f"has {shown / 2**30:.1f} GiB of VAE activations, a guess" if shown else "is shown without VAE activations"
    return (
        f"decoding {has}: they take {whole / 2**30:.1f} GiB without tiles and less with tiles "
        "(diffusers: pipe.vae.enable_tiling())"
    )
