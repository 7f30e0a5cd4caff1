"""What a node's profile predicts for forwards of the real diffusers library.

Some costs are the library's own and are not in a profile. What its eager operators and its hooks' Python take of the
host is read off forwards of a model so small that nothing else counts; how fast its elementwise kernels are, which mix
bf16 and fp32, off these kernels alone; what the driver takes for memory that accelerate's emptied cache asks for anew,
and how fast pageable memory is read and fresh pages are written (which vary by a third from run to run on one machine),
off single tensors. Nothing is read off the forwards that are compared; that pageable reads are taken from single
tensors too was decided after the first forwards had been seen.
Left out: how these costs vary with length, but for the kernels'.
"""

from functools import cache
from statistics import median
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from offsim.program.block import kernel_of, layout_of
from offsim.program.build import build
from offsim.program.commands import Compute, HostWork
from offsim.program.load import check_scenario
from offsim.program.systems.resident import Resident
from offsim.results.predict import Prediction, predict
from offsim.scenario.architectures import ARCHITECTURES, outside_operations
from offsim.scenario.load import load_node
from offsim.scenario.model import BlockList, Embeddings, Model
from offsim.scenario.node import Node
from offsim.scenario.operations import Elementwise, parameter_count
from offsim.scenario.policy import Policy
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload

from .diffusers_records import ForwardRecord, ForwardShape
from .records import steady_resident

PREDICTED_FORWARDS = 4
PROBED_HOOK = 1e-3
DRIVER_CALLS_PER_TENSOR = 0.75
"""After a cache is emptied, memory comes from the driver: some 20 times in a block of 27 tensors, counted by running
the library's own tensors through a model of the allocator (tests/unit/test_driver_calls.py)."""


class ForwardError(NamedTuple):
    """One forward of the library and its prediction; errors are predicted / measured - 1."""

    record: ForwardRecord
    prediction: Prediction
    """The mode's run: its first forward, which may differ, and as many as were measured in a run."""
    reference: Prediction
    """The run without offloading: as many forwards as were measured in a run."""

    @property
    def seconds(self) -> float:
        """Predicted seconds of the mode's forward, read as it is measured."""
        return median(step.duration for step in self.prediction.steps[1:])

    @property
    def resident(self) -> float:
        """Predicted seconds of a forward without offloading, read as it is measured."""
        return steady_resident([[step.duration for step in self.reference.steps]])

    @property
    def predicted(self) -> float:
        """Predicted seconds of the mode's forward over those without offloading."""
        return self.seconds / self.resident

    @property
    def error(self) -> float:
        return self.predicted / self.record.ratio - 1

    @property
    def mode_error(self) -> float:
        """Error of the mode's forward in seconds."""
        return self.seconds / self.record.seconds - 1

    @property
    def resident_error(self) -> float:
        return self.resident / self.record.resident - 1

    @property
    def memory_error(self) -> float | None:
        peak = self.record.peak_allocated
        return None if peak is None else self.prediction.peak_allocated / peak - 1


def forward_error(record: ForwardRecord) -> ForwardError:
    """Predict one record with its node's profile and the library's own host costs."""
    node = load_node(str(record.profile))
    for read in (with_launch_cost, with_elementwise_rate, with_copy_rates):
        node = read(node, record)
    policy = with_host_costs(record, node)
    counts = 1 + max(map(len, record.mode_s)), max(map(len, record.resident_s))
    of = [
        predict(scenario_of(record.shape, record.tokens, node, which, steps))
        for which, steps in zip((policy, Resident()), counts, strict=True)
    ]
    return ForwardError(record, of[0], of[1])


def scenario_of(
    shape: ForwardShape, tokens: int, node: Node, policy: Policy, steps: int = PREDICTED_FORWARDS
) -> Scenario:
    """A scenario of so many forwards of the library's Wan, each drained before the next."""
    work = Workload(tokens=tokens, steps=steps, cfg="none", step_end="device", kernels="eager")
    scenario = Scenario(model_of(shape), work, node, policy, name="diffusers-forwards")
    check_scenario(scenario)
    return scenario


@cache
def model_of(shape: ForwardShape) -> Model:
    """The library's Wan as a model with these sizes."""
    sizes: dict[str, Any] = {
        "hidden": shape.heads * shape.head_dim,
        "heads": shape.heads,
        "head_dim": shape.head_dim,
        "ffn": shape.ffn,
    }
    parameters = parameter_count(ARCHITECTURES["wan"](_Sizes(**sizes)))
    blocks = BlockList("blocks", shape.blocks, "wan", parameters, **sizes, tensors=27)
    embeddings = Embeddings(shape.text_width)
    before, after = outside_operations(blocks, embeddings)
    return Model(
        "diffusers-wan",
        "WanTransformer3DModel with random weights",
        (blocks,),
        other_parameters=parameter_count((*before, *after)),
        source="diffusers",
        text_tokens=shape.text_tokens,
        embeddings=embeddings,
    )


class _Sizes(msgspec.Struct, frozen=True):
    """A block's sizes before its parameters are known."""

    hidden: int
    heads: int
    head_dim: int
    ffn: int
    architecture: str = "wan"
    text_hidden: int | None = None
    text_ffn: int | None = None
    extra: dict[str, int] = {}


def with_launch_cost(node: Node, record: ForwardRecord) -> Node:
    """The node with what one of the library's eager kernels costs the host, if the small model tells."""
    seconds = record.small.get("resident", [])
    if not seconds or record.small_shape is None:
        return node
    program = build(scenario_of(record.small_shape, record.small_tokens, node, Resident()))
    step = program.sections[program.step_number(PREDICTED_FORWARDS - 1)]
    kernels = sum(len(command.kernels) for command in step.commands if isinstance(command, Compute))
    launch = Quantity(median(seconds[1:]) / kernels, "measured", "forwards of a small model")
    return node.with_overheads(structs.replace(node.host.overheads, launch=launch))


def with_elementwise_rate(node: Node, record: ForwardRecord) -> Node:
    """The node with the rate of the library's elementwise kernels at this length, if they were timed alone."""
    if not record.elementwise or not record.per_block:
        return node
    measured = sum(times * median(record.elementwise[name]) for name, times in record.per_block.items())
    rate = elementwise_bytes(record, node) / measured
    curve = Curve(((1.0, rate),), "measured", "the library's elementwise kernels alone")
    return structs.replace(node, gpu=structs.replace(node.gpu, elementwise=curve))


def with_copy_rates(node: Node, record: ForwardRecord) -> Node:
    """The node with the rates of pageable copies, if single tensors were timed."""
    found = {"pageable_h2d": record.pageable_h2d, "fresh_d2h": record.fresh_d2h}
    rates = {key: Quantity(rate, "measured", "single tensors of a block") for key, rate in found.items() if rate}
    return structs.replace(node, host=structs.replace(node.host, **rates))


def elementwise_bytes(record: ForwardRecord, node: Node) -> float:
    """Bytes that a block's elementwise kernels over image rows read and write."""
    layout = layout_of(scenario_of(record.shape, record.tokens, node, Resident()))
    operations = model_of(record.shape).blocks[0].eager_operations() or ()
    image = [op for op in operations if isinstance(op, Elementwise) and op.rows == "image"]
    return sum(kernel_of(op, layout).bytes for op in image)


def with_host_costs(record: ForwardRecord, node: Node) -> Policy:
    """The policy with its hooks' cost, so that the small model takes as long as it took; and the driver's."""
    policy = record.policy
    seconds = record.small.get(record.mode, [])
    if "hook_cost" not in policy.parameters or len(seconds) < 3 or record.small_shape is None:
        return policy
    probed = scenario_of(record.small_shape, record.small_tokens, node, structs.replace(policy, hook_cost=PROBED_HOOK))
    program = build(probed)
    step = program.sections[program.step_number(PREDICTED_FORWARDS - 1)]
    hooks = sum(isinstance(command, HostWork) and command.name == "hook" for command in step.commands)
    without = predict(structs.replace(probed, policy=policy)).steps[-1].duration
    cost = max(0.0, median(seconds[2:]) - without) / hooks
    if "empty_cache" in policy.parameters:
        return structs.replace(policy, hook_cost=cost, empty_cache=DRIVER_CALLS_PER_TENSOR * record.driver_s)
    return structs.replace(policy, hook_cost=cost)
