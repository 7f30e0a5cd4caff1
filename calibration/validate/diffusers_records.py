"""Committed forwards of the real diffusers library: what was measured.

A record is a line of `diffusers*.jsonl` in a node's folder, as `calibration.live.diffusers_forwards` writes it. What is
compared is a mode's forward relative to the interleaved forwards without offloading, as with the other replays.
Left out: the traced first forward, which is kept but not compared.
"""

from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from calibration.samples.json_lines import read_lines
from offsim.program.pages import policy_of
from offsim.scenario.policy import Policy

from .records import NODES, nodes_under, steady_resident

PATTERN = "diffusers*.jsonl"
DRIVER_SIZE = 141_557_760
BLOCK_TENSORS = {52_428_800: 8, 141_557_760: 2}
"""Sizes of a Wan-14B block's ten large tensors, and how many have it."""


class ForwardShape(NamedTuple):
    """The sizes of the Wan transformer that ran."""

    blocks: int
    heads: int
    head_dim: int
    ffn: int
    text_tokens: int
    text_width: int

    def input_bytes(self, tokens: int) -> int:
        """Bytes of one sample's latents (16 channels, 4 per token) and text, in bf16."""
        return 2 * (64 * tokens + self.text_tokens * self.text_width)


class ForwardRecord(NamedTuple):
    """The measured forwards of one mode at one length on one node."""

    node: str
    profile: Path
    shape: ForwardShape
    mode: str
    policy: Policy
    tokens: int
    mode_s: list[list[float]]
    """Forwards of each run [s]."""
    resident_s: list[list[float]]
    peak_allocated: float | None
    """Bytes of the mode alone: its weights, activations and library workspaces, without the inputs."""
    first_s: float | None
    small: dict[str, list[float]]
    """Mode -> forwards of the small model [s]."""
    small_shape: ForwardShape | None
    small_tokens: int
    driver_s: float
    """Seconds that memory takes from the driver and back, once."""
    pageable_h2d: float | None
    """Rate of `to(device)` of a block's large tensors, each alone [bytes/s]."""
    fresh_d2h: float | None
    """Rate of `to("cpu")` of a block's large tensors, each alone [bytes/s]."""
    elementwise: dict[str, list[float]]
    """A block's eager elementwise kernels alone at this length, group by group [s]."""
    per_block: dict[str, int]
    """How often each group runs in a block."""
    profile_of_forward: dict[str, Any]
    """What torch's profiler saw in one forward."""

    @property
    def name(self) -> str:
        return f"{self.mode} {self.tokens}"

    @property
    def kind(self) -> str:
        """pageable: every weight moves through pageable memory, blocking. streamed: weights of blocks don't."""
        return "streamed" if getattr(self.policy, "stream", False) else "pageable"

    @property
    def seconds(self) -> float:
        """Median seconds of the mode's forwards."""
        return median(s for run in self.mode_s for s in run)

    @property
    def resident(self) -> float:
        """Seconds of a forward without offloading, those first in a run left out while the clock settles."""
        return steady_resident(self.resident_s)

    @property
    def ratio(self) -> float:
        """Seconds of the mode's forward over those without offloading: what is compared."""
        return self.seconds / self.resident


def read_forwards(root: Path = NODES) -> tuple[list[ForwardRecord], list[tuple[str, str, str]]]:
    """Committed forwards under `root`, and (node, case, error) of those that could not be measured."""
    records: list[ForwardRecord] = []
    failures: list[tuple[str, str, str]] = []
    for folder, profile in nodes_under(root):
        for path in sorted(folder.glob(PATTERN)):
            of_file = ForwardFile(folder.name, profile, list(read_lines(path)))
            records += of_file.records()
            failures += of_file.failures()
    return records, failures


class ForwardFile:
    """The lines of one measurement of the library's forwards."""

    def __init__(self, node: str, profile: Path, lines: list[dict[str, Any]]) -> None:
        self.node, self.profile = node, profile
        by_kind: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            by_kind.setdefault(line["record"], []).append(line)
        self.about = by_kind["diffusers-forwards-of"][0]
        self.shape = ForwardShape(**self.about["shape"])
        self.small = next(iter(by_kind.get("diffusers-forwards-small", [])), {})
        self.costs = next(iter(by_kind.get("diffusers-forwards-costs", [])), {})
        self.elementwise = next(iter(by_kind.get("diffusers-forwards-elementwise", [])), {})
        self.forwards = [line for line in by_kind.get("diffusers-forwards", []) if line["mode"] != "resident"]

    def failures(self) -> list[tuple[str, str, str]]:
        """(node, case, error) of every line with an error."""
        return [(self.node, f"{x['mode']} {x['tokens']}", x["error"]) for x in self.forwards if "error" in x]

    def records(self) -> list[ForwardRecord]:
        """The records of all lines with a measurement."""
        return [self._record(line) for line in self.forwards if "error" not in line]

    def _record(self, line: dict[str, Any]) -> ForwardRecord:
        driver = [sum(pair) for pair in self.costs.get(f"driver_{DRIVER_SIZE}", [])]
        shape = self.small.get("shape")
        return ForwardRecord(
            node=self.node,
            profile=self.profile,
            shape=self.shape,
            mode=line["mode"],
            policy=policy_of(line["policy"]),
            tokens=line["tokens"],
            mode_s=line["mode_s"],
            resident_s=line["resident_s"],
            peak_allocated=self._own_peak(line),
            first_s=line["first_s"][0] if line.get("first_s") else None,
            small={key: value for key, value in self.small.items() if isinstance(value, list)},
            small_shape=None if shape is None else ForwardShape(**shape),
            small_tokens=self.small.get("tokens", 0),
            driver_s=median(driver) if driver else 0.0,
            pageable_h2d=self._rate("pageable_h2d"),
            fresh_d2h=self._rate("fresh_d2h"),
            elementwise=self.elementwise.get(str(line["tokens"]), {}),
            per_block=self.elementwise.get("per_block", {}),
            profile_of_forward=line.get("profile", {}),
        )

    def _rate(self, kind: str) -> float | None:
        seconds: dict[int, list[float]] = {size: self.costs.get(f"{kind}_{size}", []) for size in BLOCK_TENSORS}
        if not all(seconds.values()):
            return None
        moved = sum(size * count for size, count in BLOCK_TENSORS.items())
        return moved / sum(count * median(seconds[size]) for size, count in BLOCK_TENSORS.items())

    def _own_peak(self, line: dict[str, Any]) -> float | None:
        """Highest level less what lay there before the mode, and less two forwards' inputs."""
        peaks = [peak["allocated"] for peak in line.get("peaks", []) if peak]
        if not peaks:
            return None
        others = line["level_before_mode"] - self.about["workspace_bytes"]
        return float(max(peaks) - others - 2 * self.shape.input_bytes(line["tokens"]))
