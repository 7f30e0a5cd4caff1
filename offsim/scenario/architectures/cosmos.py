"""Cosmos-1.0, Cosmos-Predict2 and 2.5: self-attention, cross-attention to text, FFN, low-rank modulation."""

from ..operations import Attention, Elementwise, Linear
from .pieces import Operations, Sizes, extra, feed_forward, norm, qk_norm, residual, residual_norm


def cosmos(block: Sizes) -> Operations:
    """Cosmos: no bias anywhere; each of three sub-blocks has a low-rank modulation of rank r = extra.modulation_rank.

    3 (d r + 3 r d) modulation + 6 d^2 + 2 c d projections, c = text_hidden, + 4 head_dim + 2 d f (diffusers
    CosmosTransformerBlock). The learned position that 1.0 adds in every block is left out.
    """
    d = block.hidden
    return (
        *_modulation(block, 1),
        norm("norm1", d, "image"),
        Linear("self-attention qkv", d, 3 * d, "image", bias=False),
        qk_norm(d, "image", 2 * block.head_dim),
        Attention("self-attention", "image", "image", block.heads, block.head_dim),
        Linear("self-attention out", d, d, "image", bias=False),
        *_modulation(block, 2),
        residual_norm("norm2", d, "image"),
        *_cross_attention(block),
        *_modulation(block, 3),
        residual_norm("norm3", d, "image"),
        *feed_forward(d, block.ffn, "image", bias=False),
        residual(d, "image"),
    )


def _cross_attention(block: Sizes) -> Operations:
    d = block.hidden
    return (
        Linear("cross-attention q", d, d, "image", bias=False),
        Linear("cross-attention kv", block.text_hidden or d, 2 * d, "text", bias=False),
        Elementwise("cross qk norm", "image", 2 * d, 2 * block.head_dim),
        Attention("cross-attention", "image", "text", block.heads, block.head_dim),
        Linear("cross-attention out", d, d, "image", bias=False),
    )


def _modulation(block: Sizes, number: int) -> Operations:
    d, rank = block.hidden, extra(block, "modulation_rank")
    return (
        Linear(f"modulation {number} down", d, rank, "condition", bias=False),
        Linear(f"modulation {number} up", rank, 3 * d, "condition", bias=False),
    )
