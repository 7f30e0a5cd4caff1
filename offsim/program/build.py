"""From a scenario to its stream program: the denoising pipeline with a policy's hooks in it.

The order of events is the pipeline's: load, text encoding, steps (expert, forwards, blocks, step end), decoding. What a
policy adds stands in its own module. Phases outside the loop are there for their memory; their compute is not modelled.
"""

from collections.abc import Iterator

from offsim.scenario.model import Component
from offsim.scenario.scenario import Scenario

from .block import Layout, activation_bytes, block_commands, elementwise, graph_break, layout_of
from .commands import (
    COMPUTE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    HostWork,
    Phase,
    Section,
    StreamProgram,
    Synchronize,
)
from .policies import policy_program
from .policies.hooks import PolicyProgram

LATENT_CHANNELS = 64
"""Of one token: 16 channels, 1 x 2 x 2 patches."""


class BlockCache:
    """The commands of each block, written once: they are the same in every forward."""

    def __init__(self, scenario: Scenario, layout: Layout) -> None:
        self.layout = layout
        self.operations = [blocks.operations() for blocks in scenario.model.blocks]
        self.activations = max(
            activation_bytes(operations, layout, blocks.hidden)
            for operations, blocks in zip(self.operations, scenario.model.blocks, strict=True)
        )
        self._blocks: dict[tuple[str, str], tuple[Command, ...]] = {}

    def block(self, name: str, index: int, weights: str) -> tuple[Command, ...]:
        """A block of list `index` that reads the buffer `weights`."""
        key = (name, weights)
        if key not in self._blocks:
            self._blocks[key] = tuple(block_commands(self.operations[index], self.layout, name, (weights,)))
        return self._blocks[key]


def build(scenario: Scenario) -> StreamProgram:
    """The stream program that every rank of the scenario issues."""
    policy = policy_program(scenario)
    layout = layout_of(scenario)
    sections = [
        Section("load", "load", None, tuple(_load(scenario, policy))),
        Section("encode", "encode", None, tuple(_encode(scenario))),
    ]
    sections += _steps(scenario, policy, layout)
    sections.append(Section("decode", "decode", None, tuple(_decode(scenario, policy))))
    title = scenario.name or f"{scenario.model.name} {policy.name}"
    return StreamProgram(title, tuple(sections), tuple(scenario.groups()))


def _load(scenario: Scenario, policy: PolicyProgram) -> Iterator[Command]:
    for component, placement in _components(scenario):
        if placement == "resident":
            yield Allocate(component.name, component.weight_bytes, COMPUTE)
        else:
            # Sharded components keep 1/N of their weights on each rank's host side.
            ranks = scenario.workload.gpus if placement == "sharded" else 1
            yield Allocate(f"{component.name} on host", component.weight_bytes / ranks, "pinned")
    yield from policy.load()


def _components(scenario: Scenario) -> list[tuple[Component, str]]:
    """Text encoder and VAE, where the model has them, each with its placement."""
    model, policy = scenario.model, scenario.policy
    pairs = [(model.text_encoder, policy.text_encoder), (model.vae, policy.vae)]
    return [(component, placement) for component, placement in pairs if component is not None]


def _encode(scenario: Scenario) -> Iterator[Command]:
    """Text encoding: the encoder's weights as its placement has them on the device."""
    component = scenario.model.text_encoder
    if component is None or scenario.policy.text_encoder == "resident":
        return
    yield from _visit(component, scenario.policy.text_encoder)


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
    component = scenario.model.vae
    if component is None:
        return
    workspace = component.workspace_per_pixel * scenario.workload.pixels()
    if workspace:
        yield Allocate("VAE workspace", workspace, COMPUTE)
    if scenario.policy.vae != "resident":
        yield from _visit(component, scenario.policy.vae)
    if workspace:
        yield Free("VAE workspace")


def _steps(scenario: Scenario, policy: PolicyProgram, layout: Layout) -> list[Section]:
    sections: list[Section] = []
    cache, previous = BlockCache(scenario, layout), None
    state: tuple[object, ...] = ()
    for step, expert in enumerate(scenario.expert_of_step()):
        # A step that begins as the one before did issues the same commands and ends as it did.
        now = (expert, policy.state())
        repeats = now == state and step > 1
        state = now
        commands = sections[-1].commands if repeats else tuple(_step(scenario, policy, layout, cache, step, expert))
        if sections and not repeats and _same(commands, sections[-1].commands):
            commands = sections[-1].commands
        phase: Phase = "switch" if previous not in (None, expert) else "denoise"
        sections.append(Section(f"step {step}", phase, step, commands))
        previous = expert
    return sections


def _same(a: tuple[Command, ...], b: tuple[Command, ...]) -> bool:
    """Equal command by command; tuples of different commands with equal fields are not."""
    return a == b and all(type(x) is type(y) for x, y in zip(a, b, strict=True))


def _step(
    scenario: Scenario, policy: PolicyProgram, layout: Layout, cache: BlockCache, step: int, expert: int
) -> Iterator[Command]:
    """One denoising step: expert placement, forwards, scheduler, step end.

    With CFG split over ranks the guidance all-reduce is taken over all ranks, not per pair: it is small.
    """
    work = scenario.workload
    if step == 0 and work.compile:
        yield HostWork("compile", work.compile)
    if step == 0 and work.communicator_start:
        yield HostWork("communicator start", work.communicator_start)
    yield from policy.begin_step(expert)
    for _ in range(work.forwards(scenario.model)):
        yield from _forward(scenario, policy, layout, cache, expert)
    if work.cfg_mode(scenario.model) == "split":
        yield Collective(COMPUTE, "combine guidance", "all-reduce", latent_bytes(layout), "world")
    # Four passes over fp32 latents: twice as many elements of an activation's size.
    yield Compute(COMPUTE, "scheduler", (elementwise(layout.rows("image"), 4 * LATENT_CHANNELS * 2),))
    if work.step_end != "none":
        yield Synchronize("stream", COMPUTE) if work.step_end == "stream" else Synchronize("device")


def _forward(
    scenario: Scenario, policy: PolicyProgram, layout: Layout, cache: BlockCache, expert: int
) -> Iterator[Command]:
    """One forward of the transformer: embeddings, block lists, final projection."""
    model = scenario.model
    yield Allocate("activations", cache.activations, COMPUTE)
    outside = policy.other_weights(expert)
    hidden = model.blocks[0].hidden
    yield Compute(COMPUTE, "embeddings", (elementwise(layout.rows("image"), 2 * hidden),), outside)
    broken = policy.breaks_graph and scenario.workload.compiled
    for index, blocks in enumerate(model.blocks):
        for i in range(blocks.count):
            yield from policy.before_block(expert, index, i)
            if broken and (index or i):
                yield graph_break(layout, blocks.hidden, f"{blocks.name}.{i}")
            yield from cache.block(f"{blocks.name}.{i}", index, policy.weights(expert, index, i))
            yield from policy.after_block(expert, index, i)
    yield Compute(COMPUTE, "head", (elementwise(layout.rows("image"), 2 * hidden),), outside)
    yield Free("activations")


def latent_bytes(layout: Layout) -> float:
    """Bytes of one rank's part of the latents, in fp32."""
    return 4.0 * LATENT_CHANNELS * layout.rows("image")
