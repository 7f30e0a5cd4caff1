"""Collectives alone, by size and transport."""

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration
from offsim.program.commands import COMPUTE, Allocate, CollectiveName

from .bench import Bench
from .probe import CalibrationMode, Probe, Readings
from .writing import repeated_collectives, timed

SHORTEST_COLLECTIVE_RUN = 3e-3


class CollectiveSweep(Probe):
    """Back-to-back collectives of one kind, by the bytes that a rank sends to the others."""

    several_gpus = True
    rounds = (5, 9)
    usual_seconds = 0.4
    kind: CollectiveName
    sizes: tuple[int, ...]
    quick_sizes: tuple[int, ...]
    kept_out: tuple[int, ...]

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:
        chosen = self.sizes if mode == "full" else self.quick_sizes
        return [{"bytes": size, "transport": node.transport} for size in chosen]

    def held_out(self, config: Configuration) -> bool:
        return config["bytes"] in self.kept_out

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        bytes_ = int(config["bytes"])
        rate = 300e9 if bench.transport == "nvlink" else 25e9
        count = min(60, max(2, round(SHORTEST_COLLECTIVE_RUN / (bytes_ / rate + 4e-5))))
        commands = (
            Allocate("activations", 4.0 * bytes_ + 4096, COMPUTE),
            *timed(COMPUTE, repeated_collectives(self.kind, bytes_, count)),
        )
        return {"seconds": [bench.run(commands).between("begin", "end") / count for _ in range(repeats)]}


class AllToAll(CollectiveSweep):
    """All-to-alls, which Ulysses exchanges, by size."""

    key, title = "all-to-all", "all-to-all by size"
    identifies = ("wiring.collectives.all_to_all.rate", "wiring.collectives.all_to_all.latency")
    kind = "all-to-all"
    sizes = (
        64_000, 256_000, 1_000_000, 2_500_000, 5_120_000, 10_485_760, 15_360_000, 21_000_000, 30_720_000, 41_943_040,
        61_440_000, 83_865_600, 122_880_000, 193_536_000, 290_000_000,
    )  # fmt: skip
    quick_sizes = (64_000, 1_000_000, 5_120_000, 15_360_000, 41_943_040, 122_880_000, 290_000_000)
    kept_out = (2_500_000, 15_360_000, 61_440_000)


class AllGather(CollectiveSweep):
    """All-gathers, which FSDP gathers with, by size."""

    key, title = "all-gather", "all-gather by size"
    identifies = ("wiring.collectives.all_gather.rate", "wiring.collectives.all_gather.latency")
    kind = "all-gather"
    sizes = (64_000, 1_000_000, 16_000_000, 64_000_000, 96_000_000, 175_000_000, 351_394_304)
    quick_sizes = (64_000, 1_000_000, 64_000_000, 96_000_000, 351_394_304)
    kept_out = (96_000_000,)
