"""Predicted beside measured: what layerwise offload costs a forward, over NVLink and through host memory.

    python -m experiments.interference

The measured forwards are 20 Wan-14B blocks at the shapes of one of 8 ranks (see measure.py) on 2 x H100 SXM. Fitted on
other measurements of the same machine: kernel and all-to-all rates, interference factors, and the weight of a collective
against a copy (one pair: a 110 MB all-to-all beside H2D copies). Nothing is fitted to the forwards.
"""

import json
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from offsim.engine.simulate import simulate
from offsim.program.block import Layout, block_commands
from offsim.program.commands import (
    COMPUTE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Kernel,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.groups import sequence_groups
from offsim.program.load import parse_scenario
from offsim.program.offloading.hooks import wait_stream
from offsim.program.uses import LOADING, Use
from offsim.scenario.scenario import Scenario

HERE = Path(__file__).parent
BLOCKS, ROWS, TOKENS = 20, 10_800, 86_400
LAYER_BYTES = 702_788_608
ATTENTION = Kernel("attention", 4.0 * TOKENS**2 * 5 * 128, 0.0, TOKENS)
"""What the measured block attends to: 5 of 40 heads over the whole sequence of 8 ranks."""


def scenario(node: str) -> Scenario:
    """The measured machine; model and workload only give the block's operations."""
    return parse_scenario(
        {
            "schema": 2,
            "model": "wan2.2-t2v-a14b",
            "node": node,
            "policy": "resident",
            "workload": {"gpus": 2, "tokens": 2 * ROWS, "steps": 1},
        },
        HERE / "measure.py",
    )


def measured_block(asked: Scenario, name: str) -> list[Command]:
    """The commands of a block as measure.py runs it."""
    operations = asked.model.blocks[0].operations()
    commands = list(block_commands(operations, Layout(2, 2 * ROWS, 512, 1, 4), name, ()))
    return [_with_attention(command) for command in commands]


def _with_attention(command: Command) -> Command:
    if not isinstance(command, Compute):
        return command
    kernels = tuple(ATTENTION if k.kernel_class == "attention" and k.size > 1000 else k for k in command.kernels)
    return command._replace(kernels=kernels)


def program(asked: Scenario, layerwise: bool) -> StreamProgram:
    """The stream program that measure.py issues."""
    commands: list[Command] = []
    for i in range(BLOCKS):
        if layerwise and i:
            commands.append(Wait(COMPUTE, "ready"))
        if layerwise:
            commands += wait_stream("copy", COMPUTE)
            commands.append(Copy("copy", f"block {i + 1}", "H2D", LAYER_BYTES, "pinned", f"buffer {i % 2}"))
            commands.append(Record("copy", "ready"))
        commands += measured_block(asked, f"blocks.{i}")
    commands.append(Synchronize("device"))
    load = Section("load", LOADING, tuple(Allocate(f"buffer {i}", LAYER_BYTES, COMPUTE) for i in range(2)))
    return StreamProgram(
        "forward", (load, Section("forward", Use("denoise", step=0), tuple(commands))), sequence_groups((0, 1))
    )


def predicted(node: str, layerwise: bool, *, contention: bool = True) -> float:
    """Seconds of one forward."""
    asked = scenario(node)
    if not contention:
        asked = parse_scenario(
            {
                "schema": 2,
                "model": "wan2.2-t2v-a14b",
                "node": node,
                "policy": "resident",
                "workload": {"gpus": 2, "tokens": 2 * ROWS, "steps": 1},
                "simulation": {"contention": False},
            },
            HERE / "measure.py",
        )
    timeline = simulate(asked, program(asked, layerwise))
    kernels = [span for span in timeline.spans if span.rank == 0 and span.track == COMPUTE]
    return max(span.end for span in kernels) - min(span.start for span in kernels)


def measured(folder: str) -> dict[str, list[float]]:
    """Raw milliseconds of the measured forwards of rank 0."""
    record = json.loads((HERE / folder / "rank0.json").read_text())
    return dict(record["results"]["forward"])


def overheads_percent(values: dict[str, list[float]]) -> list[float]:
    """Layerwise over resident, one figure per A B B A round [%]."""
    a, b = values["resident"], values["layerwise"]
    return [100 * ((b[i] + b[i + 1]) / (a[i] + a[i + 1]) - 1) for i in range(0, len(a), 2)]


PARTS = ("before q", "q", "k", "v", "attention", "out", "rest", "block", "copy")


def parts(folder: str, kind: str) -> dict[str, float]:
    """Measured milliseconds of the parts of one block on rank 1 (share.py): medians."""
    record = json.loads((HERE / folder / "share1.json").read_text())["results"][f"forward {kind}"]
    at = {name: statistics.median(values) for name, values in record.items()}
    begins = [at[f"{2 * i} exchange begins"] for i in range(4)]
    ends = [at[f"{2 * i + 1} exchange ends"] for i in range(4)]
    q, k, v, out = (end - begin for begin, end in zip(begins, ends, strict=True))
    values = (
        begins[0],
        q,
        k,
        v,
        begins[3] - ends[2],
        out,
        at["block ends"] - ends[3],
        at["block ends"],
        at["copy ends"],
    )
    return dict(zip(PARTS, values, strict=True))


def predicted_parts(node: str, resident: dict[str, float], sent: float) -> dict[str, float]:
    """The same block with a copy beside it: only the resident parts' times and the node's sharing go in."""
    asked = scenario(node)
    gpu = asked.node.gpu
    rate, relayout = asked.node.wiring.collectives, 2 * 221.2e6 / gpu.relayout_bandwidth.value  # type: ignore[union-attr]
    assert rate is not None
    alone = {name: resident[name] / 1e3 - relayout - rate.all_to_all.latency.value for name in ("q", "k", "v", "out")}
    speed = statistics.mean(sent / seconds for seconds in alone.values())
    asked = parse_scenario(
        {
            "schema": 2,
            "model": "wan2.2-t2v-a14b",
            "policy": "resident",
            "node": {"extends": node, "wiring": {"collectives": {"all_to_all": {"rate_GBps": speed / 1e9}}}},
            "workload": {"gpus": 2, "tokens": 2 * ROWS, "steps": 1},
        },
        HERE / "share.py",
    )
    timeline = simulate(asked, _parts_program(asked, resident, sent, relayout))
    spans = {span.name: span for span in timeline.spans if span.rank == 0 and span.track in (COMPUTE, "copy")}
    start = spans["before q"].start
    found = {name: 1e3 * spans[name].duration for name in ("before q", "attention", "rest")}
    for call in ("q", "k", "v", "out"):
        found[call] = 1e3 * (spans[f"unpack {call}"].end - spans[f"pack {call}"].start)
    found |= {"block": 1e3 * (spans["rest"].end - start), "copy": 1e3 * (spans["copy"].end - start)}
    return found


def _parts_program(asked: Scenario, resident: dict[str, float], sent: float, relayout: float) -> StreamProgram:
    gpu = asked.node.gpu

    def kernels(name: str, kind: str, seconds: float) -> Command:
        speed = gpu.gemm.highest() if kind == "gemm" else gpu.attention["default"].highest()
        moved = seconds * (gpu.relayout_bandwidth or gpu.memory_bandwidth).value if kind == "relayout" else 0.0
        return Compute(COMPUTE, name, (Kernel(kind, seconds * speed if not moved else 0.0, moved, TOKENS),))

    def exchange(call: str) -> list[Command]:
        return [
            kernels(f"pack {call}", "relayout", relayout / 2),
            Collective(COMPUTE, call, "all-to-all", sent),
            kernels(f"unpack {call}", "relayout", relayout / 2),
        ]

    gap = (resident["block"] - sum(resident[name] for name in PARTS[:7])) / 1e3 / 2
    commands = [*wait_stream("copy", COMPUTE), Copy("copy", "copy", "H2D", LAYER_BYTES, "pinned", "buffer 0")]
    commands += [kernels("before q", "gemm", resident["before q"] / 1e3), *exchange("q")]
    commands += [kernels("gap 1", "gemm", gap), *exchange("k"), kernels("gap 2", "gemm", gap), *exchange("v")]
    commands += [kernels("attention", "attention", resident["attention"] / 1e3), *exchange("out")]
    commands += [kernels("rest", "gemm", resident["rest"] / 1e3), Synchronize("device")]
    load = Section("load", LOADING, (Allocate("buffer 0", LAYER_BYTES, COMPUTE),))
    return StreamProgram(
        "block", (load, Section("block", Use("denoise", step=0), tuple(commands))), sequence_groups((0, 1))
    )


def block_table() -> Table:
    """One block part by part: measured resident (input), measured and predicted layerwise."""
    table = Table(title="One block beside one 702.8 MB copy, milliseconds (resident: input; layerwise: predicted)")
    for column in ("collectives over", "", *PARTS):
        table.add_column(column, justify="left" if column in ("collectives over", "") else "right")
    for transport, name in (("NVLink", "h100-sxm-x2-nvlink"), ("host memory", "h100-sxm-x2-host-memory")):
        resident, layerwise = parts(name, "resident"), parts(name, "layerwise")
        ours = predicted_parts(name, resident, 55.296e6)
        table.add_row(transport, "resident, measured", *(f"{resident[part]:.2f}" for part in PARTS))
        table.add_row("", "layerwise, measured", *(f"{layerwise[part]:.2f}" for part in PARTS))
        table.add_row("", "layerwise, predicted", *(f"{ours[part]:.2f}" for part in PARTS))
        errors = (f"{100 * (ours[part] / layerwise[part] - 1):+.1f}" for part in PARTS)
        table.add_row("", "error %", *errors)
        table.add_section()
    return table


def main() -> None:
    table = Table(title="20 Wan-14B blocks on 2 x H100 SXM: resident against layerwise")
    for column in ("collectives over", "", "measured ms", "predicted ms", "error %"):
        table.add_column(column, justify="left" if column in ("collectives over", "") else "right")
    for transport, node in (("NVLink", "h100-sxm-x2-nvlink"), ("host memory", "h100-sxm-x2-host-memory")):
        values = measured(node)
        times = {kind: statistics.median(values[kind]) for kind in ("resident", "layerwise")}
        ours = {kind: 1e3 * predicted(node, kind == "layerwise") for kind in times}
        for kind, time in times.items():
            table.add_row(transport, kind, f"{time:.1f}", f"{ours[kind]:.1f}", f"{100 * (ours[kind] / time - 1):+.1f}")
        rounds = overheads_percent(values)
        spread = f"{statistics.median(rounds):+.2f} % ({min(rounds):+.2f} .. {max(rounds):+.2f})"
        overhead = 100 * (ours["layerwise"] / ours["resident"] - 1)
        free = 100 * (predicted(node, True, contention=False) / predicted(node, False, contention=False) - 1)
        table.add_row(
            transport, "layerwise over resident", spread, f"{overhead:+.2f} %", f"without contention {free:+.2f} %"
        )
        table.add_section()
    console = Console(width=118)
    console.print(table)
    console.print(block_table())


if __name__ == "__main__":
    main()
