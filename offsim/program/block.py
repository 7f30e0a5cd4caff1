"""A transformer block as kernels and all-to-alls of one rank.

Ulysses: tokens are sharded outside attention, heads inside; text tokens are replicated. Each exchanged tensor costs a
relayout before and after its call. FLOPs: 2 rows in out for products, 4 queries keys width for attention.
Left out: fusion of kernels, and load imbalance between ranks.
"""

from collections.abc import Iterator
from typing import NamedTuple

from offsim.scenario.operations import Attention, Elementwise, Linear, Operation, Rows
from offsim.scenario.scenario import Scenario

from .commands import COMPUTE, Collective, Command, Compute, Kernel

ACTIVATION_BYTES = 2
"""Activations are bf16 whatever the weights are stored in."""


class Layout(NamedTuple):
    """Rows of one forward on one rank."""

    degree: int
    """Ranks that share the sequence."""
    tokens: int
    """Image tokens of one sample over all ranks."""
    text: int
    batch: int
    calls: int
    """All-to-all calls per block: 8, 4 or 2."""

    def rows(self, kind: Rows) -> int:
        """Rows on this rank."""
        image, text = self.tokens // self.degree, self.text
        return self.batch * {"image": image, "text": text, "joint": image + text, "condition": 1}[kind]

    def sequence(self, kind: Rows) -> int:
        """Rows of the whole sequence of one sample."""
        return {"image": self.tokens, "text": self.text, "joint": self.tokens + self.text, "condition": 1}[kind]


def layout_of(scenario: Scenario) -> Layout:
    """The layout that a scenario's workload asks for."""
    work, model = scenario.workload, scenario.model
    return Layout(scenario.ulysses, scenario.tokens, model.text_tokens, work.batch(model), work.all_to_all_calls)


def exchanged_bytes(layout: Layout, tokens: int, width: int) -> float:
    """Bytes that a rank sends to the others in one all-to-all of a (tokens, width) tensor: 2 B S d (P - 1) / P^2,
    B samples a forward.

    86,400 tokens x 5120 over 8 ranks: 96.8 MB; over 4: 165.9 MB.
    """
    degree = layout.degree
    return ACTIVATION_BYTES * layout.batch * tokens * width * (degree - 1) / degree**2


STAGES = ("self-attention", "cross-attention", "ffn", "attention", "mlp", "attn1", "attn2")
"""Parts of a block by which its kernels are grouped into commands, as far as operations name them."""


def block_commands(
    operations: tuple[Operation, ...], layout: Layout, name: str, reads: tuple[str, ...]
) -> Iterator[Command]:
    """The commands of one block on the compute stream, in the module's order."""
    pending: list[Kernel] = []

    def flush(stage: str) -> Iterator[Command]:
        if pending:
            yield Compute(COMPUTE, f"{name} {stage}", tuple(pending), reads)
            pending.clear()

    stage = next((found for operation in operations if (found := _stage(operation, ""))), "kernels")
    for operation in operations:
        if _stage(operation, stage) != stage:
            yield from flush(stage)
            stage = _stage(operation, stage)
        if not isinstance(operation, Attention) or not _exchanged(operation, layout):
            pending.append(kernel_of(operation, layout))
            continue
        for call, bytes_, kernels_before, kernels_after in _exchanges(operation, layout):
            pending.extend(kernels_before)
            yield from flush(stage)
            yield Collective(COMPUTE, f"{name} {call}", "all-to-all", bytes_)
            pending.extend(kernels_after)
    yield from flush(stage)


def _stage(operation: Operation, current: str) -> str:
    """The part of the block that an operation belongs to: named, or the one before."""
    return next((stage for stage in STAGES if stage in operation.name), current)


def kernel_of(operation: Operation, layout: Layout) -> Kernel:
    """The kernel of one operation on one rank."""
    if isinstance(operation, Linear):
        rows = layout.rows(operation.rows)
        flops = 2.0 * rows * operation.inputs * operation.outputs
        moved = ACTIVATION_BYTES * (
            rows * (operation.inputs + operation.outputs) + operation.inputs * operation.outputs
        )
        return Kernel("gemm", flops, float(moved), rows, (rows, operation.inputs, operation.outputs))
    if isinstance(operation, Attention):
        return _attention_kernel(operation, layout)
    return elementwise(layout.rows(operation.rows), operation.elements)


def elementwise(rows: int, elements: float) -> Kernel:
    """A kernel that reads and writes `elements` activations per row in all."""
    return Kernel("elementwise", 0.0, ACTIVATION_BYTES * elements * rows, 1.0, (rows, round(elements)))


def _attention_kernel(operation: Attention, layout: Layout) -> Kernel:
    """Attention over the keys of one sample: whole sequence and heads / P after an exchange, else local queries.

    Early versions that exchanged cross-attention gathered every rank's copy of the text: text x P keys.
    """
    exchanged = _exchanged(operation, layout)
    keys = layout.sequence(operation.keys) * (layout.degree if exchanged and operation.keys == "text" else 1)
    queries = float(layout.rows(operation.queries))
    if operation.keys != "text":
        queries = layout.batch * layout.sequence(operation.queries) / layout.degree
    key_columns = operation.key_width / (layout.degree if exchanged else 1)
    moved = ACTIVATION_BYTES * 2 * (queries * operation.width + layout.batch * keys * key_columns)
    heads = operation.heads // (layout.degree if exchanged else 1)
    rows = round(queries * operation.heads / heads / layout.batch)
    shape = (layout.batch, heads, rows, keys, operation.head_dim)
    return Kernel("attention", 4.0 * queries * keys * operation.width, float(moved), keys, shape)


def _exchanged(operation: Attention, layout: Layout) -> bool:
    """Early versions exchanged cross-attention too (8 calls)."""
    across = layout.calls == 8 and operation.queries != "text"
    return layout.degree > 1 and (operation.keys != "text" or across)


Exchange = tuple[str, float, list[Kernel], list[Kernel]]


def _exchanges(operation: Attention, layout: Layout) -> Iterator[Exchange]:
    """(call, bytes, kernels before, kernels after) of the all-to-alls around one attention."""
    tokens = layout.tokens
    # Early versions gathered the replicated text of every rank.
    key_tokens = layout.text * layout.degree if operation.keys == "text" else tokens
    inputs = [
        ("q", tokens, operation.width),
        ("k", key_tokens, operation.key_width),
        ("v", key_tokens, operation.key_width),
    ]
    if layout.calls == 2:
        inputs = [("qkv", tokens, operation.width + 2 * operation.key_width)]
    for i, (tensor, rows, width) in enumerate(inputs):
        before, after = _relayout(layout, rows, width), _relayout(layout, rows, width)
        last = [_attention_kernel(operation, layout)] if i == len(inputs) - 1 else []
        yield f"{operation.name} {tensor}", exchanged_bytes(layout, rows, width), [before], [after, *last]
    out = _relayout(layout, tokens, operation.width)
    yield f"{operation.name} out", exchanged_bytes(layout, tokens, operation.width), [out], [out]


def _relayout(layout: Layout, tokens: int, width: int) -> Kernel:
    """permute(...).contiguous() of a rank's part: read once, written once."""
    part = layout.batch * tokens * width / layout.degree
    shape = (layout.batch * tokens // layout.degree, layout.degree, width // layout.degree)
    return Kernel("relayout", 0.0, 2 * ACTIVATION_BYTES * part, 1.0, shape)


def graph_break(layout: Layout, hidden: int, name: str) -> Compute:
    """What a graph break between two compiled blocks costs: the residual stream is written and read once more.

    In one graph the compiler fuses a block's last residual with the next block's first norm. At 10,800 x 5120 rows
    that is 221 MB; measured on an H100 SXM, compiled with and without a break: 0.05 to 0.07 ms a block.
    """
    return Compute(COMPUTE, f"{name} graph break", (elementwise(layout.rows("image"), 2 * hidden),))


def activation_bytes(operations: tuple[Operation, ...], layout: Layout, hidden: int) -> float:
    """Peak activations of a block on one rank: what operations say is alive while they run, where they do.

    Else the residual stream plus the largest operation's inputs and outputs.
    """
    return live_bytes(operations, layout) or largest_bytes(operations, layout, hidden)


def largest_bytes(operations: tuple[Operation, ...], layout: Layout, hidden: int) -> float:
    """The residual stream plus the largest operation's inputs and outputs.

    Counted as eager PyTorch holds them: a product holds input and output, attention q, k, v and output, each
    exchanged tensor its staging copy.
    """
    residual = layout.rows("image") * hidden
    return ACTIVATION_BYTES * (residual + max(_live_elements(op, layout) for op in operations))


def live_bytes(operations: tuple[Operation, ...], layout: Layout) -> float:
    """Activations that operations find alive, at most; 0 where they don't tell."""
    return ACTIVATION_BYTES * max((op.live for op in operations), default=0.0) * layout.rows("image")


def kept_bytes(operations: tuple[Operation, ...], layout: Layout) -> float:
    """What operations before the blocks leave alive through the whole forward: rotary tables, the text."""
    kept = [op.kept * layout.rows(op.rows) for op in operations if not isinstance(op, Attention)]
    return ACTIVATION_BYTES * sum(kept)


class Stretch(NamedTuple):
    """Operations in a row: those of one module with weights, or those between two of them."""

    module: str
    """The module's name; empty between modules."""
    operations: tuple[Operation, ...]

    @property
    def title(self) -> str:
        """What the stretch's kernels are called."""
        return self.module or self.operations[0].name


def stretches(operations: tuple[Operation, ...]) -> list[Stretch]:
    """Operations cut at every module that has weights or buffers of its own; tables of the enclosing one don't cut."""
    found: list[Stretch] = []
    for operation in operations:
        module = operation.name if _has_module(operation) else ""
        if found and not module and not found[-1].module:
            found[-1] = Stretch("", (*found[-1].operations, operation))
        else:
            found.append(Stretch(module, (operation,)))
    return found


def _has_module(operation: Operation) -> bool:
    if isinstance(operation, Elementwise):
        return bool(operation.tensors or operation.buffers) and not operation.whole
    return bool(operation.tensors)


def _live_elements(operation: Operation, layout: Layout) -> float:
    if isinstance(operation, Linear):
        return layout.rows(operation.rows) * (operation.inputs + operation.outputs)
    if isinstance(operation, Elementwise):
        return layout.rows(operation.rows) * operation.elements / 2
    live = layout.rows(operation.queries) * (2 * operation.width + 2 * operation.key_width)
    return live * 2 if _exchanged(operation, layout) else live
