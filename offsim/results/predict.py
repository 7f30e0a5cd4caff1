"""The answer to a scenario: simulate it and say what came out.

Beyond two ranks it is not known how a collective's weight against copies grows with its peers; where both meet on a
link, the scenario is simulated with both extremes and every time carries the interval between them.
"""

from collections.abc import Iterator
from typing import NamedTuple

from offsim.engine.bounds import lower_bound
from offsim.engine.prepared import Prepared
from offsim.engine.simulate import simulate
from offsim.engine.watch import Watch
from offsim.program.build import build
from offsim.program.commands import Collective, Command, Copy, StreamProgram
from offsim.program.passages import passages_of
from offsim.program.timeline import Timeline
from offsim.program.uses import total_seconds
from offsim.scenario.node_values import file_key
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import Scenario

from .memory import OutOfMemory, PhasePeak, out_of_memory, phase_peaks
from .steps import Charge, UseRow, ledger, step_rows, waits


class Prediction(NamedTuple):
    """Everything that a scenario's report shows."""

    scenario: Scenario
    program: StreamProgram
    timeline: Timeline
    steps: list[UseRow]
    intervals: list[tuple[float, float]]
    """Shortest and longest duration of each step over what is not known."""
    total_interval: tuple[float, float]
    phases: list[PhasePeak]
    out_of_memory: OutOfMemory | None
    lower_bound: float
    in_use: list[tuple[str, Quantity]]
    """Values of the node that this rests on, as (key, value); curves with their largest value."""

    def __repr__(self) -> str:
        return f"<Prediction of {self.program.name}: {len(self.steps)} steps, {self.total:.6g} s>"

    @property
    def total(self) -> float:
        """Denoising time [s]: the sum of the steps."""
        return total_seconds(self.steps)

    @property
    def steady(self) -> float:
        """The median step that is neither the first nor a switch."""
        return self.steps[self.steady_index].duration

    @property
    def steady_index(self) -> int:
        """Index of the steady step."""
        usual = [s for s in self.steps[1:] if s.use.kind == "denoise"] or self.steps
        return sorted(usual, key=lambda s: s.duration)[len(usual) // 2].index

    @property
    def switch(self) -> UseRow | None:
        """The step at which the expert changes."""
        return next((step for step in self.steps if step.use.kind == "switch"), None)

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
        """Those values in use that were not measured on this node, by the keys that a node's file has for them."""
        return [(file_key(key, value), value) for key, value in self.in_use if value.provenance != "measured"]

    @property
    def calibrated(self) -> bool:
        return not self.uncalibrated

    def waits(self, index: int) -> dict[str, float]:
        """What a step's compute stream waited for, by name [s]."""
        return waits(self.timeline, self.program.step_number(index))

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
    totals = [total_seconds(rows) for rows in others]
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
    if _gathers(program):
        group = scenario.workload.gpus
    shared = node.wiring.collectives is not None and node.wiring.collectives.transport != "nvlink"
    return group > 2 and shared and _copies_ahead(program)


def _copies_ahead(program: StreamProgram) -> bool:
    """Whether any step has copies that run beside kernels: pageable ones block the host instead."""
    return any(isinstance(command, Copy) and command.host_memory == "pinned" for command in _around_blocks(program))


def _gathers(program: StreamProgram) -> bool:
    """Whether ranks hold parts of the weights and gather them from each other in any step."""
    return any(isinstance(command, Collective) and command.kind == "all-gather" for command in _around_blocks(program))


def _around_blocks(program: StreamProgram) -> Iterator[Command]:
    """What a policy's hooks issue in steps: each distinct part of them once."""
    steps = [program.sections[number].commands for number in program.numbers_of()]
    distinct = {id(commands): commands for commands in steps}
    passages = {id(passage): passage for commands in distinct.values() for passage in passages_of(commands)}
    for part in (part for passage in passages.values() for part in passage):
        yield from part.before
        yield from part.after


def shortcuts(prediction: Prediction) -> dict[str, int]:
    """How many ranks were simulated for all, and how many steps and blocks were not: all repeat others exactly."""
    timeline, sections = prediction.timeline, prediction.program.sections
    return {
        "ranks": timeline.ranks,
        "simulated_ranks": len(timeline.represented),
        "steps": len(prediction.steps),
        "skipped_steps": sum(r.times for r in timeline.repeats if not r.parts and sections[r.section].use.is_step),
        "skipped_blocks": sum(repeat.times * repeat.parts for repeat in timeline.repeats),
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
