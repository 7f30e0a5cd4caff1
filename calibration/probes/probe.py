"""What a probe is: one question to a node, asked in several configurations.

Like a test case of a bandwidth suite: a key, what it identifies, whether this node can run it, its configurations, and
how one of them is measured. Probes write stream programs and know neither torch nor the engine.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Configuration

from .bench import Bench

CalibrationMode = Literal["quick", "full"]
Readings = dict[str, list[float]]


class Probe(ABC):
    """One question to a node."""

    key: ClassVar[str]
    title: ClassVar[str]
    identifies: ClassVar[tuple[str, ...]]
    """Fields of a node profile that its samples tell."""
    several_gpus: ClassVar[bool] = False
    rounds: ClassVar[tuple[int, int]] = (7, 15)
    """Repeats of one configuration, quick and full."""
    usual_seconds: ClassVar[float] = 0.1
    """What one configuration takes in full mode, preparation included: measured on an H200, or a guess."""

    def can_run(self, node: Inventory) -> str:
        """Why this node cannot answer; empty if it can."""
        return "needs two GPUs or more" if self.several_gpus and node.gpus < 2 else ""

    def repeats(self, mode: CalibrationMode, config: Configuration) -> int:  # noqa: ARG002
        """How often a configuration is measured in this mode."""
        return self.rounds[mode == "full"]

    def estimated_seconds(self, mode: CalibrationMode, config: Configuration) -> float:
        """About how long a configuration takes on a device, for a plan."""
        return self.usual_seconds * self.repeats(mode, config) / self.rounds[1]

    @abstractmethod
    def configurations(self, mode: CalibrationMode, node: Inventory) -> list[Configuration]:
        """The configurations that are measured in this mode on this node."""

    def held_out(self, config: Configuration) -> bool:  # noqa: ARG002
        """Whether this configuration is kept from every fit."""
        return False

    @abstractmethod
    def measure(self, bench: Bench, config: Configuration, repeats: int) -> Readings:
        """The readings of one configuration, in SI units."""
