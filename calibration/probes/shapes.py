"""Which kernel shapes the calibrated models need: read off their blocks, not written down.

Rows and keys are a grid that is dense enough to interpolate; widths, heads and head sizes are exact.
"""

from functools import cache

from offsim.program.block import Layout, kernel_of
from offsim.program.commands import Kernel
from offsim.scenario.load import load_model

MODELS = ("wan2.2-t2v-a14b", "wan2.2-ti2v-5b", "flux.1-dev")
RANKS = (1, 2)
FULL_GRID = (
    1000, 1024, 1500, 2000, 2048, 2560, 3000, 3072, 4096, 4500, 5120, 6000, 6144, 8192, 9450, 10240, 12288,
    13640, 16380, 16384, 20480, 24576, 27280, 32760, 32768, 37800, 49152, 65536, 75600,
)  # fmt: skip
"""Real lengths (32,760 and 75,600 are Wan's at 480p and 720p, 27,280 the 5B model's, and halves of them) among
powers of two and odd ones: kernels are slower where lengths don't fill their tiles."""
QUICK_GRID = (1024, 2048, 4096, 8192, 16384, 32768)
KEPT_OUT = frozenset((1500, 3000, 6144, 10240, 13640, 20480))
"""Rows and keys that no fit sees."""


def grid(mode: str) -> tuple[int, ...]:
    """Rows (or keys) to measure in this mode."""
    return FULL_GRID if mode == "full" else QUICK_GRID


@cache
def _kernels(ranks: int) -> tuple[tuple[str, Kernel], ...]:
    """(rows of the model, kernel) of all operations of the models' blocks at 8192 tokens."""
    found = []
    for name in MODELS:
        model = load_model(name)
        layout = Layout(ranks, 8192, model.text_tokens, 1, 4)
        for blocks in model.blocks:
            for operation in blocks.operations():
                rows = getattr(operation, "rows", getattr(operation, "keys", ""))
                found.append((rows, kernel_of(operation, layout)))
    return tuple(found)


def products() -> dict[tuple[int, int], set[str]]:
    """(inputs, outputs) of the models' products -> the kinds of rows that they run over."""
    found: dict[tuple[int, int], set[str]] = {}
    for rows, kernel in _kernels(1):
        if kernel.kernel_class == "gemm":
            found.setdefault((kernel.shape[1], kernel.shape[2]), set()).add(rows)
    return found


def self_attentions() -> list[tuple[int, int]]:
    """(heads, head_dim) of the models' attentions over the whole sequence, at every number of ranks."""
    found = {
        (k.shape[1], k.shape[4])
        for ranks in RANKS
        for rows, k in _kernels(ranks)
        if k.kernel_class == "attention" and rows != "text"
    }
    return sorted(found)


def cross_attentions() -> list[tuple[int, int, int]]:
    """(heads, head_dim, keys) of the models' attentions to the text."""
    found = {
        (k.shape[1], k.shape[4], k.shape[3])
        for rows, k in _kernels(1)
        if k.kernel_class == "attention" and rows == "text"
    }
    return sorted(found)
