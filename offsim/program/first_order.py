"""What a transformer block's kernels and the copy of its weights take alone, at a node's rates and without a clock.

These are the two sides of ChunkFlow's condition (arXiv 2605.11335, section 3): a copy hides behind a block if
F / (eta_c P) >= B / (eta_p BW). Here the left side is the sum over the block's kernels, each at the node's rate for its
size, and BW is what a GPU gets while all of them copy. Collectives are in neither; what one takes alone stands beside.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec.structs import replace

from offsim.scenario.node import Node
from offsim.scenario.scenario import Scenario

from .block import block_commands, layout_of
from .commands import Collective, Compute, Kernel
from .forwards import operations_of
from .roofline import kernel_duration

MOST_TIMES = 100
"""A size that is so many times as large as what is asked is not looked beyond."""


def copy_rate(scenario: Scenario) -> float:
    """Bytes/s that each rank gets from pinned host memory while all ranks copy: of the rank that gets least."""
    node, ranks = scenario.node, range(scenario.workload.gpus)
    shared = [(switch.gpus, switch.h2d.value) for switch in node.wiring.switches]
    memories = ((gpus, node.host.socket(i)) for i, gpus in enumerate(node.wiring.sockets))
    shared += [(gpus, min(memory.read.value, memory.total.value)) for gpus, memory in memories]
    users = [(sum(gpu in ranks for gpu in gpus), rate) for gpus, rate in shared]
    return min([node.wiring.pcie.h2d.value, *(rate / count for count, rate in users if count)])


def kernel_seconds(scenario: Scenario, kernels: Iterable[Kernel]) -> float:
    """Seconds of kernels one after the other, at the scenario's efficiency."""
    gpu, work = scenario.node.gpu, scenario.workload
    alone = sum(kernel_duration(kernel, gpu, work.attention_backend) for kernel in kernels)
    return alone / work.compute_efficiency


def collective_seconds(node: Node, command: Collective) -> float:
    """Seconds of a collective alone, at the rate of its size; none on a node without any."""
    kinds = node.wiring.collectives
    if kinds is None:
        return 0.0
    kind = kinds.all_to_all if command.kind == "all-to-all" else kinds.all_gather
    return kind.latency.value + command.bytes / kind.rate.at(max(command.bytes, 1.0))


def forward_seconds(scenario: Scenario) -> float:
    """Seconds of all blocks' kernels of one forward on one rank; without collectives, and without what is outside."""
    layout, total = layout_of(scenario), 0.0
    for blocks in scenario.model.blocks:
        commands = block_commands(operations_of(scenario, blocks), layout, "", ())
        kernels = [kernel for command in commands if isinstance(command, Compute) for kernel in command.kernels]
        total += blocks.count * kernel_seconds(scenario, kernels)
    return total


class HidingSize(NamedTuple):
    """The size of request from which on copies hide."""

    unit: Literal["frames", "tokens"]
    here: int
    first: int | None
    """The smallest at which they hide; None if they don't at a hundred times this size."""


def hiding_size(scenario: Scenario, forward_bytes: float) -> HidingSize:
    """The size from which on a forward's kernels last as long as the copies of so many bytes to each rank take alone.

    ChunkFlow's F* (arXiv 2605.11335, section 3) as a size: frames where the workload gives several, else tokens.
    """
    needed, frames = forward_bytes / copy_rate(scenario), scenario.workload.frames or 1
    stride = scenario.model.vae_stride[0] if frames > 1 else 1
    here = (frames - 1) // stride if frames > 1 else scenario.tokens
    low, high = -1 if frames > 1 else 0, max(1, MOST_TIMES * here)
    if forward_seconds(_sized(scenario, frames, high)) < needed:
        return HidingSize("frames" if frames > 1 else "tokens", frames if frames > 1 else here, None)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if forward_seconds(_sized(scenario, frames, middle)) < needed else (low, middle)
    if frames > 1:
        return HidingSize("frames", frames, stride * high + 1)
    return HidingSize("tokens", here, high)


def _sized(scenario: Scenario, frames: int, size: int) -> Scenario:
    """The scenario with so many latent frames after the first, or (of one frame) so many tokens."""
    if frames > 1:
        changed = {"frames": scenario.model.vae_stride[0] * size + 1}
        return replace(scenario, workload=replace(scenario.workload, **changed))
    work = replace(scenario.workload, width=None, height=None, frames=None, tokens=size)
    return replace(scenario, workload=work)
