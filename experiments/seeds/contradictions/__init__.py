"""Where the seeds disagree with each other or with arithmetic: a verdict for each, and the computation behind it."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from offsim.program.block import exchanged_bytes, layout_of
from offsim.program.build import build
from offsim.program.commands import Collective
from offsim.results.predict import predict
from offsim.results.steps import traffic
from offsim.scenario.scenario import RefusedScenario, Scenario
from offsim.scenario.schedule import switch_step

from ..common import FULL_MODEL, GIB, layerwise, wan
from ..nvlink_8x_h100 import predictions

Row = tuple[str, str, str, str]
"""(question, what the seeds say, computation, verdict)."""


def pcie(policy: dict[str, object], gpus: int = 4, **work: object) -> Scenario:
    return wan("h100-pcie", gpus, policy, **work)


def h2d_per_step() -> Row:
    per_step = {v: traffic(build(pcie(layerwise(v))).sections[4].commands)[0] / 1e9 for v in ("v1", "v2")}
    total = 27 * per_step["v1"] * 2
    return (
        "H2D per GPU and step, layerwise",
        "6.7 GB; 17.6 GB; 3,002 GB in 27 steps",
        f"V1 {per_step['v1']:.1f}, V2 {per_step['v2']:.1f} GB in bf16, twice that in fp32; 27 steps fp32 V1: {total:.0f} GB",
        "55-56 GB (bf16); 3,002 GB is what fp32 moves in 27 steps, and bf16 in two runs, 1.4 % over",
    )


def dtype() -> Row:
    expert = pcie(FULL_MODEL).model.parameters * 4
    tensor = 5120 * 13824 * 4 / 1e6
    return (
        "weight dtype of the 4-GPU runs",
        "BF16",
        f"for fp32: 3,002 GB moved; copies of {tensor:.0f} MB; an fp32 expert is {expert / GIB:.1f} of 61.25 GiB. "
        "Against: the switch step (72 s at these page-fault rates, 46 in bf16, 50 measured); pinned fp32 doesn't fit the host",
        "bf16: a later trace of the same author has 57.3 GB a step and GPU, a later switch step 49.7 s; 3,002 GB are two runs",
    )


def layer_bytes() -> Row:
    model = pcie(FULL_MODEL).model
    block = model.blocks[0].parameters * 2
    return (
        "bytes of a layer",
        "~670 MB; ~700 MB; 167.8 MB",
        f"351,394,304 parameters x 2 = {block:,} B = {block / 2**20:.1f} MiB; 4096 x 10240 x 4 = {4096 * 10240 * 4 / 1e6:.1f} MB",
        "703 MB = 670 MiB; 167.8 MB is an fp32 FFN matrix of the text encoder",
    )


def sharded() -> Row:
    moved = [traffic(build(pcie(layerwise("v1"), gpus)).sections[4].commands)[0] / 1e9 for gpus in (2, 4, 8)]
    return (
        "is the weight sharded over GPUs",
        "yes (000); no (001)",
        f"per GPU and step at 2, 4, 8 GPUs: {', '.join(f'{gb:.1f}' for gb in moved)} GB",
        "no: every rank copies all",
    )


def all_to_all() -> Row:
    scenario = pcie(layerwise("v1"))
    step = build(scenario).sections[4].commands
    calls = sum(isinstance(c, Collective) for c in step)
    sent = sum(c.bytes for c in step if isinstance(c, Collective)) / 80 / 1e6
    one = exchanged_bytes(layout_of(scenario), scenario.tokens, 5120) / 1e6
    return (
        "all-to-all per GPU and layer",
        "64 MB, 2 calls",
        f"{calls} calls a step ({27 * calls:,} in 27 steps; 17,284 events seen), {one:.1f} MB a tensor, {sent:.0f} MB a layer",
        "8 calls, 1,003 MB a layer",
    )


def tokens() -> Row:
    frames = [pcie(FULL_MODEL, gpus).tokens for gpus in (1, 2, 4, 8)]
    shards = [pcie(FULL_MODEL, gpus, token_sharding="tokens").tokens for gpus in (1, 8)]
    return (
        "tokens",
        "81 frames",
        f"sharded by frame at 1, 2, 4, 8 GPUs: {', '.join(f'{n:,}' for n in frames)}; by token: {shards[0]:,}, {shards[1]:,}",
        "86,400 at 4 and 8 GPUs in these versions",
    )


def six_gpus() -> Row:
    try:
        pcie(layerwise("v1"), 6)
    except RefusedScenario as error:
        said = str(error).split(": ", 1)[1]
        return "6 GPUs", "to be benchmarked", said, "refused; nor would the host's memory do (job_matrix)"
    return "6 GPUs", "to be benchmarked", "runs", "would run"


def resident_weights() -> Row:
    steady = traffic(build(pcie(FULL_MODEL)).sections[4].commands)
    fsdp = traffic(build(pcie({"name": "fsdp"})).sections[4].commands)
    return (
        "does full-model keep weights resident",
        "yes; and 'FSDP, each GPU transfers 1/N'",
        f"bytes in a steady step: component swap {steady[0] / 1e9:.1f} GB H2D, FSDP {fsdp[0] / 1e9:.1f} GB H2D a GPU",
        "yes: these runs swap components; FSDP with CPU offload is another mode",
    )


def switch_spike() -> Row:
    node = pcie(FULL_MODEL).node.host
    bytes_ = pcie(FULL_MODEL).model.parameters * 2
    out, back = bytes_ / node.fresh_d2h.value, bytes_ / node.pageable_h2d.value
    return (
        "switch spike",
        "~8 s; 50 s (30 s over a step)",
        f"28.58 GB out into fresh pages {out:.1f} s, back {back:.1f} s: {out + back:.1f} s; 28.0 s on 8 x H100, 30.2 s on 4",
        "26-30 s: page faults, not PCIe",
    )


def cost() -> Row:
    return (
        "cost of layerwise on PCIe",
        "1.8 s a step from 80 synchronisations",
        "see ablation: synchronising in every hook 9 ms; contention 0 to 3.1 s by topology",
        "contention on one uplink (cluster); synchronisation refuted",
    )


def wiring() -> Row:
    return (
        "how the cluster is wired",
        "PCIe fabric, 64 GB/s",
        "later files: 12.4 GB/s a GPU with four copying, 55.4 alone; all-to-alls of 14.5 ms, 7.1 at least. One uplink and "
        "exchanges through host memory: 13.4 ms, 7.1 for a rank that comes last",
        "one x16 uplink for four GPUs, exchanges through host memory (cluster)",
    )


def peak_unit() -> Row:
    return (
        "peak memory 'GB'",
        "22.88, 61.25 GB",
        f"23,426 / 1024 = {23426 / 1024:.2f}; 62,717 / 1024 = {62717 / 1024:.2f}",
        "GiB",
    )


def totals() -> Row:
    _, full, layer = predictions()
    return (
        "totals on 8 x H100",
        "149.69 / 94.23 s",
        f"listed steps 148.92 / 93.29 s; predicted sums {full.total:.1f} / {layer.total:.1f} s",
        "the rest is outside the steps",
    )


def schedule() -> Row:
    steps = [switch_step(27, shift, 0.875) for shift in (3.0, 12.0)]
    return "expert switch", "step 9 (shift 3), 18 (shift 12)", f"from the schedule: {steps[0]}, {steps[1]}", "agree"


def expected_pure_gpu() -> Row:
    missing = predict(pcie({"name": "resident"})).out_of_memory
    short = f"{missing.needed / GIB:.1f} GiB needed" if missing else "fits"
    return "pure GPU on 80 GB", "79+ GB (OOM)", f"bf16: {short}", "out of memory, narrowly"


ROWS: tuple[Callable[[], Row], ...] = (
    h2d_per_step,
    dtype,
    layer_bytes,
    sharded,
    all_to_all,
    tokens,
    six_gpus,
    resident_weights,
    switch_spike,
    cost,
    wiring,
    peak_unit,
    totals,
    schedule,
    expected_pure_gpu,
)


def main(console: Console) -> bool:
    """Print one table with every verdict."""
    table = Table(title="Where the seeds disagree", show_lines=True)
    for column, width in (("question", 16), ("the seeds say", 22), ("computation", 46), ("verdict", 24)):
        table.add_column(column, width=width)
    for row in ROWS:
        table.add_row(*row())
    console.print(table)
    return True
