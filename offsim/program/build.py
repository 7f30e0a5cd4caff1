"""From a scenario to its stream program: the denoising pipeline with a policy's hooks in it.

The order of events is the pipeline's: load, text encoding, steps (expert, forwards, blocks, step end), decoding. What a
policy adds stands in its own module. Phases outside the loop are there for their memory; their compute is not modelled.
"""

from collections.abc import Hashable, Iterator
from typing import NamedTuple

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


class Forwards:
    """Writes the commands of forwards, each different one once: blocks of one list differ in names only."""

    def __init__(self, scenario: Scenario, policy: PolicyProgram, layout: Layout) -> None:
        self.scenario = scenario
        self.policy = policy
        self.layout = layout
        lists = scenario.model.blocks
        operations = [blocks.operations() for blocks in lists]
        self.activations = max(
            activation_bytes(own, layout, blocks.hidden) for own, blocks in zip(operations, lists, strict=True)
        )
        self._templates = [tuple(block_commands(own, layout, "", ())) for own in operations]
        self._breaks = [graph_break(layout, blocks.hidden, "") for blocks in lists]
        self._outside = (elementwise(layout.rows("image"), 2 * lists[0].hidden),)
        self._blocks: dict[tuple[str, str], tuple[Command, ...]] = {}
        self._forwards: dict[Hashable, Forward] = {}

    def forward(self, expert: int) -> "Forward":
        """The next forward of an expert; remembered if it leaves the policy's state as it found it."""
        before = (expert, self.policy.state())
        if before not in self._forwards:
            forward = self._write(expert)
            if before[1] != self.policy.state():
                return forward
            self._forwards[before] = forward
        return self._forwards[before]

    def _write(self, expert: int) -> "Forward":
        """One forward of the transformer: embeddings, block lists, final projection."""
        policy, outside = self.policy, self.policy.other_weights(expert)
        commands: list[Command] = [Allocate("activations", self.activations, COMPUTE)]
        commands.append(Compute(COMPUTE, "embeddings", self._outside, outside))
        begins: list[int] = []
        broken = policy.breaks_graph and self.scenario.workload.compiled
        for index, blocks in enumerate(self.scenario.model.blocks):
            for i in range(blocks.count):
                begins.append(len(commands))
                commands += policy.before_block(expert, index, i)
                if broken and (index or i):
                    commands.append(_named(self._breaks[index], f"{blocks.name}.{i}", ()))
                commands += self._block(f"{blocks.name}.{i}", index, policy.weights(expert, index, i))
                commands += policy.after_block(expert, index, i)
        commands.append(Compute(COMPUTE, "head", self._outside, outside))
        commands.append(Free("activations"))
        return Forward(tuple(commands), tuple(begins))

    def _block(self, name: str, index: int, weights: str) -> tuple[Command, ...]:
        """A block of list `index` that reads the buffer `weights`."""
        key = (name, weights)
        if key not in self._blocks:
            self._blocks[key] = tuple(_named(command, name, (weights,)) for command in self._templates[index])
        return self._blocks[key]


class Forward(NamedTuple):
    """The commands of one forward, and where its blocks begin."""

    commands: tuple[Command, ...]
    blocks: tuple[int, ...]


def _named(command: Command, name: str, reads: tuple[str, ...]) -> Command:
    """A command of a template, for one block."""
    if isinstance(command, Compute):
        return Compute(command.stream, name + command.name, command.kernels, reads)
    assert isinstance(command, Collective)
    return command._replace(name=name + command.name)


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
    forwards, previous = Forwards(scenario, policy, layout), None
    state: tuple[object, ...] = ()
    for step, expert in enumerate(scenario.expert_of_step()):
        # A step that begins as the one before did issues the same commands and ends as it did.
        now = (expert, policy.state())
        repeats = now == state and step > 1
        state = now
        phase: Phase = "switch" if previous not in (None, expert) else "denoise"
        found = sections[-1] if repeats else _step(scenario, policy, forwards, step, expert)
        if sections and not repeats and _same(found.commands, sections[-1].commands):
            found = sections[-1]
        sections.append(found._replace(name=f"step {step}", phase=phase, step=step))
        previous = expert
    return sections


def _same(a: tuple[Command, ...], b: tuple[Command, ...]) -> bool:
    """Equal command by command; tuples of different commands with equal fields are not."""
    return a == b and all(type(x) is type(y) for x, y in zip(a, b, strict=True))


def _step(scenario: Scenario, policy: PolicyProgram, forwards: Forwards, step: int, expert: int) -> Section:
    """One denoising step: expert placement, forwards, scheduler, step end."""
    work = scenario.workload
    commands: list[Command] = []
    blocks: list[int] = []
    if step == 0 and work.compile:
        commands.append(HostWork("compile", work.compile))
    if step == 0 and work.communicator_start:
        commands.append(HostWork("communicator start", work.communicator_start))
    commands += policy.begin_step(expert)
    for _ in range(work.forwards(scenario.model)):
        forward = forwards.forward(expert)
        blocks += [len(commands) + begin for begin in forward.blocks]
        commands += forward.commands
    commands += _step_end(scenario, forwards.layout)
    return Section("", "denoise", step, tuple(commands), tuple(blocks))


def _step_end(scenario: Scenario, layout: Layout) -> Iterator[Command]:
    """Guidance, scheduler, synchronisation.

    With CFG split over ranks the guidance all-reduce is taken over all ranks, not per pair: it is small.
    """
    work = scenario.workload
    if work.cfg_mode(scenario.model) == "split":
        yield Collective(COMPUTE, "combine guidance", "all-reduce", latent_bytes(layout), "world")
    # Four passes over fp32 latents: twice as many elements of an activation's size.
    yield Compute(COMPUTE, "scheduler", (elementwise(layout.rows("image"), 4 * LATENT_CHANNELS * 2),))
    if work.step_end != "none":
        yield Synchronize("stream", COMPUTE) if work.step_end == "stream" else Synchronize("device")


def latent_bytes(layout: Layout) -> float:
    """Bytes of one rank's part of the latents, in fp32."""
    return 4.0 * LATENT_CHANNELS * layout.rows("image")
