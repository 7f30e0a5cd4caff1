"""Block architectures: which operations a block of each family consists of, from its sizes.

Each function follows the published module's forward order; its parameters are checked against counts of the real
class, so a shape that doesn't match its checkpoint cannot be loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .operations import Attention, Elementwise, Linear, Operation

if TYPE_CHECKING:
    from .model import BlockList


def wan(block: BlockList) -> tuple[Operation, ...]:
    """Wan 2.1 / 2.2: self-attention, cross-attention to text, FFN; one modulation table per block.

    8 (d^2 + d) projections + 4 d RMS scales + FFN 2 d f + f + d + 2 d cross norm + 6 d table (diffusers WanTransformerBlock).
    """
    d, f = block.hidden, block.ffn
    context = block.text_hidden or d
    return (
        Elementwise("norm1 and modulation", "image", 4 * d, 6 * d),
        Linear("self-attention qkv", d, 3 * d, "image"),
        Elementwise("qk norm and rope", "image", 4 * d, 2 * d),
        Attention("self-attention", "image", "image", block.heads, block.head_dim),
        Linear("self-attention out", d, d, "image"),
        Elementwise("gated residual and norm2", "image", 6 * d, 2 * d),
        Linear("cross-attention q", d, d, "image"),
        Linear("cross-attention kv", context, 2 * d, "text"),
        Elementwise("cross qk norm", "image", 2 * d, 2 * d),
        Attention("cross-attention", "image", "text", block.heads, block.head_dim),
        Linear("cross-attention out", d, d, "image"),
        Elementwise("residual, norm3 and modulation", "image", 6 * d, 0),
        Linear("ffn in", d, f, "image"),
        Elementwise("gelu", "image", 2 * f, 0),
        Linear("ffn out", f, d, "image"),
        Elementwise("gated residual", "image", 3 * d, 0),
    )


ARCHITECTURES: dict[str, Callable[[BlockList], tuple[Operation, ...]]] = {"wan": wan}


def block_operations(block: BlockList) -> tuple[Operation, ...]:
    """The operations of one block, in the order in which the module runs them."""
    return ARCHITECTURES[block.architecture](block)
