"""What the library's offloading asks of the host beside copies: driver memory, pinning, hooks, pageable copies.

Each is read alone, on tensors as large as a Wan-14B block's, so that predictions need no fit to forwards. Hooks are
read on a model so small that nothing else takes time: its forwards with every mode, and without offloading.
"""

import time
from typing import Any

import torch

from .model import MODES, WanShape, WanWeights, forget, forward_of, offload

SMALL_SHAPE = WanShape(blocks=8, heads=2, head_dim=16, ffn=64, text_tokens=4, text_width=16)
SMALL_TOKENS = 24
SMALL_FORWARDS = 9
SIZES = (2**21, 52_428_800, 141_557_760, 671_088_640)
"""Bytes of tensors: the least that the allocator takes from the driver; weights of attention's and the FFN's products;
an fp32 tensor of 32,760 tokens."""
COST_REPEATS = 5


def small_forwards(bench: Any, modes: list[str]) -> dict[str, Any]:
    """Seconds of a small model's forwards, without offloading and with every mode; the first of each is traced."""
    line: dict[str, Any] = {
        "record": "diffusers-forwards-small",
        "shape": SMALL_SHAPE._asdict(),
        "tokens": SMALL_TOKENS,
    }
    weights = WanWeights(SMALL_SHAPE, bench.device)
    for name in ("resident", *modes):
        try:
            line[name] = _small(bench, weights, name)
        except Exception as error:
            line[f"{name} error"] = f"{type(error).__name__}: {error}"[:500]
        forget()
    return line


def _small(bench: Any, weights: WanWeights, name: str) -> list[float]:
    model = weights.model(resident=name == "resident")
    if name != "resident":
        offload(model, MODES[name], bench.device)
    forward = forward_of(model, weights.inputs(SMALL_TOKENS))
    return [bench.seconds(forward) for _ in range(SMALL_FORWARDS)]


def costs(bench: Any) -> dict[str, Any]:
    """Raw readings of every cost [s]; an error where one is not to be had."""
    line: dict[str, Any] = {"record": "diffusers-forwards-costs"}
    if not bench.on_gpu:
        return line
    try:
        for size in SIZES:
            line[f"driver_{size}"] = [_driver(bench, size) for _ in range(COST_REPEATS)]
        line["clear_nothing"] = [_clear() for _ in range(COST_REPEATS)]
        for size in SIZES[1:3]:
            line[f"pageable_h2d_{size}"] = [_pageable_h2d(bench, size) for _ in range(COST_REPEATS)]
            copied = [_fresh_d2h(bench, size) for _ in range(COST_REPEATS)]
            line[f"fresh_d2h_{size}"], line[f"free_{size}"] = ([pair[i] for pair in copied] for i in (0, 1))
            line[f"pin_{size}"] = [_pin(size) for _ in range(COST_REPEATS)]
    except Exception as error:
        line["error"] = f"{type(error).__name__}: {error}"[:500]
    return line


def _driver(bench: Any, size: int) -> tuple[float, float]:
    """Seconds of cudaMalloc and of cudaFree of one tensor, through the framework."""
    bench.synchronize()
    torch.cuda.empty_cache()
    begin = time.perf_counter()
    tensor = torch.empty(size, dtype=torch.uint8, device=bench.device)
    middle = time.perf_counter()
    del tensor
    torch.cuda.empty_cache()
    return middle - begin, time.perf_counter() - middle


def _clear() -> float:
    """Seconds that emptying an empty cache takes."""
    torch.cuda.empty_cache()
    begin = time.perf_counter()
    torch.cuda.empty_cache()
    return time.perf_counter() - begin


def _pageable_h2d(bench: Any, size: int) -> float:
    source = torch.ones(size, dtype=torch.uint8)
    torch.empty(size, dtype=torch.uint8, device=bench.device)
    bench.synchronize()
    begin = time.perf_counter()
    source.to(bench.device)
    return time.perf_counter() - begin


def _fresh_d2h(bench: Any, size: int) -> tuple[float, float]:
    """The copy, and giving its pages back: a forward gives back what the one before left, not what it just copied."""
    source = torch.ones(size, dtype=torch.uint8, device=bench.device)
    bench.synchronize()
    begin = time.perf_counter()
    kept = source.to("cpu")
    middle = time.perf_counter()
    del kept
    return middle - begin, time.perf_counter() - middle


def _pin(size: int) -> float:
    """Seconds of a copy into page-locked memory that the framework has at hand after the first time."""
    source = torch.ones(size, dtype=torch.uint8)
    begin = time.perf_counter()
    source.pin_memory()
    return time.perf_counter() - begin
