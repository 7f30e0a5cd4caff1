"""Groups of operations that several block families share.

Elementwise work is counted in passes over device memory as eager PyTorch makes them: a norm, a modulation, an
activation each read and write their rows once; a gated residual reads two tensors and writes one; SwiGLU is
an activation (2 f) and a product (3 f).
"""

from typing import Protocol

from ..operations import Attention, Elementwise, Linear, Operation, Rows

Operations = tuple[Operation, ...]


class Sizes(Protocol):
    """The sizes of a block that an architecture reads (`offsim.scenario.model.BlockList` has them)."""

    @property
    def architecture(self) -> str: ...
    @property
    def hidden(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def ffn(self) -> int: ...
    @property
    def text_hidden(self) -> int | None: ...
    @property
    def text_ffn(self) -> int | None: ...
    @property
    def extra(self) -> dict[str, int]: ...


def width(block: Sizes) -> int:
    """Columns of the attention: not always the hidden size."""
    return block.heads * block.head_dim


def extra(block: Sizes, key: str) -> int:
    """A size that only this architecture knows; raises ValueError if the block lacks it."""
    if key not in block.extra:
        raise ValueError(f"extra.{key}: missing, architecture {block.architecture!r} needs it")
    return block.extra[key]


def norm(name: str, hidden: int, rows: Rows, parameters: int = 0) -> Elementwise:
    """A norm and its modulation: two passes."""
    return Elementwise(f"{name} and modulation", rows, 4 * hidden, parameters)


def residual_norm(name: str, hidden: int, rows: Rows, parameters: int = 0) -> Elementwise:
    """A gated residual, then a norm and its modulation."""
    return Elementwise(f"gated residual, {name} and modulation", rows, 7 * hidden, parameters)


def residual(hidden: int, rows: Rows) -> Elementwise:
    """A gated residual: two tensors read, one written."""
    return Elementwise("gated residual", rows, 3 * hidden)


def qk_norm(columns: int, rows: Rows, parameters: int) -> Elementwise:
    """Norm of queries and keys with RoPE: both read and written once."""
    return Elementwise("qk norm and rope", rows, 4 * columns, parameters)


def joint_attention(block: Sizes) -> Operations:
    """Attention over text and image rows, whose q, k and v two streams have projected."""
    concatenation = Elementwise("concatenate text and image", "joint", 6 * width(block))
    return concatenation, Attention("joint attention", "joint", "joint", block.heads, block.head_dim)


def feed_forward(hidden: int, ffn: int, rows: Rows, *, bias: bool = True) -> Operations:
    """Two products around a GELU: 2 d f, plus f + d with bias."""
    return (
        Linear("ffn in", hidden, ffn, rows, bias),
        Elementwise("gelu", rows, 2 * ffn),
        Linear("ffn out", ffn, hidden, rows, bias),
    )


def gated_feed_forward(hidden: int, ffn: int, rows: Rows) -> Operations:
    """SwiGLU without bias: 3 d f."""
    return (
        Linear("ffn in", hidden, 2 * ffn, rows, bias=False),
        Elementwise("swiglu", rows, 5 * ffn),
        Linear("ffn out", ffn, hidden, rows, bias=False),
    )
