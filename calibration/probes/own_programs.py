"""Probes that need the project's own CUDA kernels: what device memory gives at best, and SMs reading host memory.

Collectives without peer access read and write host memory with SMs, so the rates of a few thread blocks, alone and
beside a copy engine, bound what such a collective can reach.
"""

from typing import NamedTuple, Protocol, cast

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration

from .bench import Bench
from .probe import CalibrationMode, Probe, Readings
from .writing import MIB, moved_inside

OUTLASTING = 2.0
"""How many times as long as the accesses the copies beside them must last."""


class AccessRates(NamedTuple):
    """Rates of thread blocks and of copies beside them [bytes/s], in the window of the blocks' kernel."""

    accesses: float
    copies: float
    """Rate of the copies; 0 if none ran beside."""


class OwnKernels(Protocol):
    """What a live bench adds where the kernels could be built."""

    def triad_seconds(self, bytes_: int, iterations: int) -> list[float]:
        """Seconds of a = b + s c over arrays of so many bytes; moves three times as many."""
        ...

    def sm_rates(self, direction: str, blocks: int, *, beside_copies: bool) -> AccessRates | None:
        """What thread blocks move to or from pinned memory, and H2D copies beside; None if these did not last."""
        ...


def rates_inside(begin: float, end: float, moved: float, ends: list[float], copy_bytes: float) -> AccessRates | None:
    """Rates of accesses that moved so many bytes from `begin` to `end`, and of the copies in that window.

    `ends` are the instants after 0, 1, 2, ... copies. None if they do not surround the window or are too few.

    >>> rates_inside(1.0, 3.0, 20.0, [0.0, 1.0, 2.0, 3.0, 4.0], 5.0)
    AccessRates(accesses=10.0, copies=5.0)
    """
    seconds = end - begin
    copied = moved_inside(ends, copy_bytes, begin, end)
    if copied is None or ends[-1] - ends[0] < OUTLASTING * seconds:
        return None
    return AccessRates(moved / seconds, copied / seconds)


class OwnProbe(Probe):
    """A probe that needs our own CUDA kernels, and is waived where they are not there."""

    rounds = (5, 9)

    def can_run(self, node: Inventory) -> str:
        return "" if node.kernels else "needs the CUDA kernels, which need nvcc"


class Triad(OwnProbe):
    """The most that device memory gives: a triad over large arrays."""

    key, title, identifies = "triad", "device memory, triad", ("the ceiling of gpu.memory_bandwidth (a check)",)

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        return [{"bytes": size * MIB} for size in ((512, 1024) if mode == "full" else (512,))]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        return {"seconds": cast(OwnKernels, bench).triad_seconds(int(config["bytes"]), repeats)}


class SmAccess(OwnProbe):
    """Thread blocks that read or write pinned host memory, alone and beside the copy engine."""

    key, title = "sm-read", "SMs reading and writing host memory"
    identifies = ("the caps of host-memory collectives (a check)",)

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:  # noqa: ARG002
        blocks = (1, 2, 4, 8, 16, 32, 64, 132) if mode == "full" else (2, 16)
        found: list[Configuration] = [
            {"direction": d, "blocks": n, "beside": "none"} for d in ("read", "write") for n in blocks
        ]
        return found + [{"direction": "read", "blocks": n, "beside": "H2D"} for n in blocks[1::2]]

    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        own, beside = cast(OwnKernels, bench), config["beside"] == "H2D"
        direction, blocks = str(config["direction"]), int(config["blocks"])
        found = [own.sm_rates(direction, blocks, beside_copies=beside) for _ in range(repeats)]
        valid = [rates for rates in found if rates is not None]
        readings: Readings = {"rate": [rates.accesses for rates in valid]}
        if beside:
            readings["copy_rate"] = [rates.copies for rates in valid]
        return readings
