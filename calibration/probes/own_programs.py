"""Probes that need the project's own CUDA kernels: what device memory gives at best, and SMs reading host memory.

Collectives without peer access read and write host memory with SMs, so the rates of a few thread blocks, alone and
beside a copy engine, bound what such a collective can reach.
"""

from typing import Protocol, cast

from calibration.bench import Bench
from calibration.inventory import Inventory
from calibration.samples import Config

from .probe import Mode, Probe, Readings

MIB = 2**20


class OwnKernels(Protocol):
    """What a live bench adds where the kernels could be built."""

    def triad_seconds(self, bytes_: int, iterations: int) -> list[float]:
        """Seconds of a = b + s c over arrays of so many bytes; moves three times as many."""
        ...

    def sm_rates(self, direction: str, blocks: int, *, beside_copies: bool) -> tuple[float, float]:
        """(bytes/s that thread blocks move to or from pinned memory, bytes/s of the H2D copies beside; 0 if none)."""
        ...


class OwnProbe(Probe):
    """Waived where the kernels are not there."""

    rounds = (5, 9)

    def can_run(self, node: Inventory) -> str:
        return "" if node.kernels else "needs the CUDA kernels, which need nvcc"


class Triad(OwnProbe):
    """The most that device memory gives."""

    key, title, identifies = "triad", "device memory, triad", ("the ceiling of gpu.memory_bandwidth (a check)",)

    def configurations(self, mode: Mode, node: Inventory) -> list[Config]:  # noqa: ARG002
        return [{"bytes": size * MIB} for size in ((512, 1024) if mode == "full" else (512,))]

    def measure(self, bench: Bench, config: Config, repeats: int) -> Readings:
        return {"seconds": cast(OwnKernels, bench).triad_seconds(int(config["bytes"]), repeats)}


class SmAccess(OwnProbe):
    """Thread blocks that read or write pinned host memory, alone and beside the copy engine."""

    key, title = "sm-read", "SMs reading and writing host memory"
    identifies = ("the caps of host-memory collectives (a check)",)

    def configurations(self, mode: Mode, node: Inventory) -> list[Config]:  # noqa: ARG002
        blocks = (1, 2, 4, 8, 16, 32, 64, 132) if mode == "full" else (2, 16)
        found: list[Config] = [
            {"direction": d, "blocks": n, "beside": "none"} for d in ("read", "write") for n in blocks
        ]
        return found + [{"direction": "read", "blocks": n, "beside": "H2D"} for n in blocks[1::2]]

    def measure(self, bench: Bench, config: Config, repeats: int) -> Readings:
        own, beside = cast(OwnKernels, bench), config["beside"] == "H2D"
        pairs = [
            own.sm_rates(str(config["direction"]), int(config["blocks"]), beside_copies=beside) for _ in range(repeats)
        ]
        found: Readings = {"rate": [rate for rate, _ in pairs]}
        if beside:
            found["copy_rate"] = [rate for _, rate in pairs]
        return found
