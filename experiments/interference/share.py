"""Measure how a copy engine and an all-to-all share a link: both rates in one window, and one copy's timeline.

    python -m torch.distributed.run --nproc_per_node 2 experiments/interference/share.py OUT_FOLDER

Steady: all-to-alls and copies both back to back, the rate of each counted from its own events inside the window in which
both run. Single: one 702 MB copy that starts with a queue of all-to-alls, each timed on its own. Forward: the blocks of
measure.py with an event after every part. Run it with and without NCCL_P2P_DISABLE=1.
"""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from measure import HEAD_DIM, HEADS, LAYER_BYTES, TOKENS, Bench, Block  # type: ignore[import-not-found]

Mark = tuple[str, torch.cuda.Event]
Exchange = Callable[[torch.Tensor], torch.Tensor]


def event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def align() -> None:
    torch.cuda.synchronize()
    dist.barrier()
    torch.cuda.synchronize()


def copy(bench: Bench, direction: str, i: int) -> None:
    if direction == "D2H":
        bench.host[i % 3].copy_(bench.landing[i % 2], non_blocking=True)
    else:
        bench.landing[i % 2].copy_(bench.host[i % 3], non_blocking=True)


def steady(bench: Bench, megabytes: int, directions: tuple[str, ...], on: tuple[int, ...]) -> dict[str, list[float]]:
    """GB/s of the all-to-all (bytes sent by this rank) and of each copy direction while all run."""
    send = torch.empty(megabytes * 10**6, dtype=torch.uint8, device=bench.device).random_()
    receive = torch.empty_like(send)
    streams = {d: torch.cuda.Stream() for d in directions}
    found: dict[str, list[float]] = {"all-to-all": [], **{d: [] for d in directions}}
    calls = max(4, round(120 / (megabytes / 2 / 11.0)))
    for _ in range(6):
        align()
        start, marks = event(), [event() for _ in range(calls)]
        copies: dict[str, list[torch.cuda.Event]] = {}
        start.record()
        for d, stream in streams.items():
            if bench.rank in on:
                with torch.cuda.stream(stream):
                    copies[d] = [event() for _ in range(14)]
                    for i, mark in enumerate(copies[d]):
                        copy(bench, d, i)
                        mark.record()
        for mark in marks:
            dist.all_to_all_single(receive, send)
            mark.record()
        torch.cuda.synchronize()
        collective = [start.elapsed_time(m) for m in marks]
        found["all-to-all"].append(megabytes / 2 * (len(marks) - 2) / (collective[-1] - collective[1]))
        for d, ends in copies.items():
            times = [t for t in (start.elapsed_time(m) for m in ends) if t < collective[-1]]
            if len(times) > 2:
                found[d].append(LAYER_BYTES / 1e6 * (len(times) - 1) / (times[-1] - times[0]))
    return found


def single(bench: Bench, megabytes: int) -> dict[str, list[float]]:
    """Milliseconds at which one copy and each of eight all-to-alls end, all started together."""
    send = torch.empty(megabytes * 10**6, dtype=torch.uint8, device=bench.device).random_()
    receive = torch.empty_like(send)
    rows = []
    for _ in range(7):
        align()
        start, end, marks = event(), event(), [event() for _ in range(8)]
        start.record()
        bench.copy_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(bench.copy_stream):
            copy(bench, "H2D", 0)
            end.record()
        for mark in marks:
            dist.all_to_all_single(receive, send)
            mark.record()
        torch.cuda.synchronize()
        rows.append([start.elapsed_time(end), *(start.elapsed_time(m) for m in marks)])
    return {f"{i}": [row[i] for row in rows] for i in range(9)}


def marked(exchange: Exchange, marks: list[Mark]) -> Exchange:
    """The same exchange, which marks where it begins and ends."""

    def both_ends(tensor: torch.Tensor) -> torch.Tensor:
        before, after = event(), event()
        before.record()
        marks.append(("exchange begins", before))
        result = exchange(tensor)
        after.record()
        marks.append(("exchange ends", after))
        return result

    return both_ends


def forward(bench: Bench, layerwise: bool) -> dict[str, list[float]]:
    """Milliseconds within the fourth block: end of each exchange, of the block, and of the copy."""
    block = Block(bench)
    attention = bench.random(1, HEADS, TOKENS, HEAD_DIM)
    buffers = [torch.empty(LAYER_BYTES, dtype=torch.uint8, device=bench.device) for _ in range(2)]
    for buffer in buffers:
        buffer.view(torch.bfloat16)[: LAYER_BYTES // 2].normal_(0, 0.02)
    source, compute = buffers[0].cpu().pin_memory(), torch.cuda.current_stream()
    marks: list[Mark] = []
    block.exchange = marked(block.exchange, marks)  # type: ignore[method-assign]
    rows: list[dict[str, float]] = []
    for _ in range(6):
        align()
        ready: torch.cuda.Event | None = None
        for i in range(6):
            if ready is not None:
                compute.wait_event(ready)
            begin, ready = event(), event()
            begin.record()
            marks.clear()
            if layerwise:
                bench.copy_stream.wait_stream(compute)
                with torch.cuda.stream(bench.copy_stream):
                    buffers[(i + 1) % 2].copy_(source, non_blocking=True)
                    ready.record()
            else:
                ready.record()
            block.forward(buffers[i % 2], attention)
            end = event()
            end.record()
            if i == 4:
                kept = (begin, list(marks), end, ready)
        torch.cuda.synchronize()
        begin, noted, end, copied = kept
        row = {f"{n} {name}": begin.elapsed_time(mark) for n, (name, mark) in enumerate(noted)}
        row["block ends"] = begin.elapsed_time(end)
        row["copy ends"] = begin.elapsed_time(copied) if layerwise else 0.0
        rows.append(row)
    return {name: [row[name] for row in rows] for name in rows[0]}


def main() -> None:
    bench = Bench()
    for _ in range(3):
        dist.all_to_all_single(torch.empty(64, device=bench.device), torch.zeros(64, device=bench.device))
    results: dict[str, dict[str, list[float]]] = {}
    for megabytes in (16, 110, 580):
        results[f"steady {megabytes} MB"] = steady(bench, megabytes, (), (0, 1))
        results[f"steady {megabytes} MB + H2D"] = steady(bench, megabytes, ("H2D",), (0, 1))
        results[f"steady {megabytes} MB + D2H"] = steady(bench, megabytes, ("D2H",), (0, 1))
    results["steady 110 MB + H2D on rank 1"] = steady(bench, 110, ("H2D",), (1,))
    results["steady 110 MB + D2H on rank 1"] = steady(bench, 110, ("D2H",), (1,))
    results["steady 110 MB + H2D + D2H"] = steady(bench, 110, ("H2D", "D2H"), (0, 1))
    results["copies H2D both"] = steady(bench, 1, ("H2D",), (0, 1))
    results["single copy, 110 MB"] = single(bench, 110)
    results["single copy, 580 MB"] = single(bench, 580)
    results["forward resident"] = forward(bench, False)
    results["forward layerwise"] = forward(bench, True)
    record = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "results": results}
    Path(sys.argv[1], f"share{bench.rank}.json").write_text(json.dumps(record))
    if bench.rank == 1:
        for name, entry in results.items():
            print(f"{name:32s}", {kind: round(statistics.median(v), 3) for kind, v in entry.items() if v}, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
