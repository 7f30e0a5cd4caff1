"""Blocks that run text and video as one sequence through the same weights."""

from ..operations import Attention, Elementwise, Linear, Rows
from .pieces import (
    Operations,
    Sizes,
    extra,
    feed_forward,
    gated_feed_forward,
    norm,
    qk_norm,
    residual,
    residual_norm,
    width,
)


def cogvideox(block: Sizes) -> Operations:
    """CogVideoX: one sequence, but text and video each have a modulation before attention and before the FFN.

    With c = extra.time_embedding: 2 (6 d (c + 1) + 2 d) modulation and norms + 4 (d^2 + d) projections
    + 4 head_dim + 2 d f + f + d (diffusers CogVideoXBlock).
    """
    d, c = block.hidden, extra(block, "time_embedding")
    return (
        Linear("modulation 1", c, 6 * d, "condition"),
        norm("norm1", d, "joint", 2 * d),
        *_attention(block, "joint", norm_parameters=4 * block.head_dim, bias=True),
        Linear("modulation 2", c, 6 * d, "condition"),
        residual_norm("norm2", d, "joint", 2 * d),
        *feed_forward(d, block.ffn, "joint"),
        residual(d, "joint"),
    )


def z_image(block: Sizes) -> Operations:
    """Z-Image's main layers: sandwich norms, SwiGLU, modulation from c = extra.condition columns.

    4 d (c + 1) modulation + 4 d^2 + 2 head_dim + 4 d norms + 3 d f (diffusers ZImageTransformerBlock).
    """
    return _z_image(block, "joint", modulated=True)


def z_image_noise_refiner(block: Sizes) -> Operations:
    """Z-Image's noise refiner: `z_image` over image rows only."""
    return _z_image(block, "image", modulated=True)


def z_image_context_refiner(block: Sizes) -> Operations:
    """Z-Image's context refiner: over text rows, without modulation: 4 d^2 + 2 head_dim + 4 d + 3 d f."""
    return _z_image(block, "text", modulated=False)


def minimax_h3(block: Sizes) -> Operations:
    """MiniMax-H3: one packed sequence of text, video and audio; modulation per modality (three of them).

    With c = extra.time_embedding and w = heads x head_dim, wider than d: 18 d (c + 1) modulation + 4 d w +
    2 head_dim + 2 d norms + 3 d f (diffusers MiniMaxH3TransformerBlock). Audio rows are left out.
    """
    d, modalities = block.hidden, 3
    return (
        Linear("modulation", extra(block, "time_embedding"), 6 * d * modalities, "condition"),
        norm("norm1", d, "joint", d),
        *_attention(block, "joint", norm_parameters=2 * block.head_dim, bias=False),
        residual_norm("norm2", d, "joint", d),
        *gated_feed_forward(d, block.ffn, "joint"),
        residual(d, "joint"),
    )


def _z_image(block: Sizes, rows: Rows, *, modulated: bool) -> Operations:
    d = block.hidden
    modulation = (Linear("modulation", extra(block, "condition"), 4 * d, "condition"),) if modulated else ()
    return (
        *modulation,
        norm("norm1", d, rows, d),
        *_attention(block, rows, norm_parameters=2 * block.head_dim, bias=False),
        Elementwise("norm of the attention's output", rows, 2 * d, d),
        residual_norm("ffn norm", d, rows, d),
        *gated_feed_forward(d, block.ffn, rows),
        Elementwise("norm of the ffn's output", rows, 2 * d, d),
        residual(d, rows),
    )


def _attention(block: Sizes, rows: Rows, *, norm_parameters: int, bias: bool) -> Operations:
    return (
        Linear("qkv", block.hidden, 3 * width(block), rows, bias),
        qk_norm(width(block), rows, norm_parameters),
        Attention("self-attention", rows, rows, block.heads, block.head_dim),
        Linear("attention out", width(block), block.hidden, rows, bias),
    )
