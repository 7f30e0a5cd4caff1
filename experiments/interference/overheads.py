"""Measure what commands cost the host thread, and what a hook between compiled blocks costs.

    python -m torch.distributed.run --nproc_per_node 2 experiments/interference/overheads.py OUT_FOLDER

Host costs are wall time per call with the device idle or far behind. The compiled part runs blocks of Wan-14B's shape on
one of 8 ranks, once compiled as one graph and once with a function between blocks that the compiler may not trace, which
breaks the graph as offload hooks do. Pairs are interleaved; raw values are kept.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as functional

ROWS, HIDDEN, FFN, TOKENS, HEADS = 10_800, 5120, 13824, 86_400, 5
LAYER_BYTES = 702_788_608
BLOCKS = 6


def per_call(call: Callable[[], object], count: int = 500, rounds: int = 9) -> list[float]:
    """Microseconds of host time per call."""
    values = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            call()
        values.append(1e6 * (time.perf_counter() - begin) / count)
        torch.cuda.synchronize()
    return values


def host_costs() -> dict[str, list[float]]:
    tiny = torch.zeros(16, device="cuda")
    host, landing = torch.zeros(1024).pin_memory(), torch.zeros(1024, device="cuda")
    stream, event = torch.cuda.Stream(), torch.cuda.Event()
    module = torch.nn.Identity()
    hooked = torch.nn.Identity()
    hooked.register_forward_pre_hook(lambda *_: None)
    hooked.register_forward_hook(lambda *_: None)
    keep: list[torch.Tensor] = []

    def allocate() -> None:
        keep[:] = [torch.empty(LAYER_BYTES, dtype=torch.uint8, device="cuda")]

    def copy() -> None:
        with torch.cuda.stream(stream):
            landing.copy_(host, non_blocking=True)

    def wait_stream() -> None:
        stream.wait_stream(torch.cuda.current_stream())

    return {
        "launch": per_call(lambda: tiny.add_(1)),
        "copy call": per_call(copy, 200),
        "event record": per_call(lambda: event.record()),
        "event wait": per_call(lambda: torch.cuda.current_stream().wait_event(event)),
        "wait_stream": per_call(wait_stream),
        "allocation, cached": per_call(allocate, 200),
        "synchronize, idle": per_call(lambda: torch.cuda.current_stream().synchronize()),
        "module call": per_call(lambda: module(tiny)),
        "module call with two empty hooks": per_call(lambda: hooked(tiny)),
        "all-to-all call": per_call(lambda: dist.all_to_all_single(landing, landing.clone()), 200),
    }


def synchronize_bubble(rounds: int = 9) -> dict[str, list[float]]:
    """Milliseconds of 40 products with and without a host synchronisation after each."""
    x, w = (torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def run(blocking: bool) -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(40):
            for _ in range(8):
                x @ w
            if blocking:
                torch.cuda.current_stream().synchronize()
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - begin)

    found: dict[str, list[float]] = {"queued": [], "synchronised": []}
    for _ in range(rounds):
        for blocking in (False, True, True, False):
            found["synchronised" if blocking else "queued"].append(run(blocking))
    return found


class Block(torch.nn.Module):
    """Norms, modulation, projections, FFN of Wan-14B; attention as torch runs it."""

    def __init__(self) -> None:
        super().__init__()
        make = {"device": "cuda", "dtype": torch.bfloat16}
        self.qkv = torch.nn.Linear(HIDDEN, 3 * HIDDEN, **make)  # type: ignore[arg-type]
        self.out, self.cross_q, self.cross_out = (torch.nn.Linear(HIDDEN, HIDDEN, **make) for _ in range(3))  # type: ignore[arg-type]
        self.up, self.down = torch.nn.Linear(HIDDEN, FFN, **make), torch.nn.Linear(FFN, HIDDEN, **make)  # type: ignore[arg-type]
        self.table = torch.nn.Parameter(torch.randn(6, HIDDEN, device="cuda") * 0.01)

    def modulate(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return (functional.layer_norm(x.float(), (HIDDEN,)) * (1 + scale) + shift).to(x.dtype)

    def forward(self, x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.table.chunk(6, dim=0)
        q, k, v = self.qkv(self.modulate(x, scale1, shift1)).chunk(3, dim=1)
        q, k = functional.rms_norm(q, (HIDDEN,)), functional.rms_norm(k, (HIDDEN,))
        functional.scaled_dot_product_attention(attention, attention, attention)
        x = (x.float() + self.out(q + k + v).float() * gate1).to(x.dtype)
        x = x + self.cross_out(functional.rms_norm(self.cross_q(x), (HIDDEN,)))
        y = self.down(functional.gelu(self.up(self.modulate(x, scale2, shift2)), approximate="tanh"))
        return (x.float() + y.float() * gate2).to(x.dtype)


class Stack(torch.nn.Module):
    """Blocks one after the other, with `between` called before each."""

    def __init__(self, between: Callable[[], None] | None) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(Block() for _ in range(BLOCKS))
        self.between = between

    def forward(self, x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            if self.between is not None:
                self.between()
            x = block(x, attention)
            if self.between is not None:
                self.between()
        return x


@torch.compiler.disable
def _hook() -> None:
    """What a hook that the compiler must not trace does to the graph."""


def compiled(rounds: int = 12) -> dict[str, list[float]]:
    """Milliseconds per block: eager, compiled as one graph, compiled with untraceable hooks between blocks."""
    x = torch.randn(ROWS, HIDDEN, device="cuda", dtype=torch.bfloat16)
    attention = torch.randn(1, HEADS, 8192, 128, device="cuda", dtype=torch.bfloat16)
    whole, broken = Stack(None), Stack(_hook)
    runs: dict[str, Callable[..., torch.Tensor]] = {
        "eager": whole,
        "compiled, one graph": torch.compile(whole),
        "compiled, hooks between": torch.compile(broken),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for run in runs.values():
            for _ in range(3):
                run(x, attention)
        for _ in range(rounds):
            for name in (*runs, *reversed(runs)):
                start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                start.record()
                for _ in range(4):
                    runs[name](x, attention)
                stop.record()
                torch.cuda.synchronize()
                found[name].append(start.elapsed_time(stop) / (4 * BLOCKS))
    return found


def main() -> None:
    out = Path(sys.argv[1])
    dist.init_process_group("nccl")
    rank = dist.get_rank()
    torch.cuda.set_device(rank)
    results: dict[str, dict[str, list[float]]] = {"host_us": host_costs(), "synchronize_ms": synchronize_bubble()}
    dist.barrier()
    try:
        results["block_ms"] = compiled()
    except Exception as error:  # a node without a working compiler still reports the rest
        print(f"compile failed: {error!r}"[:500])
    record = {"gpu": torch.cuda.get_device_name(rank), "torch": torch.__version__, "results": results}
    (out / f"overheads{rank}.json").write_text(json.dumps(record))
    if rank == 0:
        for part, entries in results.items():
            for name, values in entries.items():
                print(
                    f"{part:16s} {name:40s} median {statistics.median(values):9.4f}  {min(values):9.4f} .. {max(values):9.4f}"
                )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
