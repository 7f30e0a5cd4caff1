"""Two things at once: kernels beside copies, collectives beside copies (the core probe), kernels beside collectives.

Every pair is interleaved alone, beside, beside, alone; the background outlasts the foreground, and its rate is taken
inside the foreground's window only.
"""

from collections.abc import Callable
from typing import ClassVar, cast

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration
from offsim.program.commands import (
    COMPUTE,
    Allocate,
    CollectiveName,
    Command,
    Copy,
    Direction,
    Kernel,
    Record,
    Wait,
)

from .bench import Bench, ProbeReading
from .copies import background_rate
from .kernels_time import guessed_seconds
from .power import load_kernels
from .probe import CalibrationMode, Probe, Readings
from .writing import (
    MIB,
    PROBE_COPY_STREAM,
    compute,
    copy_buffers,
    elementwise_kernel,
    marked_copies,
    relayout_kernel,
    repeated_collectives,
    timed,
    working_memory,
)

CHUNK = 64 * MIB
COPY_RATE_BOUND = 60e9
"""Bytes per second that no copy reaches: with it a background surely lasts."""
SLOWEST = (10e9, 150e9)
"""Least rates of a collective beside copies, through host memory and over NVLink: they bound how many copies are issued
under a gate, which must stay below what a stream can hold (about 1000 commands)."""
SOME_TIME = 30e-3
PROBED_CLASSES = ("gemm", "attention", "elementwise", "relayout")


def foreground_kernels(name: str) -> tuple[Kernel, ...]:
    """One kernel of a class, of a usual size, to run beside something."""
    if name == "relayout":
        return (relayout_kernel(8192, 2, 2560),)
    return (elementwise_kernel(250 * 10**6),) if name == "elementwise" else load_kernels(name)


class KernelCopy(Probe):
    """A class of kernels with and without copies beside them."""

    key, title, identifies = "kernel-copy", "kernels beside copies", ("gpu.interference",)
    rounds = (3, 6)
    usual_seconds = 1.8

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        directions = ("H2D", "D2H") if mode == "full" else ("H2D",)
        return [{"kernel": name, "direction": d} for name in PROBED_CLASSES for d in directions]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        kernels = foreground_kernels(str(config["kernel"]))
        direction: Direction = "H2D" if config["direction"] == "H2D" else "D2H"
        count = max(4, round(SOME_TIME / guessed_seconds(kernels[0])))
        copies = int(2.5 * SOME_TIME * COPY_RATE_BOUND / CHUNK)
        memory, body = working_memory(kernels), timed(COMPUTE, [compute("kernels", kernels * count)])
        alone = (*memory, *body)
        beside = (*memory, *copy_buffers(direction, CHUNK), *marked_copies(direction, CHUNK, copies), *body)
        return abba(bench, alone, beside, repeats, lambda reading: covered(reading, direction, copies), count)


def covered(reading: ProbeReading, direction: str, copies: int) -> bool:
    """Whether the copies lasted as long as what they ran beside."""
    return background_rate(reading, direction, CHUNK, copies) is not None


def abba(
    bench: Bench,
    alone: tuple[Command, ...],
    beside: tuple[Command, ...],
    repeats: int,
    valid: Callable[[ProbeReading], bool],
    count: int,
) -> Readings:
    """Seconds per repetition of the foreground alone and beside; pairs whose background ended early are dropped."""
    found: Readings = {"alone": [], "beside": []}
    for _ in range(repeats):
        readings = [bench.run(commands) for commands in (alone, beside, beside, alone)]
        if all(valid(readings[i]) for i in (1, 2)):
            seconds = [reading.between("begin", "end") / count for reading in readings]
            found["alone"] += [seconds[0], seconds[3]]
            found["beside"] += [seconds[1], seconds[2]]
    return found


class CopyCollective(Probe):
    """Collectives beside copies, at several duties, both directions, on all ranks or one: the core probe.

    Copies go back to back (`every` = 0), or one after every k-th collective, as a layerwise prefetch does.
    """

    key, title = "copy-collective", "collectives beside copies"
    identifies: ClassVar[tuple[str, ...]] = (
        "wiring.collectives.all_to_all.weight",
        "wiring.collectives.all_gather.weight",
        "wiring.collectives.all_to_all.link_cost",
        "wiring.collectives.all_gather.link_cost",
        "wiring.collectives.all_to_all.interference",
        "wiring.collectives.all_gather.interference",
    )
    several_gpus = True
    rounds = (3, 5)
    usual_seconds = 2.0
    slowest: ClassVar[tuple[float, float]] = SLOWEST

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:
        slow = node.transport != "nvlink"
        big, small = (84 * 10**6, 21 * 10**6) if slow else (193 * 10**6, 42 * 10**6)
        cases: list[tuple[str, int, int, int, str, int]] = [
            ("H2D", 0, big, CHUNK, "all-to-all", -1),
            ("H2D", 0, small, CHUNK, "all-to-all", -1),
            ("D2H", 0, big, CHUNK, "all-to-all", -1),
        ]
        if mode == "full":
            cases += [
                ("H2D", 0, big, CHUNK, "all-to-all", 0),
                ("H2D", 0, 2 * big, CHUNK, "all-gather", -1),
                ("D2H", 0, small, CHUNK, "all-to-all", -1),
                ("H2D", 1, big, CHUNK, "all-to-all", -1),
                ("H2D", 2, big, CHUNK, "all-to-all", -1),
                ("H2D", 4, big, 4 * CHUNK, "all-to-all", -1),
                ("H2D", 4, small, 2 * CHUNK, "all-to-all", -1),
            ]
        keys = ("direction", "every", "bytes", "copy_bytes", "kind", "only_rank")
        return [{**dict(zip(keys, case, strict=True)), "transport": node.transport} for case in cases]

    def held_out(self, config: Configuration) -> bool:
        return config["every"] == 4 or config["only_rank"] == 0

    def calls(self, config: Configuration, transport: str) -> int:  # noqa: ARG002
        """How many collectives a run has."""
        return 8 if transport != "nvlink" else 40

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        count = self.calls(config, bench.transport)
        alone, beside, copies = self._programs(config, count, self.slowest[bench.transport == "nvlink"])
        only = int(config["only_rank"])
        found: Readings = {"alone": [], "beside": [], "copy_rate": [], "duty": []}
        for _ in range(repeats):
            first = bench.run(alone)
            reading = bench.run(beside, only_rank=None if only < 0 else only)
            last = bench.run(alone)
            rate, duty = self._background(reading, config, copies)
            if rate is None:
                continue
            found["alone"] += [r.between("begin", "end") / count for r in (first, last)]
            found["beside"].append(reading.between("begin", "end") / count)
            found["copy_rate"].append(rate)
            found["duty"].append(duty)
        return found

    def _programs(
        self, config: Configuration, count: int, slowest: float
    ) -> tuple[tuple[Command, ...], tuple[Command, ...], int]:
        """Programs without and with copies, and how many copies; `slowest`: a collective's least rate beside them."""
        kind = cast(CollectiveName, config["kind"])
        direction: Direction = "H2D" if config["direction"] == "H2D" else "D2H"
        bytes_, chunk, every = int(config["bytes"]), int(config["copy_bytes"]), int(config["every"])
        memory: list[Command] = [Allocate("activations", 4.0 * bytes_ + 4096, COMPUTE)]
        calls = repeated_collectives(kind, bytes_, count)
        alone = (*memory, *timed(COMPUTE, calls))
        memory += copy_buffers(direction, chunk)
        if not every:
            copies = int(1.5 * count * max(bytes_ / slowest, 2e-4) * COPY_RATE_BOUND / chunk)
            return alone, (*memory, *marked_copies(direction, chunk, copies), *timed(COMPUTE, calls)), copies
        mixed, copies = self._spaced(calls, every, direction, chunk)
        return alone, (*memory, *timed(COMPUTE, mixed)), copies

    def _spaced(self, calls: list[Command], every: int, direction: Direction, chunk: int) -> tuple[list[Command], int]:
        """Collectives, and copies between them that wait for every k-th one, as they are issued after it."""
        mixed: list[Command] = []
        copies = 0
        for i, call in enumerate(calls):
            if i % every == 0:
                name = f"{direction} buffer {copies % 2}"
                mixed += [
                    Record(COMPUTE, f"call {i}"),
                    Wait(PROBE_COPY_STREAM, f"call {i}"),
                    Record(PROBE_COPY_STREAM, f"copy begin {copies}"),
                    Copy(PROBE_COPY_STREAM, name, direction, chunk, "pinned", name),
                    Record(PROBE_COPY_STREAM, f"copy end {copies}"),
                ]
                copies += 1
            mixed.append(call)
        return mixed, copies

    def _background(self, reading: ProbeReading, config: Configuration, copies: int) -> tuple[float | None, float]:
        """Rate of the copies while they run inside the window, and the share of the window in which they do."""
        chunk, only = int(config["copy_bytes"]), int(config["only_rank"])
        rank = max(0, only)
        if not int(config["every"]):
            copying = None if only < 0 else only
            return background_rate(reading, str(config["direction"]), chunk, copies, copying), 1.0
        begin, end = reading.instants[rank, "begin"], reading.instants[rank, "end"]
        spans = [
            (reading.instants[rank, f"copy begin {i}"], reading.instants[rank, f"copy end {i}"]) for i in range(copies)
        ]
        active = sum(max(0.0, min(b, end) - max(a, begin)) for a, b in spans)
        # What is still running at the end goes on faster, without the collectives.
        whole = [b - a for a, b in spans if b <= end]
        return (chunk * len(whole) / sum(whole) if whole else None), active / (end - begin)


class KernelCollective(Probe):
    """Products while an all-gather runs on another stream, as FSDP's do."""

    key, title, identifies = "kernel-collective", "kernels beside collectives", ("gpu.interference",)
    several_gpus = True
    rounds = (3, 5)
    usual_seconds = 3.0

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:
        names = PROBED_CLASSES[:3] if mode == "full" else ("gemm",)
        return [{"kernel": name, "kind": "all-gather", "transport": node.transport} for name in names]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        kernels = foreground_kernels(str(config["kernel"]))
        count = max(4, round(SOME_TIME / guessed_seconds(kernels[0])))
        body = timed(COMPUTE, [compute("kernels", kernels * count)])
        return beside_gathers(bench, working_memory(kernels), body, repeats, count)


class CollectivePair(Probe):
    """All-to-alls while all-gathers run on another stream, as under FSDP with Ulysses: two communicators at once."""

    key, title = "collective-pair", "all-to-alls beside all-gathers"
    identifies = ("wiring.collectives.all_to_all.interference", "wiring.collectives.all_gather.interference")
    several_gpus = True
    rounds = (3, 5)
    usual_seconds = 2.0

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:
        sizes = (84 * 10**6, 21 * 10**6) if mode == "full" else (84 * 10**6,)
        return [{"bytes": size, "transport": node.transport} for size in sizes]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        bytes_ = int(config["bytes"])
        count = max(4, round(SOME_TIME * (SLOWEST[bench.transport == "nvlink"] / bytes_)))
        body = timed(COMPUTE, repeated_collectives("all-to-all", bytes_, count))
        return beside_gathers(bench, [Allocate("activations", 4.0 * bytes_ + 4096, COMPUTE)], body, repeats, count)


def beside_gathers(bench: Bench, memory: list[Command], body: list[Command], repeats: int, count: int) -> Readings:
    """`count` repetitions of something on the compute stream, alone and beside all-gathers that outlast it."""
    gathers, gathered = 6 if bench.transport != "nvlink" else 100, 2.0 * 350 * 10**6
    memory = [*memory, Allocate("gathered", gathered, COMPUTE)]
    background: list[Command] = [Record("all-gather", "gather 0")]
    for i in range(gathers):
        background += [_gather(i, gathered), Record("all-gather", f"gather {i + 1}")]
    inside: list[float] = []

    def lasts(reading: ProbeReading) -> bool:
        seconds = _gather_seconds(reading, gathers)
        inside.extend([seconds] if seconds is not None else [])
        return seconds is not None

    found = abba(bench, (*memory, *body), (*memory, *background, *body), repeats, lasts, count)
    found["collective_beside"] = inside
    runs = [bench.run((*memory, *background)) for _ in range(repeats)]
    found["collective_alone"] = [run.between("gather 0", f"gather {gathers}") / gathers for run in runs]
    return found


def _gather(number: int, bytes_: float) -> Command:
    from offsim.program.commands import Collective

    return Collective("all-gather", f"gather {number}", "all-gather", bytes_ / 2, "world", ("gathered",), ("gathered",))


def _gather_seconds(reading: ProbeReading, count: int) -> float | None:
    """Seconds of one all-gather while the kernels run, waiting for their multiprocessors included; None if they end
    before the kernels do.
    """
    rate = background_rate(reading, "gather", 1.0, count)
    return 1 / rate if rate else None
