"""From a scenario to its stream program: the denoising pipeline with a policy's hooks in it.

The order of events is the pipeline's: load, text encoding, steps (expert, forwards, blocks, step end), decoding. What a
policy adds stands in its own module. Phases outside the loop are there for their memory; their compute is not modelled.
"""

from collections.abc import Iterator

from offsim.scenario.model import Component
from offsim.scenario.scenario import Scenario

from .block import Layout, elementwise, layout_of
from .commands import (
    COMPUTE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    HostWork,
    Section,
    StreamProgram,
    Synchronize,
)
from .forwards import Forwards
from .groups import CFG, SEQUENCE, WORLD, ParallelGroups, Partition
from .offloading.hooks import EXPERT_NAMES, PolicyProgram
from .pages import policy_program
from .passages import Part, Passage, Written
from .uses import LOADING, Use, UseKind

LATENT_CHANNELS = 64
"""Latent elements of one token: 16 channels, 1 x 2 x 2 patches."""


def build(scenario: Scenario) -> StreamProgram:
    """The stream program that every rank of the scenario issues."""
    policy = policy_program(scenario)
    layout = layout_of(scenario)
    sections = [
        Section("load", LOADING, tuple(_load(scenario, policy))),
        Section("encode", _use_of("encode", scenario.model.text_encoder), tuple(_encode(scenario, policy))),
    ]
    sections += _steps(scenario, policy, layout)
    sections.append(Section("decode", _use_of("decode", scenario.model.vae), tuple(_decode(scenario, policy))))
    title = scenario.name or f"{scenario.model.name} {scenario.policy.tag}"
    return StreamProgram(title, tuple(sections), parallel_groups(scenario), policy.high_priority)


def parallel_groups(scenario: Scenario) -> ParallelGroups:
    """The partitions of a scenario's ranks: sequence-parallel groups, and where guidance is split over ranks, `cfg`."""
    sequence = tuple(scenario.groups())
    named: dict[str, Partition] = {SEQUENCE: sequence}
    if scenario.workload.cfg_mode(scenario.model) == "split":
        named[CFG] = tuple(zip(*sequence, strict=True))
    return ParallelGroups(scenario.workload.gpus, named)


def _use_of(kind: UseKind, component: Component | None) -> Use:
    return Use(kind, "" if component is None else component.name)


def _load(scenario: Scenario, policy: PolicyProgram) -> Iterator[Command]:
    for component, placement in _components(scenario):
        if placement == "resident":
            yield Allocate(component.name, component.weight_bytes, COMPUTE)
        elif placement == "chain":
            yield Allocate(f"{component.name} on host", component.weight_bytes, "pageable")
        else:
            # Sharded components keep 1/N of their weights on each rank's host side.
            ranks = scenario.workload.gpus if placement == "sharded" else 1
            yield Allocate(f"{component.name} on host", component.weight_bytes / ranks, "pinned")
    yield from policy.load()
    work = scenario.workload
    if work.communicator_start and work.communicator_warm_up:
        yield HostWork("communicator start", work.communicator_start)


def _components(scenario: Scenario) -> list[tuple[Component, str]]:
    """Text encoder and VAE, where the model has them, each with its placement."""
    model, policy = scenario.model, scenario.policy
    pairs = [(model.text_encoder, policy.text_encoder), (model.vae, policy.vae)]
    return [(component, placement) for component, placement in pairs if component is not None]


def _encode(scenario: Scenario, policy: PolicyProgram) -> Iterator[Command]:
    """Text encoding: the encoder's weights as its placement has them on the device."""
    component, placement = scenario.model.text_encoder, scenario.policy.text_encoder
    if component is None:
        return
    yield from policy.encode(component)
    if placement not in ("resident", "chain"):
        yield from _visit(component, placement)


def _visit(component: Component, placement: str) -> Iterator[Command]:
    """Weights of a component on the device for one phase: all of them, or two layers at a time.

    Of a sharded component only its peak is here: the copies of its other layers are left out.
    """
    if placement == "sharded":
        layer = component.weight_bytes / component.layers
        for part in ("layer", "next layer"):
            yield Allocate(f"{component.name} {part}", layer, COMPUTE)
            yield Copy(COMPUTE, f"{component.name} {part}", "H2D", layer, "pinned", f"{component.name} {part}")
        yield Synchronize("stream", COMPUTE)
        yield Free(f"{component.name} layer")
        yield Free(f"{component.name} next layer")
        return
    yield Allocate(component.name, component.weight_bytes, COMPUTE)
    yield Copy(COMPUTE, component.name, "H2D", component.weight_bytes, "pinned", component.name)
    yield Synchronize("stream", COMPUTE)
    yield Free(component.name)


def _decode(scenario: Scenario, policy: PolicyProgram) -> Iterator[Command]:
    """VAE decoding: weights and workspace; what the policy still holds stays."""
    yield from policy.finish()
    component, placement = scenario.model.vae, scenario.policy.vae
    if component is None:
        return
    yield from policy.decode(component)
    workspace = component.workspace_per_pixel * scenario.workload.pixels()
    if workspace:
        yield Allocate("VAE workspace", workspace, COMPUTE)
    if placement not in ("resident", "chain"):
        yield from _visit(component, placement)
    if workspace:
        yield Free("VAE workspace")
    yield from policy.after_decoding(component)


def _steps(scenario: Scenario, policy: PolicyProgram, layout: Layout) -> list[Section]:
    sections: list[Section] = []
    forwards, previous = Forwards(scenario, policy, layout), None
    state: tuple[object, ...] = ()
    experts, times = scenario.expert_of_step(), scenario.workload.forwards(scenario.model)
    of_forwards = tuple(expert for expert in experts for _ in range(times))
    for step, expert in enumerate(experts):
        policy.upcoming = of_forwards[step * times :]
        # A step that begins as the one before did issues the same commands and ends as it did.
        now = (expert, policy.state())
        repeats = now == state and step > 1
        state = now
        kind: UseKind = "switch" if previous not in (None, expert) else "denoise"
        commands = None if repeats else Written(_step(scenario, policy, forwards, step, expert))
        last = sections[-1].commands if sections else None
        if isinstance(last, Written) and (commands is None or commands.same(last)):
            commands = last
        assert commands is not None
        sections.append(Section(f"step {step}", Use(kind, EXPERT_NAMES[expert], step=step), commands))
        previous = expert
    return sections


def _step(scenario: Scenario, policy: PolicyProgram, forwards: Forwards, step: int, expert: int) -> Iterator[Passage]:
    """One denoising step: expert placement, forwards, scheduler, step end."""
    work = scenario.workload
    begin: list[Command] = []
    if step == 0 and work.compile:
        begin.append(HostWork("compile", work.compile))
    if step == 0 and work.communicator_start and not work.communicator_warm_up:
        begin.append(HostWork("communicator start", work.communicator_start))
    begin += policy.begin_step(expert)
    if begin:
        yield (Part(tuple(begin)),)
    for _ in range(work.forwards(scenario.model)):
        yield forwards.forward(expert)
        policy.upcoming = policy.upcoming[1:]
    yield (Part(tuple(_step_end(scenario, forwards.layout))),)


def _step_end(scenario: Scenario, layout: Layout) -> Iterator[Command]:
    """Guidance, scheduler, synchronisation.

    With CFG split over ranks the guidance all-reduce is taken over all ranks, not per pair: it is small.
    """
    work = scenario.workload
    if work.cfg_mode(scenario.model) == "split":
        yield Collective(COMPUTE, "combine guidance", "all-reduce", latent_bytes(layout), WORLD)
    # Four passes over fp32 latents: twice as many elements of an activation's size.
    yield Compute(COMPUTE, "scheduler", (elementwise(layout.rows("image"), 4 * LATENT_CHANNELS * 2),))
    if work.step_end != "none":
        yield Synchronize("stream", COMPUTE) if work.step_end == "stream" else Synchronize("device")


def latent_bytes(layout: Layout) -> float:
    """Bytes of one rank's part of the latents, in fp32."""
    return 4.0 * LATENT_CHANNELS * layout.rows("image")
