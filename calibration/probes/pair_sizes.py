"""Every kind of collective beside copies of either direction, at five sizes: what a profile's pair values are held to.

No fit reads these; `python -m calibration.validate.pairs` sets them beside what the profile predicts.
"""

from typing import ClassVar

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration

from .contention import CHUNK, CopyCollective
from .probe import CalibrationMode

LEAST_WINDOW = 10e-3
"""Seconds for which the collectives of a run last about: a copy takes 1.2 to 2 ms."""
BESIDE_RATES = (12e9, 230e9)
"""What a collective reaches beside copies through host memory and over NVLink, about: they bound how many there are."""
MOST_CALLS = 60


class PairSizes(CopyCollective):
    """Back-to-back collectives beside back-to-back copies on all ranks."""

    key, title = "copy-collective-sizes", "collectives beside copies, by kind and size"
    identifies = ("collectives beside copies (a check)",)
    rounds = (1, 3)
    usual_seconds = 0.9
    slowest = (6e9, 130e9)
    kinds: ClassVar[tuple[str, ...]] = ("all-to-all", "all-gather", "all-reduce")

    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:
        if mode == "quick":
            return []
        slow = node.transport != "nvlink"
        sizes = (5_250_000, 10_500_000, 21 * 10**6, 42 * 10**6, 84 * 10**6)
        sizes = sizes if slow else (21 * 10**6, 42 * 10**6, 84 * 10**6, 193 * 10**6, 386 * 10**6)
        usual: Configuration = {"every": 0, "copy_bytes": CHUNK, "only_rank": -1, "transport": node.transport}
        return [
            {"direction": direction, "kind": kind, "bytes": size, **usual}
            for direction in ("H2D", "D2H")
            for kind in self.kinds
            for size in sizes
        ]

    def calls(self, config: Configuration, transport: str) -> int:
        """How many collectives a run has: as many as last for the least window."""
        wanted = round(LEAST_WINDOW * BESIDE_RATES[transport == "nvlink"] / float(config["bytes"]))
        return max(super().calls(config, transport), min(wanted, MOST_CALLS))
