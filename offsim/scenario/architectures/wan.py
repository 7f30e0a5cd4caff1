"""Wan 2.1 and 2.2: self-attention over video, cross-attention to text (and to an image), plain FFN."""

from ..operations import Attention, Elementwise, Linear
from .pieces import Operations, Sizes


def wan(block: Sizes) -> Operations:
    """Wan 2.1 / 2.2: self-attention, cross-attention to text, FFN; one modulation table per block.

    8 (d^2 + d) projections + 4 d RMS scales + FFN 2 d f + f + d + 2 d cross norm + 6 d table (diffusers
    WanTransformerBlock).
    """
    return (*_self_attention(block), *_text_attention(block), *_out_and_ffn(block))


def wan_i2v(block: Sizes) -> Operations:
    """Wan 2.1 image-to-video: `wan` plus keys and values of the image's 257 CLIP tokens, 2 (d^2 + d) + d.

    They count as text rows (512 of them): 0.3 % too many FLOPs of attention at 75,600 tokens (diffusers
    WanTransformerBlock with added_kv_proj_dim).
    """
    d = block.hidden
    image = (
        Linear("image cross-attention kv", d, 2 * d, "text"),
        Elementwise("image cross k norm", "text", 2 * d, d),
        Attention("image cross-attention", "image", "text", block.heads, block.head_dim),
        Elementwise("add image cross-attention", "image", 3 * d),
    )
    return (*_self_attention(block), *_text_attention(block), *image, *_out_and_ffn(block))


def _self_attention(block: Sizes) -> Operations:
    d = block.hidden
    return (
        Elementwise("norm1 and modulation", "image", 4 * d, 6 * d),
        Linear("self-attention qkv", d, 3 * d, "image"),
        Elementwise("qk norm and rope", "image", 4 * d, 2 * d),
        Attention("self-attention", "image", "image", block.heads, block.head_dim),
        Linear("self-attention out", d, d, "image"),
        Elementwise("gated residual and norm2", "image", 6 * d, 2 * d),
    )


def _text_attention(block: Sizes) -> Operations:
    d = block.hidden
    return (
        Linear("cross-attention q", d, d, "image"),
        Linear("cross-attention kv", block.text_hidden or d, 2 * d, "text"),
        Elementwise("cross qk norm", "image", 2 * d, 2 * d),
        Attention("cross-attention", "image", "text", block.heads, block.head_dim),
    )


def _out_and_ffn(block: Sizes) -> Operations:
    d, f = block.hidden, block.ffn
    return (
        Linear("cross-attention out", d, d, "image"),
        Elementwise("residual, norm3 and modulation", "image", 6 * d, 0),
        Linear("ffn in", d, f, "image"),
        Elementwise("gelu", "image", 2 * f, 0),
        Linear("ffn out", f, d, "image"),
        Elementwise("gated residual", "image", 3 * d, 0),
    )
