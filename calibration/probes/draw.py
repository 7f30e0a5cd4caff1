"""What a GPU draws where no kernel of ours runs: idle between loads, while copies run, while collectives run.

Read off NVML's energy counter during seconds of one thing after the other, so each value is a mean and no sample of a
sensor that averages by itself.
"""

from typing import ClassVar

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration
from offsim.program.commands import COMPUTE, Allocate, Command, Direction, HostWork, Record, Synchronize

from .bench import Bench
from .power import keep_watched
from .probe import CalibrationMode, Probe, Readings
from .writing import PROBE_COPY_STREAM, copy_buffers, repeated_collectives, repeated_copies, timed

DRAWN = 3.0
"""Seconds of each load; the counter of energy moves every 0.1 s."""
COPIED, EXCHANGED = 2**28, 61_440_000
COPY_RATE, EXCHANGE_RATES = 55e9, {"nvlink": 250e9}
SLOW_EXCHANGE = 22e9


class Draw(Probe):
    """What one GPU draws while idle, then while it copies in each direction."""

    key, title = "draw", "power while idle and while copying"
    identifies: ClassVar[tuple[str, ...]] = ("gpu.clock.idle", "gpu.clock.copy")
    rounds = (1, 1)
    usual_seconds = 5.0

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        return [{"load": load} for load in ("idle", "H2D", "D2H")] if mode == "full" else []

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        found: Readings = {"seconds": []}
        for _ in range(repeats):
            reading = bench.run(self.commands(str(config["load"]), bench), settle=0.3, gated=False)
            found["seconds"].append(reading.between("begin", "end"))
            keep_watched(found, reading)
        return found

    def commands(self, load: str, bench: Bench) -> tuple[Command, ...]:  # noqa: ARG002
        """The commands of a load, between two records."""
        if load == "idle":
            waiting: list[Command] = [HostWork("idle", DRAWN), Record(COMPUTE, "end"), Synchronize("stream", COMPUTE)]
            return (Record(COMPUTE, "begin"), *waiting)
        direction: Direction = "H2D" if load == "H2D" else "D2H"
        count = round(DRAWN * COPY_RATE / COPIED)
        return (*copy_buffers(direction, COPIED), *timed(PROBE_COPY_STREAM, repeated_copies(direction, COPIED, count)))


class DrawTogether(Draw):
    """What a GPU draws while all of them exchange all the time."""

    key, title = "draw-together", "power while exchanging"
    identifies = ("gpu.clock.collective",)
    several_gpus = True

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        return [{"load": "all-to-all"}] if mode == "full" else []

    def commands(self, load: str, bench: Bench) -> tuple[Command, ...]:  # noqa: ARG002
        """The commands of back-to-back all-to-alls, between two records."""
        count = round(DRAWN * EXCHANGE_RATES.get(bench.transport, SLOW_EXCHANGE) / EXCHANGED)
        exchanges = timed(COMPUTE, repeated_collectives("all-to-all", EXCHANGED, count))
        return (Allocate("activations", 4.0 * EXCHANGED + 4096, COMPUTE), *exchanges)
