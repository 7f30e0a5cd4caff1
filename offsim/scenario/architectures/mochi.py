"""Mochi: two streams of different width; the last block drops the text stream after attention."""

from ..operations import Linear
from .double_stream import stream_in, stream_out
from .pieces import Operations, Sizes, gated_feed_forward, joint_attention, width


def mochi(block: Sizes) -> Operations:
    """An asymmetric double-stream block: d wide for video, t = text_hidden for text, w = heads x head_dim.

    Modulation 4 d (d + 1) + 4 t (d + 1), projections 4 w (d + t), bias of the outputs d + t, 4 head_dim,
    SwiGLU 3 d f + 3 t text_ffn (diffusers MochiTransformerBlock).
    """
    d, t = block.hidden, _text(block)
    ffn = gated_feed_forward(t, block.text_ffn or block.ffn, "text")
    return (
        Linear("image modulation", d, 4 * d, "condition"),
        Linear("text modulation", d, 4 * t, "condition"),
        *_attention(block),
        *_image_out(block),
        *stream_out(block, t, "text", ffn, bias=True),
    )


def mochi_last(block: Sizes) -> Operations:
    """Mochi's last block: text only serves as keys and values, so it has one scale and no output.

    Modulation 4 d (d + 1) + t (d + 1), projections 4 w d + 3 w t, d, 4 head_dim, 3 d f (diffusers
    MochiTransformerBlock with context_pre_only).
    """
    d = block.hidden
    return (
        Linear("image modulation", d, 4 * d, "condition"),
        Linear("text scale", d, _text(block), "condition"),
        *_attention(block),
        *_image_out(block),
    )


def _text(block: Sizes) -> int:
    return block.text_hidden or block.hidden


def _attention(block: Sizes) -> Operations:
    return (
        *stream_in(block, block.hidden, "image", bias=False),
        *stream_in(block, _text(block), "text", bias=False),
        *joint_attention(block),
    )


def _image_out(block: Sizes) -> Operations:
    d = block.hidden
    if width(block) != d:
        wide = f"{block.heads} x head_dim={block.head_dim}"
        raise ValueError(f"heads={wide} is {width(block)}: Mochi's attention is as wide as hidden={d}")
    return stream_out(block, d, "image", gated_feed_forward(d, block.ffn, "image"), bias=True)
