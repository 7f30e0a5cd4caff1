"""Copies between host and device: rates by size, calls of one transfer, pageable memory, both ways, all GPUs, order."""

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration
from offsim.program.commands import COMPUTE, Allocate, Command, Copy, Direction, Free, Record

from .bench import Bench, ProbeReading
from .probe import CalibrationMode, Probe, Readings
from .writing import KIB, MIB, PROBE_COPY_STREAM, copy_buffers, marked_copies, moved_inside, repeated_copies, timed

BLOCK = 702_788_608
"""Bytes of a Wan-14B block."""
SHORTEST_COPY_RUN = 2e-3
GUESSED_COPY_RATE = 50e9
OPPOSITE: dict[str, Direction] = {"H2D": "D2H", "D2H": "H2D"}


def one_of(bench: Bench) -> int | None:
    """The only rank that copies, of several: its own link is asked for; what all reach at once is another question."""
    return 0 if bench.ranks > 1 else None


class CopySweep(Probe):
    """Pinned copies of one direction, back to back, by size."""

    rounds = (5, 11)
    direction: Direction
    sizes = (16 * KIB, 256 * KIB, MIB, 4 * MIB, 11 * MIB, 16 * MIB, 45 * MIB, 64 * MIB, 180 * MIB, 256 * MIB, BLOCK)
    kept_out = (11 * MIB, 45 * MIB, 180 * MIB)

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        chosen = self.sizes if mode == "full" else (MIB, 16 * MIB, 45 * MIB, BLOCK)
        return [{"bytes": size} for size in chosen]

    def held_out(self, config: Configuration) -> bool:
        return config["bytes"] in self.kept_out

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        bytes_ = int(config["bytes"])
        count = min(64, max(2, round(SHORTEST_COPY_RUN * GUESSED_COPY_RATE / bytes_)))
        commands = (
            *copy_buffers(self.direction, bytes_),
            *timed(PROBE_COPY_STREAM, repeated_copies(self.direction, bytes_, count)),
        )
        runs = [bench.run(commands, only_rank=one_of(bench)) for _ in range(repeats)]
        return {"seconds": [run.between("begin", "end") / count for run in runs]}


class H2DSweep(CopySweep):
    """Pinned copies to the device, back to back, by size."""

    key, title, identifies = "h2d", "H2D by size", ("wiring.pcie.h2d", "wiring.pcie.latency")
    direction = "H2D"


class D2HSweep(CopySweep):
    """Pinned copies from the device, back to back, by size."""

    key, title, identifies = "d2h", "D2H by size", ("wiring.pcie.d2h", "wiring.pcie.latency")
    direction = "D2H"


class Chunks(Probe):
    """One transfer of a block in one call, in 27 and in 100."""

    key, title, identifies = "chunks", "one block in 1, 27 and 100 calls", ("wiring.pcie.further_call",)
    rounds = (3, 7)
    usual_seconds = 0.35

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        return [{"bytes": BLOCK, "calls": calls} for calls in ((1, 27) if mode == "quick" else (1, 27, 100))]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        bytes_, calls = int(config["bytes"]), int(config["calls"])
        commands = (
            *copy_buffers("H2D", bytes_),
            *timed(PROBE_COPY_STREAM, repeated_copies("H2D", bytes_, 1, calls=calls)),
        )
        runs = [bench.run(commands, only_rank=one_of(bench)) for _ in range(repeats)]
        return {"seconds": [run.between("begin", "end") for run in runs]}


class Pageable(Probe):
    """Copies of pageable memory, touched before or fresh: they block the host."""

    key, title = "pageable", "pageable copies"
    identifies = ("host.pageable_h2d", "host.pageable_d2h", "host.fresh_d2h")
    rounds = (3, 9)
    usual_seconds = 0.35

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        cases = (("H2D", "pageable"), ("D2H", "pageable"), ("D2H", "fresh"))
        sizes = (64 * MIB, 256 * MIB, BLOCK) if mode == "full" else (256 * MIB,)
        return [{"direction": d, "memory": m, "bytes": size} for d, m in cases for size in sizes]

    def held_out(self, config: Configuration) -> bool:
        return config["bytes"] == 64 * MIB

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        bytes_ = int(config["bytes"])
        memory = "fresh" if config["memory"] == "fresh" else "pageable"
        direction: Direction = "H2D" if config["direction"] == "H2D" else "D2H"
        name = f"{direction} buffer 0"
        host = Allocate(f"{name} on host", bytes_, "pageable")
        before: list[Command] = [Allocate(name, bytes_, COMPUTE)]
        copy = Copy(COMPUTE, name, direction, bytes_, memory, name)  # type: ignore[arg-type]
        inside: list[Command] = [host, copy, Free(host.buffer)] if memory == "fresh" else [copy]
        if memory != "fresh":
            before.append(host)
        commands = (*before, *timed(COMPUTE, inside))
        runs = [bench.run(commands, only_rank=one_of(bench), gated=False) for _ in range(repeats)]
        return {"seconds": [run.between("begin", "end") for run in runs]}


class Bidirectional(Probe):
    """Copies of one direction while the other one runs too."""

    key, title, identifies = "bidirectional", "H2D and D2H at once", ("wiring.pcie.duplex",)
    rounds = (5, 11)
    usual_seconds = 0.5

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        sizes = (64 * MIB, 256 * MIB) if mode == "full" else (64 * MIB,)
        return [{"foreground": d, "bytes": size} for d in OPPOSITE for size in sizes]

    def held_out(self, config: Configuration) -> bool:
        return config["bytes"] == 256 * MIB

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        bytes_, foreground = int(config["bytes"]), str(config["foreground"])
        direction: Direction = "H2D" if foreground == "H2D" else "D2H"
        other, count = OPPOSITE[foreground], max(4, 6 * 64 * MIB // bytes_)
        commands = (
            *copy_buffers(direction, bytes_),
            *copy_buffers(other, bytes_),
            *marked_copies(other, bytes_, 3 * count, "background"),
            *timed(PROBE_COPY_STREAM, repeated_copies(direction, bytes_, count)),
        )
        found: Readings = {"seconds": [], "background_rate": []}
        for _ in range(repeats):
            reading = bench.run(commands, only_rank=one_of(bench))
            rate = background_rate(reading, other, bytes_, 3 * count, one_of(bench))
            if rate is not None:
                found["seconds"].append(reading.between("begin", "end") / count)
                found["background_rate"].append(rate)
        return found


def background_rate(
    reading: ProbeReading, direction: str, bytes_: float, count: int, only_rank: int | None = None
) -> float | None:
    """Rate of marked copies between `begin` and `end` on the slowest rank; None where they ended early.

    `only_rank`: the rank that copies, where the others record the same events around nothing.
    """
    rates = []
    ranks = {rank for rank, event in reading.instants if event == f"{direction} {count}"}
    for rank in sorted(ranks if only_rank is None else ranks & {only_rank}):
        begin, end = reading.instants[rank, "begin"], reading.instants[rank, "end"]
        ends = [reading.instants[rank, f"{direction} {i}"] for i in range(count + 1)]
        moved = moved_inside(ends, bytes_, max(begin, ends[0]), end)
        if moved is None:
            return None
        rates.append(moved / (end - max(begin, ends[0])))
    return min(rates)


class Together(Probe):
    """Copies on all GPUs at once."""

    key, title = "together", "all GPUs copying at once"
    identifies = ("host.sockets.read", "host.sockets.write", "host.sockets.total")
    several_gpus = True
    rounds = (5, 9)
    usual_seconds = 0.6

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:
        sizes = (BLOCK, 256 * MIB) if mode == "full" else (256 * MIB,)
        return [
            {"direction": direction, "bytes": size, "gpus": node.gpus}
            for direction in ("H2D", "D2H", "both")
            for size in sizes
        ]

    def held_out(self, config: Configuration) -> bool:
        return config["bytes"] == BLOCK and config["direction"] != "both"

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        bytes_, chosen = int(config["bytes"]), str(config["direction"])
        directions: list[Direction] = ["H2D", "D2H"] if chosen == "both" else ["H2D" if chosen == "H2D" else "D2H"]
        commands: list[Command] = [command for d in directions for command in copy_buffers(d, bytes_)]
        for direction in directions:
            stream = f"{direction} stream"
            commands += timed(
                stream, repeated_copies(direction, bytes_, 4, stream), f"{direction} begin", f"{direction} end"
            )
        found: Readings = {f"{direction.lower()}_seconds": [] for direction in directions}
        for _ in range(repeats):
            reading = bench.run(tuple(commands))
            for direction in directions:
                seconds = reading.between(f"{direction} begin", f"{direction} end") / 4
                found[f"{direction.lower()}_seconds"].append(seconds)
        return found


class CopyOrder(Probe):
    """Three large copies on one stream, a small one on another issued after them: who waits for whom."""

    key, title, identifies = "copy-order", "a small copy behind large ones", ("the copy engine's order (a rule)",)
    rounds = (3, 5)
    usual_seconds = 0.3

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        return [{"small_bytes": MIB, "large_bytes": 256 * MIB}]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        large, small = int(config["large_bytes"]), int(config["small_bytes"])
        commands = (
            *copy_buffers("H2D", large),
            Allocate("small", small, COMPUTE),
            Allocate("small on host", small, "pinned"),
            *marked_copies("H2D", large, 3),
            Copy("other", "small", "H2D", small, "pinned", "small"),
            Record("other", "small end"),
        )
        found: Readings = {"small_end": [], "large_1_end": [], "large_2_end": [], "large_3_end": []}
        for _ in range(repeats):
            reading = bench.run(commands)
            found["small_end"].append(reading.between("H2D 0", "small end"))
            for i in (1, 2, 3):
                found[f"large_{i}_end"].append(reading.between("H2D 0", f"H2D {i}"))
        return found
