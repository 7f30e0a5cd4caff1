"""The elementwise kernels of a Wan block as the diffusers library runs them eagerly, each group alone.

They mix bf16 and fp32 and take every second column, so they are slower per byte than the kernels that a node's profile
knows. Timed by events on random activations of the model's width; the rest of a block (products, attention) is not run.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional

KERNEL_REPEATS = 7
WARM_UP = 2
KernelGroup = Callable[[], Any]

RUNS_PER_BLOCK = {
    "modulated norm": 2,
    "rms norm": 3,
    "rotation": 2,
    "gated residual": 1,
    "affine norm": 1,
    "residual": 1,
    "gelu": 1,
    "ffn residual": 1,
}
"""How often each group runs over all tokens in one block."""


def elementwise_times(bench: Any, tokens: list[int]) -> dict[str, Any]:
    """Seconds of each group of kernels at each length, raw, as a line of the file."""
    line: dict[str, Any] = {"record": "diffusers-forwards-elementwise", "per_block": RUNS_PER_BLOCK}
    if not bench.on_gpu:
        return line
    for length in tokens:
        try:
            groups = groups_of(bench.shape, length, bench.device)
            line[str(length)] = {name: event_times(group) for name, group in groups.items()}
            del groups
        except Exception as error:
            line[f"{length} error"] = f"{type(error).__name__}: {error}"[:500]
    return line


def groups_of(shape: Any, tokens: int, device: Any) -> dict[str, KernelGroup]:
    """The groups of kernels between products and attention, as the library's forward computes them."""
    d, heads = shape.heads * shape.head_dim, shape.heads
    new = {"dtype": torch.bfloat16, "device": device}
    x, y = torch.randn(1, tokens, d, **new), torch.randn(1, tokens, d, **new)
    wide = torch.randn(1, tokens, shape.ffn, **new)
    scale, shift, gate = (torch.randn(1, 1, d, device=device) for _ in range(3))
    weight, bias = torch.randn(d, **new), torch.randn(d, **new)
    table = torch.randn(1, tokens, 1, shape.head_dim, device=device)

    def modulated() -> Any:
        return (functional.layer_norm(x.float(), (d,)) * (1 + scale) + shift).type_as(x)

    def rotation() -> Any:
        rows = x.unflatten(2, (heads, -1))
        even, odd = rows.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = table[..., 0::2], table[..., 1::2]
        out = torch.empty_like(rows)
        out[..., 0::2] = even * cos - odd * sin
        out[..., 1::2] = even * sin + odd * cos
        return out

    return {
        "modulated norm": modulated,
        "rms norm": lambda: functional.rms_norm(x, (d,), weight),
        "rotation": rotation,
        "gated residual": lambda: (x.float() + y * gate).type_as(x),
        "affine norm": lambda: functional.layer_norm(x.float(), (d,), weight.float(), bias.float()).type_as(x),
        "residual": lambda: x + y,
        "gelu": lambda: functional.gelu(wide, approximate="tanh"),
        "ffn residual": lambda: (x.float() + y.float() * gate).type_as(x),
    }


def event_times(group: KernelGroup) -> list[float]:
    """Seconds of each repetition of a group, between events."""
    for _ in range(WARM_UP):
        group()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(KERNEL_REPEATS + 1)]
    marks[0].record()
    for mark in marks[1:]:
        group()
        mark.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in pairwise(marks)]
