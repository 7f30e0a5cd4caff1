"""What eager PyTorch, compiled code and CUDA graphs cost the host, and what eager kernels take on the device.

    python experiments/eager_costs/measure.py OUT.json      # needs torch and one GPU; about four minutes

Host costs are times of issuing many equal calls without waiting, fewer than a stream's queue holds, by the host's clock:
alone and with busy processes beside. Device times are by CUDA events, cold (after a pause) and at the power limit (after
two seconds of matrix products).
"""

import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

CALLS, ROUNDS = 300, 9
"""Calls of a round: fewer than the thousand or so that a stream's queue holds."""
ROWS, WIDTH, HEADS, HEAD_DIM = 32, 64, 2, 32
"""Small tensors: the device is done before the host has issued the next call."""
GB = 1e9
SIZES = (1 << 20, 1 << 23, 1 << 25, 1 << 27, 1 << 29)
"""Elements of bf16 tensors, 2 MB to 1 GB."""
LOADS = (0, 4, 16, 32)
"""Busy processes beside."""
Call = Callable[[], Any]


def main() -> None:
    """Measure everything and write it as one JSON document."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {"about": about(device), "host": host_costs(device), "compiled": compiled_costs(device)}
    if device == "cuda":
        found |= {"device": device_rates(), "attention": attention_times(), "allocation": allocation_times()}
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def about(device: str) -> dict[str, Any]:
    """The machine and its software."""
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"gpu": name, "torch": torch.__version__, "cuda": torch.version.cuda, "cores": multiprocessing.cpu_count()}


def operators(device: str) -> dict[str, Call]:
    """One small call of each class of operator that a transformer block issues."""
    x = torch.randn(ROWS, WIDTH, device=device, dtype=torch.bfloat16)
    weight, bias = torch.randn(WIDTH, WIDTH, device=device, dtype=torch.bfloat16), x[0].clone()
    q = torch.randn(1, HEADS, ROWS, HEAD_DIM, device=device, dtype=torch.bfloat16)
    out = torch.empty_like(x)
    return {
        "add in place": lambda: x.add_(1.0),
        "add out": lambda: torch.add(x, 1.0, out=out),
        "add": lambda: x + 1.0,
        "mul of two": lambda: x * x,
        "linear": lambda: F.linear(x, weight, bias),
        "matmul": lambda: x @ weight,
        "layer norm": lambda: F.layer_norm(x, (WIDTH,)),
        "rms norm": lambda: F.rms_norm(x, (WIDTH,)),
        "gelu": lambda: F.gelu(x, approximate="tanh"),
        "to float": lambda: x.float(),
        "cat": lambda: torch.cat((x, x)),
        "chunk (no kernel)": lambda: x.chunk(2, dim=-1),
        "view (no kernel)": lambda: x.view(-1),
        "permute and copy": lambda: q.permute(0, 2, 1, 3).contiguous(),
        "attention": lambda: F.scaled_dot_product_attention(q, q, q),
        "empty": lambda: torch.empty(ROWS, WIDTH, device=device),
    }


def host_costs(device: str) -> dict[str, Any]:
    """Microseconds a call, each operator under each load: lowest, median, highest of the rounds."""
    found: dict[str, Any] = {}
    for load in LOADS if device == "cuda" else LOADS[:1]:
        with multiprocessing.get_context("spawn").Pool(max(load, 1)) as pool:
            busy = [pool.apply_async(spin, (25.0,)) for _ in range(load)]
            with torch.no_grad():
                found[str(load)] = {name: issued(call, device) for name, call in operators(device).items()}
            pool.terminate()
            del busy
    return found


def spin(seconds: float) -> None:
    """Keep a core busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def issued(call: Call, device: str) -> list[float]:
    """Microseconds that issuing one call takes: lowest, median and highest of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        settle(device)
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter() - start) / CALLS * 1e6)
    settle(device)
    return [min(rounds), statistics.median(rounds), max(rounds)]


def settle(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


class SmallBlock(torch.nn.Module):  # type: ignore[misc]
    """The operators of a block, 16 kernels when eager."""

    def __init__(self) -> None:
        super().__init__()
        self.linears = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Four times norm, product, activation and sum."""
        for linear in self.linears:
            x = x + F.gelu(linear(F.layer_norm(x, (WIDTH,))), approximate="tanh")
        return x


def compiled_costs(device: str) -> dict[str, list[float]]:
    """Microseconds a call of a small block: eager, compiled, and as a CUDA graph."""
    block = SmallBlock().to(device, torch.bfloat16)
    x = torch.randn(ROWS, WIDTH, device=device, dtype=torch.bfloat16)
    found = {}
    with torch.no_grad():
        found["eager, 16 kernels"] = issued(lambda: block(x), device)
        try:
            compiled = torch.compile(block)
            compiled(x)
            found["compiled"] = issued(lambda: compiled(x), device)
        except Exception as error:
            found[f"compiled: {type(error).__name__}"] = []
        if device == "cuda":
            block(x)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                block(x)
            found["CUDA graph"] = issued(graph.replay, device)
    return found


def on_device(call: Call, count: int = 10) -> float:
    """Seconds of one call by events, mean of a few in a row."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    call()
    start.record()
    for _ in range(count):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / count


def heat(seconds: float = 2.0) -> None:
    """Bring the chip to its power limit."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            a @ a
        torch.cuda.synchronize()


def device_rates() -> dict[str, Any]:
    """GB/s (read plus written) of eager elementwise kernels by size: after a pause, and right after a load."""
    found: dict[str, Any] = {}
    for size in SIZES:
        for name, moved, call in elementwise(size):
            time.sleep(0.3)
            cold = on_device(call)
            heat(1.0)
            hot = on_device(call, 3)
            rates = [moved / cold / GB, moved / hot / GB]
            found.setdefault(name, {})[str(2 * size)] = rates
        torch.cuda.empty_cache()
    return found


def elementwise(size: int) -> list[tuple[str, float, Call]]:
    """Elementwise operators on tensors of so many bf16 numbers: name, bytes moved, call."""
    x = torch.randn(size, device="cuda", dtype=torch.bfloat16)
    y, rows = torch.randn_like(x), x.view(-1, 4096)
    gate, out, b = torch.randn(4096, device="cuda", dtype=torch.bfloat16), torch.empty_like(x), 2.0 * size
    return [
        ("add out", 3 * b, lambda: torch.add(x, y, out=out)),
        ("add", 3 * b, lambda: x + y),
        ("mul by row", 2 * b, lambda: rows * gate),
        ("gelu", 2 * b, lambda: F.gelu(x, approximate="tanh")),
        ("layer norm", 2 * b, lambda: F.layer_norm(rows, (4096,))),
        ("rms norm", 2 * b, lambda: F.rms_norm(rows, (4096,))),
        ("to float", 3 * b, lambda: x.float()),
        ("copy", 2 * b, lambda: out.copy_(x)),
        ("permute", 2 * b, lambda: x.view(-1, 32, 128).permute(1, 0, 2).contiguous()),
    ]


def attention_times() -> dict[str, Any]:
    """Milliseconds and extra bytes of attention with and without a materialised mask, 24 heads of 128."""
    found = {}
    for tokens in (1536, 4608, 8192, 16384):
        q = torch.randn(1, 24, tokens, 128, device="cuda", dtype=torch.bfloat16)
        mask = torch.ones(1, 1, tokens, tokens, device="cuda", dtype=torch.bool)
        for name, kept in (("none", None), ("bool mask", mask), ("bf16 mask", mask.to(torch.bfloat16))):
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            seconds = on_device(lambda q=q, kept=kept: F.scaled_dot_product_attention(q, q, q, attn_mask=kept), 5)  # type: ignore[misc]
            extra = torch.cuda.max_memory_allocated() - before
            found[f"{tokens} {name}"] = [1e3 * seconds, extra]
    return found


def allocation_times() -> dict[str, Any]:
    """Milliseconds of allocating fresh, cached, and of giving back to the driver, by GB."""
    found = {}
    for size in (0.1, 1, 4, 16):
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        fresh, kept = timed(lambda size=size: torch.empty(int(size * GB), dtype=torch.uint8, device="cuda"))  # type: ignore[misc]
        del kept
        cached, kept = timed(lambda size=size: torch.empty(int(size * GB), dtype=torch.uint8, device="cuda"))  # type: ignore[misc]
        del kept
        emptied, _ = timed(torch.cuda.empty_cache)
        found[f"{size} GB"] = {"fresh": fresh, "cached": cached, "emptied": emptied}
    return found


def timed(call: Call) -> tuple[float, Any]:
    """Milliseconds of a call with the device's work, and what it returns."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start), result


if __name__ == "__main__":
    main()
