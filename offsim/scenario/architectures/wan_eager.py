"""Wan as the diffusers library runs it eagerly: every kernel of WanTransformer3DModel's forward, in order.

Operations with weights are named as their modules; a block's modulation table is its own. Activations are bf16, what
the library computes in fp32 (norms, modulation, residuals, rotation) counts twice, strided halves of the rotation as
the whole rows that they touch. `live` follows the lifetimes of the library's Python variables; that a block's caller
holds its input is counted. Left out: kernels over single rows, workspaces of cuDNN. Read from diffusers 0.42.1, and
compared with it kernel by kernel in the tests.
"""

from typing import Protocol

from ..operations import Attention, Elementwise, Linear, Rows
from .pieces import Operations, Sizes

FP32 = 2
"""Elements of two bytes that an fp32 value takes."""
TABLE_BYTES = 4


class Outside(Protocol):
    """What lies around the blocks (`offsim.scenario.model.Embeddings` has it)."""

    @property
    def text_width(self) -> int: ...
    @property
    def frequencies(self) -> int: ...
    @property
    def inputs(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def positions(self) -> int: ...


def wan_eager(block: Sizes) -> Operations:
    """WanTransformerBlock: parameters as `wan`, elementwise kernels one by one."""
    d, heads, head = block.hidden, block.heads, block.head_dim
    text = block.text_hidden or d
    table = Elementwise("scale_shift_table", "condition", 6 * d * (1 + 2 * FP32), 6 * d, whole=True, live=d)
    return (
        table,
        *_modulated_norm("norm1", d, held=1),
        *_projections("attn1", d, d, "image", live=(3 * d, 4 * d, 5 * d)),
        *_qk_norms("attn1", d, "image", live=(6 * d, 6 * d)),
        *_rotation("q", d),
        *_rotation("k", d),
        Attention("attn1", "image", "image", heads, head, live=6 * d),
        Linear("attn1.to_out.0", d, d, "image", live=7 * d),
        *_gated_residual("attn1", d, held=3, casts=1),
        Elementwise("norm2 to fp32", "image", (1 + FP32) * d, live=6 * d),
        Elementwise("norm2", "image", 2 * FP32 * d, 2 * d, parts=2, live=8 * d),
        Elementwise("norm2 to bf16", "image", (FP32 + 1) * d, live=7 * d),
        *_projections("attn2", d, text, "text", live=(5 * d, 5 * d, 5 * d)),
        *_qk_norms("attn2", d, "text", live=(6 * d, 5 * d)),
        Attention("attn2", "image", "text", heads, head, live=6 * d),
        Linear("attn2.to_out.0", d, d, "image", live=7 * d),
        Elementwise("attn2 residual", "image", 3 * d, live=5 * d),
        *_modulated_norm("norm3", d, held=4),
        *_feed_forward(block),
        *_gated_residual("ffn", d, held=5, casts=2),
    )


def _modulated_norm(name: str, d: int, held: int) -> Operations:
    """norm(x.float()) * (1 + scale) + shift, back in bf16; `held` tensors of bf16 are alive around it."""
    both, cast = 2 * FP32 * d, (1 + FP32) * d
    return (
        Elementwise(f"{name} to fp32", "image", cast, live=(held + FP32) * d),
        Elementwise(f"{name} normalised", "image", both, live=(held + 2 * FP32) * d),
        Elementwise(f"{name} scaled", "image", both, live=(held + 2 * FP32) * d),
        Elementwise(f"{name} shifted", "image", both, live=(held + 2 * FP32) * d),
        Elementwise(f"{name} to bf16", "image", cast, live=(held + FP32 + 1) * d),
    )


def _projections(name: str, d: int, text: int, keys: Rows, live: tuple[int, int, int]) -> Operations:
    return (
        Linear(f"{name}.to_q", d, d, "image", live=live[0]),
        Linear(f"{name}.to_k", d if keys == "image" else text, d, keys, live=live[1]),
        Linear(f"{name}.to_v", d if keys == "image" else text, d, keys, live=live[2]),
    )


def _qk_norms(name: str, d: int, keys: Rows, live: tuple[int, int]) -> Operations:
    """RMSNorm across heads: one kernel each."""
    return (
        Elementwise(f"{name}.norm_q", "image", 2 * d, d, live=live[0]),
        Elementwise(f"{name}.norm_k", keys, 2 * d, d, live=live[1]),
    )


def _rotation(name: str, d: int) -> Operations:
    """Of even and odd columns: two products of bf16 and fp32, their difference or sum, and a cast into every second
    column. Five bf16 tensors are alive around it, and its output."""
    half = d // 2
    product, combined, cast = d + FP32 * half, 3 * FP32 * half, FP32 * half + d
    return tuple(
        Elementwise(f"rotation of {name}, {part} {what}", "image", elements, live=(6 + alive) * d)
        for part in ("even", "odd")
        for what, elements, alive in (
            ("by cos", product, 1),
            ("by sin", product, 2),
            ("combined", combined, 3),
            ("to bf16", cast, 1),
        )
    )


def _gated_residual(name: str, d: int, held: int, casts: int) -> Operations:
    """x.float() + y * gate, back in bf16; the FFN's y is cast first."""
    second = (Elementwise(f"{name} output to fp32", "image", (1 + FP32) * d, live=(held + 2 * FP32) * d),)
    gated = ((1 if casts == 1 else FP32) + FP32) * d
    alive = held + (2 if casts == 1 else 3) * FP32
    return (
        Elementwise(f"{name} residual to fp32", "image", (1 + FP32) * d, live=(held + FP32) * d),
        *(second if casts == 2 else ()),
        Elementwise(f"{name} gated", "image", gated, live=alive * d),
        Elementwise(f"{name} residual added", "image", 3 * FP32 * d, live=(held + 3 * FP32) * d),
        Elementwise(f"{name} residual to bf16", "image", (FP32 + 1) * d, live=(held + FP32 + 1) * d),
    )


def _feed_forward(block: Sizes) -> Operations:
    d, f = block.hidden, block.ffn
    return (
        Linear("ffn.net.0.proj", d, f, "image", live=4 * d + f),
        Elementwise("gelu", "image", 2 * f, live=4 * d + 2 * f),
        Linear("ffn.net.2", f, d, "image", live=5 * d + f),
    )


def wan_before_blocks(block: Sizes, outside: Outside) -> Operations:
    """Rotary tables of the sequence, patches, condition and text."""
    d, positions = block.hidden, outside.positions * block.head_dim * TABLE_BYTES
    tables = 2 * FP32 * block.head_dim
    embedder = "condition_embedder"
    return (
        Elementwise("rope", "image", tables, buffers=(positions, positions), kept=tables),
        Linear("patch_embedding", outside.inputs, d, "image", live=d),
        Elementwise("patches contiguous", "image", 2 * d, live=2 * d),
        Linear(f"{embedder}.time_embedder.linear_1", outside.frequencies, d, "condition", live=d),
        Linear(f"{embedder}.time_embedder.linear_2", d, d, "condition", live=d),
        Linear(f"{embedder}.time_proj", d, 6 * d, "condition", live=d),
        Linear(f"{embedder}.text_embedder.linear_1", outside.text_width, d, "text", live=d),
        Elementwise("text gelu", "text", 2 * d, live=d),
        Linear(f"{embedder}.text_embedder.linear_2", d, d, "text", live=d, kept=d),
    )


def wan_after_blocks(block: Sizes, outside: Outside) -> Operations:
    """The model's own table, the last norm, the projection to patches, and their order in the video."""
    d = block.hidden
    return (
        Elementwise("scale_shift_table", "condition", 2 * d * 3, 2 * d, whole=True, live=d),
        *_modulated_norm("norm_out", d, held=1),
        Linear("proj_out", d, outside.outputs, "image", live=2 * d),
        Elementwise("unpatchify", "image", 2 * outside.outputs, live=2 * d),
    )
