"""What a transformer block's kernels and the copy of its weights take alone, at a node's rates and without a clock.

These are the two sides of ChunkFlow's condition (arXiv 2605.11335, section 3): a copy hides behind a block if
F / (eta_c P) >= B / (eta_p BW). Here the left side is the sum over the block's kernels, each at the node's rate for its
size, and BW is what a GPU gets while all of them copy. Collectives are in neither.
"""

from collections.abc import Iterable

from offsim.scenario.scenario import Scenario

from .commands import Compute, Kernel, Template
from .roofline import kernel_duration


def copy_rate(scenario: Scenario) -> float:
    """Bytes/s that each rank gets from pinned host memory while all ranks copy: of the rank that gets least."""
    node, ranks = scenario.node, range(scenario.workload.gpus)
    shared = [(switch.gpus, switch.h2d.value) for switch in node.switches]
    shared += [(socket.gpus, min(socket.read.value, socket.total.value)) for socket in node.host.sockets]
    users = [(sum(gpu in ranks for gpu in gpus), rate) for gpus, rate in shared]
    return min([node.pcie.h2d.value, *(rate / count for count, rate in users if count)])


def kernel_seconds(scenario: Scenario, kernels: Iterable[Kernel]) -> float:
    """Seconds of kernels one after the other, at the scenario's efficiency."""
    gpu, work = scenario.node.gpu, scenario.workload
    alone = sum(kernel_duration(kernel, gpu, work.attention_backend) for kernel in kernels)
    return alone / work.compute_efficiency


def template_seconds(scenario: Scenario, template: Template) -> float:
    """Seconds of all kernels of a block."""
    computes = [command for command in template.commands if isinstance(command, Compute)]
    return sum(kernel_seconds(scenario, command.kernels) for command in computes)
