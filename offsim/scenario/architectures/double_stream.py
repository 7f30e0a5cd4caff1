"""Blocks of the FLUX kind: text and image as two streams that meet in attention, then as one stream."""

from ..operations import Attention, Elementwise, Linear, Rows
from .pieces import (
    Operations,
    Sizes,
    feed_forward,
    gated_feed_forward,
    joint_attention,
    norm,
    qk_norm,
    residual,
    residual_norm,
    width,
)


def flux_double(block: Sizes) -> Operations:
    """FLUX.1, HunyuanVideo, HunyuanVideo-1.5, Qwen-Image: two streams of equal width, each with a modulation.

    2 (6 d^2 + 6 d) modulation + 8 (d^2 + d) projections + 4 head_dim + 2 (2 d f + f + d) FFN (diffusers
    FluxTransformerBlock, HunyuanVideoTransformerBlock, HunyuanVideo15TransformerBlock,
    QwenImageTransformerBlock).
    """
    d, f = block.hidden, block.ffn
    return (
        Linear("image modulation", d, 6 * d, "condition"),
        Linear("text modulation", d, 6 * d, "condition"),
        *stream_in(block, d, "image", bias=True),
        *stream_in(block, d, "text", bias=True),
        *joint_attention(block),
        *stream_out(block, d, "image", feed_forward(d, f, "image"), bias=True),
        *stream_out(block, d, "text", feed_forward(d, f, "text"), bias=True),
    )


def flux_single(block: Sizes) -> Operations:
    """FLUX.1, HunyuanVideo: one stream, attention and FFN side by side.

    3 (d^2 + d) modulation + 3 (d^2 + d) q, k, v + 2 head_dim + d f + f FFN in + (d + f) d + d out (diffusers
    FluxSingleTransformerBlock, HunyuanVideoSingleTransformerBlock).
    """
    d, f = block.hidden, block.ffn
    return (
        Linear("modulation", d, 3 * d, "condition"),
        norm("norm", d, "joint"),
        Linear("ffn in", d, f, "joint"),
        Elementwise("gelu", "joint", 2 * f),
        Linear("qkv", d, 3 * width(block), "joint"),
        *_parallel_attention(block),
        Linear("attention and ffn out", width(block) + f, d, "joint"),
        residual(d, "joint"),
    )


def flux2_double(block: Sizes) -> Operations:
    """FLUX.2: `flux_double` with SwiGLU and without bias; all blocks share a modulation outside of them.

    8 d^2 projections + 4 head_dim + 6 d f FFN (diffusers Flux2TransformerBlock).
    """
    d, f = block.hidden, block.ffn
    return (
        *stream_in(block, d, "image", bias=False),
        *stream_in(block, d, "text", bias=False),
        *joint_attention(block),
        *stream_out(block, d, "image", gated_feed_forward(d, f, "image"), bias=False),
        *stream_out(block, d, "text", gated_feed_forward(d, f, "text"), bias=False),
    )


def flux2_single(block: Sizes) -> Operations:
    """FLUX.2: q, k, v and FFN in as one product, both outputs as another, without bias; modulation outside.

    d (3 d + 2 f) + (d + f) d + 2 head_dim (diffusers Flux2SingleTransformerBlock).
    """
    d, f = block.hidden, block.ffn
    return (
        norm("norm", d, "joint"),
        Linear("qkv and ffn in", d, 3 * width(block) + 2 * f, "joint", bias=False),
        *_parallel_attention(block),
        Elementwise("swiglu", "joint", 5 * f),
        Linear("attention and ffn out", width(block) + f, d, "joint", bias=False),
        residual(d, "joint"),
    )


def stream_in(block: Sizes, hidden: int, rows: Rows, *, bias: bool) -> Operations:
    """One stream up to its queries, keys and values."""
    return (
        norm("norm1", hidden, rows),
        Linear("qkv", hidden, 3 * width(block), rows, bias),
        qk_norm(width(block), rows, 2 * block.head_dim),
    )


def stream_out(block: Sizes, hidden: int, rows: Rows, ffn: Operations, *, bias: bool) -> Operations:
    """One stream from the attention's output to the end of the block."""
    return (
        Linear("attention out", width(block), hidden, rows, bias),
        residual_norm("norm2", hidden, rows),
        *ffn,
        residual(hidden, rows),
    )


def _parallel_attention(block: Sizes) -> Operations:
    """Attention of a single stream, its output concatenated with the FFN's."""
    return (
        qk_norm(width(block), "joint", 2 * block.head_dim),
        Attention("joint attention", "joint", "joint", block.heads, block.head_dim),
        Elementwise("concatenate attention and ffn", "joint", 2 * (width(block) + block.ffn)),
    )
