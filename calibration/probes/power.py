"""What load does to the clock: continuous kernels, and bursts with idle gaps between them.

The burst's durations against the same kernels at full clock show how far the clock falls; what clock, power and energy
read meanwhile is kept. Loads that memory bounds never reach the limit: their power shows the energy per byte. In loads
that mix classes of kernels each is timed by itself, since a low clock slows them differently.
"""

from itertools import groupby
from typing import ClassVar

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration
from offsim.program.commands import COMPUTE, Command, Compute, HostWork, Kernel, Record, Synchronize
from offsim.scenario.load import load_model

from .bench import Bench, ProbeReading, Watched
from .kernels_time import guessed_seconds
from .probe import CalibrationMode, Probe, Readings
from .writing import (
    attention_kernel,
    compute,
    elementwise_kernel,
    product_kernel,
    relayout_kernel,
    timed,
    working_memory,
)

SOAK = {"quick": 1.6, "full": 5.0}
"""Seconds of continuous load. About a second after it begins a slower regulation goes through a dip; what a long run
has comes after that, so only a full calibration sees it."""
SOAK_PART_SECONDS = 6e-3
"""Seconds between two records of a soak."""
DUTY_RUN = 1.2
DROPPED = 0.4
"""Share of a duty run's bursts in which the clock still settles."""
TOKENS, RAGGED = 8192, 8190
"""Attention over keys that are no multiple of 128 is another kernel, which draws more for a FLOP."""


def load_kernels(name: str) -> tuple[Kernel, ...]:
    """The kernels of one round of a load: one class, a Wan-14B block on one GPU, or (`half`) one of two GPUs' part."""
    if name == "gemm":
        return (product_kernel(TOKENS, 5120, 13824),)
    if name in ("attention", "attention-ragged"):
        keys = TOKENS if name == "attention" else RAGGED
        return (attention_kernel(40, keys, keys, 128),)
    if name == "elementwise":
        return (elementwise_kernel(600 * 10**6),)
    if name == "relayout":
        return (relayout_kernel(TOKENS, 3, 5120),)
    kind, _, tokens = name.partition("-")
    return mixed_kernels(int(tokens) if tokens else TOKENS, degree=2 if kind == "half" else 1)


def mixed_kernels(tokens: int, degree: int) -> tuple[Kernel, ...]:
    """The kernels of a Wan-14B block on one of `degree` GPUs that share its sequence."""
    from offsim.program.block import Layout, block_commands

    model = load_model("wan2.2-t2v-a14b")
    layout = Layout(degree, tokens, 0, 1, 4)
    operations = tuple(
        op for op in model.blocks[0].operations() if getattr(op, "rows", getattr(op, "keys", "")) != "text"
    )
    commands = block_commands(operations, layout, "mix", ())
    return tuple(k for c in commands if isinstance(c, Compute) for k in c.kernels)


class Soak(Probe):
    """Continuous load from a cool chip on, with its clock and power."""

    key, title = "soak", "clock under continuous load"
    identifies: ClassVar[tuple[str, ...]] = (
        "gpu.clock.energy",
        "gpu.clock.power_exponent",
        "gpu.clock.knee",
        "gpu.clock.window",
        "gpu.clock.burst",
    )
    rounds = (1, 1)
    usual_seconds = 6.5
    usual: ClassVar[tuple[str, ...]] = ("gemm", "attention", "elementwise", "mix")
    more: ClassVar[tuple[str, ...]] = (
        "attention-ragged",
        "relayout",
        "mix-2048",
        "mix-32760",
        "mix-32768",
        "half-16384",
        "half-32760",
    )

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        chosen = (*self.usual, *self.more) if mode == "full" else self.usual
        return [{"kernels": name, "seconds": SOAK[mode]} for name in chosen]

    def held_out(self, config: Configuration) -> bool:
        return config["kernels"] in ("mix-2048", "half-16384")

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        kernels = load_kernels(str(config["kernels"]))
        round_seconds = sum(guessed_seconds(kernel) for kernel in kernels)
        per_part = max(1, round(SOAK_PART_SECONDS / round_seconds))
        parts = round(float(config["seconds"]) / (per_part * round_seconds))
        classes = [(name, tuple(alike)) for name, alike in groupby(kernels, key=lambda kernel: kernel.kernel_class)]
        rest = [compute("load", kernels * (per_part - 1))] if per_part > 1 else []
        commands: list[Command] = [*working_memory(kernels), Record(COMPUTE, "part 0")]
        for i in range(parts):
            for k, (_, alike) in enumerate(classes):
                commands += [compute("load", alike), Record(COMPUTE, f"part {i} class {k}")]
            commands += [*rest, Record(COMPUTE, f"part {i + 1}")]
        found: Readings = {"start": [], "seconds": []}
        for _ in range(repeats):
            reading = bench.run(tuple(commands), settle=0.7, gated=False)
            for i in range(parts):
                found["start"].append(reading.between("part 0", f"part {i}"))
                found["seconds"].append(reading.between(f"part {i}", f"part {i + 1}") / per_part)
                keep_classes(found, reading, i, [name for name, _ in classes])
            keep_watched(found, reading)
        return found


def keep_classes(found: Readings, reading: ProbeReading, part: int, names: list[str]) -> None:
    """Add what each class of kernels took in a part's first round on the slowest rank, if there are several."""
    ranks = {rank for rank, _ in reading.instants}
    slowest = max(ranks, key=lambda r: reading.instants[r, f"part {part + 1}"] - reading.instants[r, f"part {part}"])
    marks = [reading.instants[slowest, f"part {part}"]]
    marks += [reading.instants[slowest, f"part {part} class {k}"] for k in range(len(names))]
    for name in dict.fromkeys(names) if len(names) > 1 else ():
        spent = sum(marks[k + 1] - marks[k] for k, other in enumerate(names) if other == name)
        found.setdefault(f"class_{name}", []).append(spent)


def keep_watched(found: Readings, reading: ProbeReading) -> None:
    """Add what was watched during a run, if anything was, field by field."""
    for seen in reading.watched:
        for name, value in zip(Watched._fields, seen, strict=True):
            found.setdefault(f"watched_{name}", []).append(value)


class SoakTogether(Soak):
    """Continuous load on all GPUs at once: chips of one part differ by some percent, and the slowest sets the pace."""

    key, title = "soak-together", "clock of the slowest GPU under continuous load"
    identifies = ("gpu.clock.energy",)
    several_gpus = True
    usual = ("gemm", "attention", "mix")
    more = ("attention-ragged", "half-16384", "half-32760")


class Duty(Probe):
    """Bursts and gaps: how much load the clock stands. What a burst's first round takes is kept beside, not fitted."""

    key, title, identifies = "duty", "clock under bursts with gaps", ("gpu.clock.energy", "gpu.clock.window")
    rounds = (1, 1)
    usual_seconds = 2.5

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        bursts = ((0.01, 0.0025), (0.01, 0.005), (0.01, 0.01), (0.05, 0.0125), (0.05, 0.05), (0.01, 0.0011))
        chosen = bursts if mode == "full" else bursts[:3]
        names = ("gemm", "mix") if mode == "full" else ("mix",)
        return [{"kernels": name, "busy": busy, "idle": idle} for name in names for busy, idle in chosen]

    def held_out(self, config: Configuration) -> bool:
        return config["idle"] in (0.005, 0.05)

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        kernels, busy, idle = load_kernels(str(config["kernels"])), float(config["busy"]), float(config["idle"])
        per_burst = max(1, round(busy / sum(guessed_seconds(kernel) for kernel in kernels)))
        bursts = max(4, round(DUTY_RUN / (busy + idle)))
        commands: list[Command] = [*working_memory(kernels)]
        for i in range(bursts):
            rest = [compute("load", kernels * (per_burst - 1))] if per_burst > 1 else []
            burst: list[Command] = [compute("load", kernels), Record(COMPUTE, f"first {i}"), *rest]
            commands += timed(COMPUTE, burst, f"begin {i}", f"end {i}")
            commands += [Synchronize("stream", COMPUTE), HostWork("idle", idle)]
        found: Readings = {"seconds": [], "first": []}
        for _ in range(repeats):
            reading = bench.run(tuple(commands), settle=0.3, gated=False)
            kept = range(round(DROPPED * bursts), bursts)
            found["first"] += [reading.between(f"begin {i}", f"first {i}") for i in kept]
            found["seconds"] += [reading.between(f"begin {i}", f"end {i}") / per_burst for i in kept]
            keep_watched(found, reading)
        return found
