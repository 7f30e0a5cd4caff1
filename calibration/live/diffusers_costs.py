"""What the library's offloading asks of the host beside copies: memory from the driver, pinning, pageable copies.

Each is read alone, on tensors as large as a Wan-14B block's, so that predictions need no fit to forwards.
"""

import time
from typing import Any

import torch

SIZES = (2**21, 52_428_800, 141_557_760, 671_088_640)
"""Bytes: the least that the allocator takes from the driver; weights of an attention product and of an FFN product; an
fp32 tensor of 32,760 tokens."""
REPEATS = 5


def costs(bench: Any) -> dict[str, Any]:
    """Raw readings [s]; only the bytes' own errors where something is not to be had."""
    line: dict[str, Any] = {"record": "diffusers-forwards-costs"}
    if not bench.on_gpu:
        return line
    try:
        for size in SIZES:
            line[f"driver_{size}"] = [_driver(bench, size) for _ in range(REPEATS)]
        line["clear_nothing"] = [_clear() for _ in range(REPEATS)]
        for size in SIZES[1:3]:
            line[f"pageable_h2d_{size}"] = [_pageable_h2d(bench, size) for _ in range(REPEATS)]
            line[f"fresh_d2h_{size}"] = [_fresh_d2h(bench, size) for _ in range(REPEATS)]
            line[f"pin_{size}"] = [_pin(size) for _ in range(REPEATS)]
    except Exception as error:
        line["error"] = f"{type(error).__name__}: {error}"[:500]
    return line


def _driver(bench: Any, size: int) -> tuple[float, float]:
    """cudaMalloc and cudaFree of one tensor, through the framework."""
    bench.synchronize()
    torch.cuda.empty_cache()
    begin = time.perf_counter()
    tensor = torch.empty(size, dtype=torch.uint8, device=bench.device)
    middle = time.perf_counter()
    del tensor
    torch.cuda.empty_cache()
    return middle - begin, time.perf_counter() - middle


def _clear() -> float:
    """Emptying a cache that is empty."""
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


def _fresh_d2h(bench: Any, size: int) -> float:
    source = torch.ones(size, dtype=torch.uint8, device=bench.device)
    bench.synchronize()
    begin = time.perf_counter()
    source.to("cpu")
    return time.perf_counter() - begin


def _pin(size: int) -> float:
    """Into page-locked memory that the framework has at hand after the first time."""
    source = torch.ones(size, dtype=torch.uint8)
    begin = time.perf_counter()
    source.pin_memory()
    return time.perf_counter() - begin
