"""ChunkFlow's first-order model as the paper has it (arXiv 2605.11335v1, section 3 and table 2).

A copy hides behind a block if F_block / (eta_c P) >= B_pref / (eta_p BW), F_block divided by the Ulysses degree.
Collectives are in neither term, and nothing says how long a step takes where it doesn't.
"""

from collections.abc import Callable
from typing import NamedTuple

PEAK, ETA_C = 756e12, 0.60
"""Dense bf16 of an H100 PCIe [FLOP/s], and the share that the paper profiled (mean of its three models)."""
LINK, ETA_P = 31.5e9, 0.89
"""63 GB/s of the root, halved, since both GPUs copy [bytes/s]; and the share reached."""
ULYSSES = 2


class PaperModel(NamedTuple):
    """A model as the paper counts it."""

    flops: Callable[[float], float]
    """Of one block of the mean kind, by size (frames or batch)."""
    volume: float
    """B_pref: what a block's copy was profiled as [bytes]."""
    true_bytes: float
    """Of a block of the mean kind, in bf16."""
    critical: float
    """The size said to be critical."""


def dit_flops(batch: float, tokens: float, text: float, width: float, inner: float) -> float:
    """FLOPs of a block with cross-attention: 8BSd^2 + 4BS^2d + (4BSd^2 + 4BLd^2) + 4BSLd + 4BSdf."""
    own = 8 * tokens * width**2 + 4 * tokens**2 * width
    across = 4 * tokens * width**2 + 4 * text * width**2 + 4 * tokens * text * width
    return batch * (own + across + 4 * tokens * width * inner)


def double_flops(batch: float, tokens: float, text: float, width: float, inner: float) -> float:
    """FLOPs of a block of two streams: 8BSd^2 + 8BLd^2 + 4B(S+L)^2d + 4BSdf + 4BLdf."""
    both = tokens + text
    return batch * (8 * both * width**2 + 4 * both**2 * width + 4 * both * width * inner)


def single_flops(batch: float, tokens: float, text: float, width: float, inner: float) -> float:
    """FLOPs of a block of one stream: 2B(S+L)d(3d+f) + 4B(S+L)^2d + 2B(S+L)(d+f)d."""
    both = tokens + text
    return batch * (2 * both * width * (3 * width + inner) + 4 * both**2 * width + 2 * both * (width + inner) * width)


def mean_flops(doubles: int, singles: int, batch: float, tokens: float, text: float) -> float:
    """FLOPs of HunyuanVideo's and FLUX's blocks, averaged by count."""
    two, one = (flops(batch, tokens, text, 3072, 12288) for flops in (double_flops, single_flops))
    return (doubles * two + singles * one) / (doubles + singles)


PAPER_MODELS = {
    "wan2.2-ti2v-5b": PaperModel(
        lambda frames: dit_flops(1, 220 * (frames + 3), 512, 3072, 14336), 520e6, 327.3e6, 119.2
    ),
    "hunyuanvideo": PaperModel(lambda frames: mean_flops(20, 40, 1, 900 * (frames + 3), 161), 675e6, 415.3e6, 34.5),
    "flux.1-dev": PaperModel(lambda batch: mean_flops(19, 38, batch, 4096, 512), 465e6, 415.3e6, 11.5),
}


def compute_seconds(flops: float) -> float:
    """T_comp of a block on each GPU."""
    return flops / ULYSSES / (ETA_C * PEAK)


def copy_seconds(bytes_: float) -> float:
    """T_pref of a block."""
    return bytes_ / (ETA_P * LINK)


def critical_flops(bytes_: float) -> float:
    """F* of a block on each GPU: eta_c P B / (eta_p BW)."""
    return ETA_C * PEAK * bytes_ / (ETA_P * LINK)


def critical_size(model: PaperModel, bytes_: float) -> float:
    """The size from which on a block's copy hides: where its FLOPs come to F*. FLOPs grow with the size."""
    low, high = 1.0, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if model.flops(middle) / ULYSSES < critical_flops(bytes_) else (low, middle)
    return high
