"""What a policy may do, and when: the hooks that the denoising loop calls on the host thread.

Each hook yields the commands that the real system's hook issues at that point. State (which blocks are on the device)
lives in the policy object, as it does in the real manager.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from offsim.scenario.model import Component
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, Allocate, Command, Copy, Free, HostWork, Record, Wait
from ..passages import Template

EXPERT_NAMES = ("transformer", "transformer_2")


@dataclass(frozen=True)
class Weights:
    """The sizes that policies move, in the scenario's weight dtype [bytes]."""

    block: tuple[float, ...]
    """Bytes of one block, per block list."""
    count: tuple[int, ...]
    tensors: tuple[int, ...]
    names: tuple[str, ...]
    other: float
    """Everything of one expert outside its block lists."""
    experts: int

    @property
    def expert(self) -> float:
        """Bytes of one whole expert's transformer."""
        return sum(b * n for b, n in zip(self.block, self.count, strict=True)) + self.other

    def buffer(self, expert: int, index: int, block: int) -> str:
        """The buffer name of a block's weights, as the module is named."""
        return f"{EXPERT_NAMES[expert]}.{self.names[index]}.{block}"


def weights_of(scenario: Scenario) -> Weights:
    """The weights of a scenario's transformer."""
    model, width = scenario.model, scenario.weight_bytes_per_parameter
    return Weights(
        tuple(blocks.parameters * width for blocks in model.blocks),
        tuple(blocks.count for blocks in model.blocks),
        tuple(blocks.tensor_count() for blocks in model.blocks),
        tuple(blocks.name for blocks in model.blocks),
        model.other_parameters * width,
        model.experts,
    )


class PolicyProgram:
    """The hooks of a policy; those that it doesn't override issue nothing."""

    splits_blocks = False
    """Whether its hooks run around every module with weights: `before_module` and `after_module` are called."""
    breaks_graph = False
    """Whether its hooks run between blocks, which torch.compile cannot trace."""
    high_priority: tuple[str, ...] = ()
    """Copy streams that it makes with the highest priority."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.sizes = weights_of(scenario)
        self.upcoming: tuple[int, ...] = ()
        """The expert of this forward and of all that follow: the schedule is known before the first step."""

    def state(self) -> Hashable:
        """What the commands of the next step depend on besides the expert: which weights are on the device."""
        return ()

    def load(self) -> Iterator[Command]:
        """Commands before the first request: resident weights, pinned host copies, first prefetches."""
        yield from ()

    def begin_step(self, expert: int) -> Iterator[Command]:
        """Commands at the start of a step, which runs `expert`."""
        yield from ()

    def before_forward(self, expert: int) -> Iterator[Command]:
        """Commands of the transformer's forward pre-hook."""
        yield from ()

    def after_forward(self, expert: int) -> Iterator[Command]:
        """Commands of the transformer's forward hook."""
        yield from ()

    def before_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        """Commands of the block's forward pre-hook."""
        yield from ()

    def stops(self, index: int, template: Template) -> Iterable[int]:
        """Places within blocks of list `index` where the policy issues something: before which of their commands."""
        return ()

    def within_block(self, expert: int, index: int, block: int, stop: int) -> Iterator[Command]:
        """Commands that the policy issues at one of its `stops`."""
        yield from ()

    def after_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        """Commands of the block's forward hook."""
        yield from ()

    def before_module(self, expert: int, module: str) -> Iterator[Command]:
        """Commands of the forward pre-hook of a module with weights of its own, named within the transformer."""
        yield from ()

    def after_module(self, expert: int, module: str) -> Iterator[Command]:
        """Commands of the forward hook of a module with weights of its own."""
        yield from ()

    def finish(self) -> Iterator[Command]:
        """Commands after the last step."""
        yield from ()

    def encode(self, component: Component) -> Iterator[Command]:
        """Commands before the text is encoded."""
        yield from ()

    def decode(self, component: Component) -> Iterator[Command]:
        """Commands before the VAE decodes."""
        yield from ()

    def after_decoding(self, component: Component) -> Iterator[Command]:
        """Commands after the VAE has decoded."""
        yield from ()

    def weights(self, expert: int, index: int, block: int) -> str:
        """The buffer that a block's kernels read."""
        return self.sizes.buffer(expert, index, block)

    def module_weights(self, expert: int, module: str) -> tuple[str, ...]:
        """The buffers that a module's kernels read: its own, or (no name) those of the module around it."""
        return ()

    def other_weights(self, expert: int) -> tuple[str, ...]:
        """The buffers that embeddings and head read."""
        return (f"{EXPERT_NAMES[expert]} other",)

    def hold_other_weights(self) -> Iterator[Command]:
        """Allocations of every expert's weights outside its blocks, which stay on the device."""
        for expert in range(self.sizes.experts):
            yield Allocate(self.other_weights(expert)[0], self.sizes.other, COMPUTE)


def moved_in(name: str, bytes_: float, calls: int) -> Iterator[Command]:
    """torch's module.to(device) of pageable weights: tensor by tensor, blocking the host; the host's copy goes."""
    yield Allocate(name, bytes_, COMPUTE)
    yield Copy(COMPUTE, f"{name} in", "H2D", bytes_, "pageable", name, calls)
    yield Free(f"{name} on host")


def moved_out(name: str, bytes_: float, calls: int) -> Iterator[Command]:
    """torch's module.to("cpu"): into newly allocated pageable memory, whose pages the copy touches first."""
    yield Allocate(f"{name} on host", bytes_, "pageable")
    yield Copy(COMPUTE, f"{name} out", "D2H", bytes_, "fresh", name, calls)
    yield Free(name)


def hook_work(seconds: float) -> Iterator[Command]:
    """What a hook costs the host besides its calls, where the scenario says."""
    if seconds:
        yield HostWork("hook", seconds)


def wait_stream(waiter: str, awaited: str) -> Iterator[Command]:
    """torch's waiter.wait_stream(awaited): an event at the awaited stream's tail."""
    event = f"{awaited} tail for {waiter}"
    yield Record(awaited, event)
    yield Wait(waiter, event)
