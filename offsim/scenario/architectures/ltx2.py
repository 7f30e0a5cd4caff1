"""LTX-2 and LTX-2.3: a video and an audio tower that attend to text and to each other.

Audio has about 25 tokens per second, so its tower is bound by reading its weights: its products count as one
row. Attention with audio on one side is bound by reading the video side, and counted as that. Left out: how
the towers exchange rows over several GPUs.
"""

from typing import NamedTuple

from ..operations import Attention, Elementwise, Linear, Rows
from .pieces import Operations, Sizes, extra, feed_forward, norm, qk_norm, residual, residual_norm, width


class _Tower(NamedTuple):
    """One modality's sizes; `attention` is the columns of its own attentions."""

    rows: Rows
    hidden: int
    heads: int
    attention: int
    ffn: int
    text: int
    tables: int
    """Rows of modulation tables in the block."""


def ltx2(block: Sizes) -> Operations:
    """LTX-2: per tower self-attention, text cross-attention, cross-attention to the other tower, FFN.

    An attention of width w from q to kv columns has q w + 2 kv w + w q weights, their biases (3 w + q), 2 w
    norms, and q heads + heads if extra.gated. Per tower three attentions (across towers of audio width), FFN
    2 d f + f + d, and tables of 11 d, or 16 d with extra.text_modulation (diffusers
    LTX2VideoTransformerBlock).
    """
    video, audio = _towers(block)
    return (
        *_self_attention(block, video),
        *_self_attention(block, audio),
        *_text_attention(block, video),
        *_text_attention(block, audio),
        *_across(block, "audio-to-video", video, audio),
        *_across(block, "video-to-audio", audio, video),
        *_ffn(video),
        *_ffn(audio),
    )


def _towers(block: Sizes) -> tuple[_Tower, _Tower]:
    tables = 16 if extra(block, "text_modulation") else 11
    d, a = block.hidden, extra(block, "audio_hidden")
    heads = extra(block, "audio_heads")
    attention = heads * extra(block, "audio_head_dim")
    video = _Tower("image", d, block.heads, width(block), block.ffn, block.text_hidden or d, tables)
    ffn, text = extra(block, "audio_ffn"), extra(block, "audio_text")
    return video, _Tower("condition", a, heads, attention, ffn, text, tables)


def _self_attention(block: Sizes, tower: _Tower) -> Operations:
    d, w, rows = tower.hidden, tower.attention, tower.rows
    if rows == "image":
        kernel: Attention | Elementwise = Attention("self-attention", rows, rows, block.heads, block.head_dim)
    else:
        kernel = Elementwise("audio self-attention", rows, 4 * w)
    return (
        norm("norm1", d, rows, tower.tables * d),
        *_gate(block, tower),
        Linear("self-attention qkv", d, 3 * w, rows),
        qk_norm(w, rows, 2 * w),
        kernel,
        Linear("self-attention out", w, d, rows),
    )


def _text_attention(block: Sizes, tower: _Tower) -> Operations:
    d, w, rows = tower.hidden, tower.attention, tower.rows
    return (
        residual_norm("norm2", d, rows),
        *_gate(block, tower),
        Linear("cross-attention q", d, w, rows),
        Linear("cross-attention kv", tower.text, 2 * w, "text"),
        Elementwise("cross qk norm", rows, 2 * w, 2 * w),
        Attention("cross-attention", rows, "text", tower.heads, w // tower.heads),
        Linear("cross-attention out", w, d, rows),
    )


def _across(block: Sizes, name: str, query: _Tower, key: _Tower) -> Operations:
    """Attention from one tower to the other, as wide as the audio tower's attention."""
    w = extra(block, "audio_heads") * extra(block, "audio_head_dim")
    return (
        residual_norm(f"{name} norm", query.hidden, query.rows),
        norm(f"{name} key norm", key.hidden, key.rows),
        *_gate(block, query._replace(heads=extra(block, "audio_heads"), attention=w)),
        Linear(f"{name} q", query.hidden, w, query.rows),
        Linear(f"{name} kv", key.hidden, 2 * w, key.rows),
        Elementwise(f"{name} q norm and rope", query.rows, 2 * w, w),
        Elementwise(f"{name} k norm and rope", key.rows, 2 * w, w),
        Elementwise(f"{name} attention", "image", 2 * w),
        Linear(f"{name} out", w, query.hidden, query.rows),
    )


def _gate(block: Sizes, tower: _Tower) -> Operations:
    """One sigmoid gate per head on the attention's output (LTX-2.3)."""
    if not extra(block, "gated"):
        return ()
    return (
        Linear("attention gate", tower.hidden, tower.heads, tower.rows),
        Elementwise("gate", tower.rows, 2 * tower.attention),
    )


def _ffn(tower: _Tower) -> Operations:
    d, rows = tower.hidden, tower.rows
    return residual_norm("norm3", d, rows), *feed_forward(d, tower.ffn, rows), residual(d, rows)
