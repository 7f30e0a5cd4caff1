"""Measure what a weight prefetch costs the kernels and the all-to-all that run beside it.

Run on a node with torch, one process per GPU:

    python -m torch.distributed.run --nproc_per_node 2 experiments/interference/measure.py OUT_FOLDER

Three parts: each kernel class of a Wan-14B block (shapes of one of 8 ranks at 86,400 tokens) alone and beside back-to-back
pinned H2D copies; NCCL all-to-all likewise, with the copies on both ranks, on the other rank only, and as D2H; and whole
forwards of 20 blocks, resident against layerwise with one block of look-ahead. Every pair is interleaved A B B A, raw
milliseconds are kept. Attention is torch's SDPA.
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

LAYER_BYTES = 702_788_608
ROWS, HIDDEN, FFN, HEADS, TOKENS, HEAD_DIM = 10_800, 5120, 13824, 5, 86_400, 128
LOCAL_HEADS = 40
BLOCKS = 20


class Bench:
    """Buffers and streams of one rank."""

    def __init__(self) -> None:
        dist.init_process_group("nccl")
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        torch.cuda.set_device(self.rank)
        self.device = torch.device("cuda", self.rank)
        torch.manual_seed(self.rank)
        self.copy_stream = torch.cuda.Stream()
        self.host = [torch.empty(LAYER_BYTES, dtype=torch.uint8).random_().pin_memory() for _ in range(3)]
        self.landing = [torch.empty(LAYER_BYTES, dtype=torch.uint8, device=self.device) for _ in range(2)]
        self.results: dict[str, dict[str, list[float]]] = {}

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16)

    def copies(self, count: int, direction: str) -> torch.cuda.Event:
        """Back-to-back copies on the copy stream; returns the event at their end."""
        end = torch.cuda.Event(enable_timing=True)
        with torch.cuda.stream(self.copy_stream):
            for i in range(count):
                if direction == "D2H":
                    self.host[i % 3].copy_(self.landing[i % 2], non_blocking=True)
                else:
                    self.landing[i % 2].copy_(self.host[i % 3], non_blocking=True)
            end.record()
        return end

    def once(self, work: Callable[[], object], repeats: int, background: str, copies: int) -> float:
        """Milliseconds of `repeats` runs of `work`, beside copies if `background` names a direction."""
        torch.cuda.synchronize()
        dist.barrier()
        torch.cuda.synchronize()
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        tail = self.copies(copies, background) if background else None
        start.record()
        for _ in range(repeats):
            work()
        stop.record()
        torch.cuda.synchronize()
        if tail is not None and start.elapsed_time(tail) < 0.98 * start.elapsed_time(stop):
            self.results.setdefault("_background ended early", {}).setdefault(background, []).append(1.0)
        return start.elapsed_time(stop) / repeats

    def compare(self, name: str, work: Callable[[], object], rounds: int, *, mine: str = "H2D") -> None:
        """A B B A rounds of `work` alone and beside copies; `mine` is this rank's background ('' for none)."""
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        single = max(self.once(work, 3, "", 0), 1e-3)
        repeats = torch.tensor([max(1, round(50 / single))], device=self.device)
        dist.broadcast(repeats, 0)
        count = int(repeats.item())
        copies = int(2.2 * count * single / 12.7) + 4
        entry = self.results.setdefault(name, {"alone": [], "beside": []})
        for _ in range(rounds):
            for kind in ("alone", "beside", "beside", "alone"):
                entry[kind].append(self.once(work, count, mine if kind == "beside" else "", copies))


def kernels(bench: Bench, rounds: int) -> None:
    """Each kernel class alone and beside H2D copies (and products beside D2H)."""
    x, w_qkv = bench.random(ROWS, HIDDEN), bench.random(HIDDEN, 3 * HIDDEN)
    w_in, h, w_out = bench.random(HIDDEN, FFN), bench.random(ROWS, FFN), bench.random(FFN, HIDDEN)
    scale, shift = bench.random(1, HIDDEN), bench.random(1, HIDDEN)
    q = bench.random(1, HEADS, TOKENS, HEAD_DIM)
    heads = bench.random(1, ROWS, LOCAL_HEADS, HEAD_DIM)
    cases: dict[str, Callable[[], object]] = {
        "gemm qkv": lambda: x @ w_qkv,
        "gemm ffn in": lambda: x @ w_in,
        "gemm ffn out": lambda: h @ w_out,
        "attention": lambda: functional.scaled_dot_product_attention(q, q, q),
        "elementwise norm and modulation": lambda: functional.layer_norm(x, (HIDDEN,)) * (1 + scale) + shift,
        "elementwise gelu": lambda: functional.gelu(h, approximate="tanh"),
        "relayout": lambda: heads.permute(2, 0, 1, 3).contiguous(),
    }
    for name, case in cases.items():
        bench.compare(name, case, rounds)
    bench.compare("gemm ffn in, D2H", cases["gemm ffn in"], rounds, mine="D2H")


def _drop(_: object) -> None:
    return None


def collectives(bench: Bench, rounds: int) -> None:
    """All-to-all of several sizes beside copies on both ranks, on the other rank only, and D2H."""
    for megabytes in (16, 64, 110, 221, 580):
        send = torch.empty(megabytes * 10**6, dtype=torch.uint8, device=bench.device).random_()
        receive = torch.empty_like(send)

        def work(receive: torch.Tensor = receive, send: torch.Tensor = send) -> None:
            dist.all_to_all_single(receive, send)

        bench.compare(f"all-to-all {megabytes} MB", work, rounds)
        if megabytes in (110, 580):
            bench.compare(
                f"all-to-all {megabytes} MB, H2D on rank 1 only", work, rounds, mine="H2D" if bench.rank else ""
            )
            bench.compare(f"all-to-all {megabytes} MB, D2H", work, rounds, mine="D2H")


class Block:
    """A Wan-14B block on one of 8 ranks, weights read from one flat buffer."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.x = bench.random(ROWS, HIDDEN)
        self.text = bench.random(512, HIDDEN)
        self.scale, self.shift = bench.random(1, HIDDEN) * 0.01, bench.random(1, HIDDEN) * 0.01

    def weights(self, flat: torch.Tensor) -> list[torch.Tensor]:
        values, offset, found = flat.view(torch.bfloat16), 0, []
        for rows, columns in ((HIDDEN, 3 * HIDDEN), *[(HIDDEN, HIDDEN)] * 5, (HIDDEN, FFN), (FFN, HIDDEN)):
            found.append(values[offset : offset + rows * columns].view(rows, columns))
            offset += rows * columns
        return found

    def exchange(self, tensor: torch.Tensor) -> torch.Tensor:
        packed = tensor.view(1, ROWS, LOCAL_HEADS, HEAD_DIM).permute(2, 0, 1, 3).contiguous()
        received = torch.empty_like(packed)
        dist.all_to_all_single(received, packed)
        return received.permute(1, 2, 0, 3).contiguous()

    def modulate(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, (HIDDEN,)) * (1 + self.scale) + self.shift

    def forward(self, flat: torch.Tensor, attention: torch.Tensor) -> None:
        qkv, out, cross_q, cross_k, cross_v, cross_out, ffn_in, ffn_out = self.weights(flat)
        q, k, v = (self.modulate(self.x) @ qkv).split(HIDDEN, dim=1)
        for tensor in (q, k, v):
            self.exchange(functional.rms_norm(tensor, (HIDDEN,)))
        functional.scaled_dot_product_attention(attention, attention, attention)
        y = self.exchange(q.contiguous()).reshape(ROWS, HIDDEN) @ out
        z = self.modulate(self.x + y * self.scale) @ cross_q
        keys, values = self.text @ cross_k, self.text @ cross_v
        heads = [t.view(1, -1, LOCAL_HEADS, HEAD_DIM).transpose(1, 2) for t in (z, keys, values)]
        cross = functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(ROWS, HIDDEN) @ cross_out
        hidden = functional.gelu(self.modulate(self.x + cross) @ ffn_in, approximate="tanh")
        _drop(self.x + (hidden @ ffn_out) * self.scale)


def forwards(bench: Bench, rounds: int) -> None:
    """Whole forwards: resident, and layerwise with one block of look-ahead (copy stream waits for compute)."""
    block, attention = Block(bench), bench.random(1, HEADS, TOKENS, HEAD_DIM)
    buffers = [torch.empty(LAYER_BYTES, dtype=torch.uint8, device=bench.device) for _ in range(2)]
    for buffer in buffers:
        buffer.view(torch.bfloat16)[: LAYER_BYTES // 2].normal_(0, 0.02)
    source = buffers[0].cpu().pin_memory()
    compute = torch.cuda.current_stream()

    def run(layerwise: bool) -> float:
        torch.cuda.synchronize()
        dist.barrier()
        torch.cuda.synchronize()
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        ready: torch.cuda.Event | None = None
        for i in range(BLOCKS):
            if ready is not None:
                compute.wait_event(ready)
            if layerwise:
                bench.copy_stream.wait_stream(compute)
                with torch.cuda.stream(bench.copy_stream):
                    buffers[(i + 1) % 2].copy_(source, non_blocking=True)
                    ready = torch.cuda.Event()
                    ready.record()
            block.forward(buffers[i % 2], attention)
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop)

    entry = bench.results.setdefault("forward", {"resident": [], "layerwise": []})
    for warm in (False, True, False):
        run(warm)
    for _ in range(rounds):
        for layerwise in (False, True, True, False):
            entry["layerwise" if layerwise else "resident"].append(run(layerwise))


def main() -> None:
    out = Path(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    bench, begun = Bench(), time.time()
    for part, weight in ((collectives, 1), (forwards, 1), (kernels, 1)):
        try:
            part(bench, rounds * weight)
        except torch.OutOfMemoryError as error:
            bench.results[f"_failed {part.__name__}"] = {str(error)[:200]: []}
        if bench.rank == 0:
            print(f"{part.__name__}: {time.time() - begun:.0f} s", flush=True)
    properties = torch.cuda.get_device_properties(bench.rank)
    record = {"gpu": properties.name, "world": bench.world, "torch": torch.__version__, "results": bench.results}
    (out / f"rank{bench.rank}.json").write_text(json.dumps(record))
    if bench.rank == 0:
        for name, entry in bench.results.items():
            medians = {kind: statistics.median(values) for kind, values in entry.items() if values}
            base = medians.get("alone", medians.get("resident"))
            other = medians.get("beside", medians.get("layerwise"))
            print(f"{name:55s} {medians} {100 * (other / base - 1) if base and other else 0:+.2f} %")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
