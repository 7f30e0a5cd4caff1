"""Committed forwards of the real diffusers library: what was measured, and what its node's profile predicts.

A record is a line of `diffusers*.jsonl` in a node's folder, as `calibration.live.diffusers_forwards` writes it. What is
compared is a mode's forward relative to the interleaved forwards without offloading, as with the other replays. Two
costs of the host are the library's own and are not in a profile: what its eager operators take per kernel, and its
hooks' Python. Both are read off forwards of a model so small that nothing else counts (the file's `small` line), never
off what is compared; so is what the driver takes for memory that accelerate's emptied cache asks for anew.
Left out: the traced first forward, which is kept but not compared.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from offsim.program.build import build
from offsim.program.commands import Compute, HostWork
from offsim.results.predict import Prediction, predict
from offsim.scenario.architectures import ARCHITECTURES, outside_operations
from offsim.scenario.load import load_node
from offsim.scenario.model import BlockList, Embeddings, Model
from offsim.scenario.node import Node
from offsim.scenario.operations import parameter_count
from offsim.scenario.policy import AccelerateSequential, DiffusersGroup, Policy, Resident
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import Scenario, ScenarioError, check
from offsim.scenario.workload import Workload

from .records import NODES, settled

PATTERN = "diffusers*.jsonl"
STEPS = 4
PROBED_HOOK = 1e-3
DRIVER_CALLS_PER_TENSOR = 1.5
"""After a cache is emptied, activations come from the driver: about 40 a block of 27 tensors, counted by hand."""
DRIVER_SIZE = 141_557_760


class Shape(NamedTuple):
    """Sizes of the model that ran."""

    blocks: int
    heads: int
    head_dim: int
    ffn: int
    text_tokens: int
    text_width: int

    def input_bytes(self, tokens: int) -> int:
        """Latents (16 channels, 4 per token) and text of one sample, in bf16."""
        return 2 * (64 * tokens + self.text_tokens * self.text_width)


class LibraryRecord(NamedTuple):
    """One mode at one length on one node."""

    node: str
    profile: Path
    shape: Shape
    mode: str
    policy: Policy
    tokens: int
    mode_s: list[list[float]]
    """Per run [s]."""
    resident_s: list[list[float]]
    peak_allocated: float | None
    """Of the mode alone: its weights, activations and library workspaces, without the inputs."""
    first_s: float | None
    small: dict[str, list[float]]
    """Forwards of the small model by mode [s]."""
    small_shape: Shape | None
    small_tokens: int
    driver_s: float
    """Memory from the driver and back, once."""
    profile_of_forward: dict[str, Any]
    """What torch's profiler saw in one forward."""

    @property
    def name(self) -> str:
        return f"{self.mode} {self.tokens}"

    @property
    def kind(self) -> str:
        """pageable: every weight moves through pageable memory, blocking. streamed: weights of blocks don't."""
        return "streamed" if isinstance(self.policy, DiffusersGroup) and self.policy.stream else "pageable"

    @property
    def seconds(self) -> float:
        """Of a forward of the mode."""
        return median(s for run in self.mode_s for s in run)

    @property
    def resident(self) -> float:
        """Of a forward without offloading, those first in a run left out while the clock settles."""
        return median(s for run in self.resident_s for s in settled(run) or run)

    @property
    def ratio(self) -> float:
        """What is compared."""
        return self.seconds / self.resident


def read_library(root: Path = NODES) -> tuple[list[LibraryRecord], list[tuple[str, str, str]]]:
    """Committed forwards under `root`, and (node, case, error) of those that could not be measured."""
    records: list[LibraryRecord] = []
    failures: list[tuple[str, str, str]] = []
    for folder in sorted(path for path in root.glob("*") if (path / "profile.toml").is_file()):
        for path in sorted(folder.glob(PATTERN)):
            of_file = File(folder, list(_lines(path)))
            records += of_file.records()
            failures += of_file.failures()
    return records, failures


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield json.loads(text)
        except ValueError as error:
            raise ScenarioError(f"{path}: line {number} is no JSON object ({error})") from None


class File:
    """The lines of one measurement."""

    def __init__(self, folder: Path, lines: list[dict[str, Any]]) -> None:
        self.folder = folder
        by_kind: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            by_kind.setdefault(line["record"], []).append(line)
        self.about = by_kind["diffusers-forwards-of"][0]
        self.shape = Shape(**self.about["shape"])
        self.small = next(iter(by_kind.get("diffusers-forwards-small", [])), {})
        self.costs = next(iter(by_kind.get("diffusers-forwards-costs", [])), {})
        self.forwards = [line for line in by_kind.get("diffusers-forwards", []) if line["mode"] != "resident"]
        self.resident = [line for line in by_kind.get("diffusers-forwards", []) if line["mode"] == "resident"]

    def failures(self) -> list[tuple[str, str, str]]:
        """Lines with an error."""
        return [(self.folder.name, f"{x['mode']} {x['tokens']}", x["error"]) for x in self.forwards if "error" in x]

    def records(self) -> list[LibraryRecord]:
        """Lines with a measurement."""
        return [self._record(line) for line in self.forwards if "error" not in line]

    def _record(self, line: dict[str, Any]) -> LibraryRecord:
        driver = [sum(pair) for pair in self.costs.get(f"driver_{DRIVER_SIZE}", [])]
        shape = self.small.get("shape")
        return LibraryRecord(
            node=self.folder.name,
            profile=self.folder / "profile.toml",
            shape=self.shape,
            mode=line["mode"],
            policy=msgspec.convert(line["policy"], Policy),
            tokens=line["tokens"],
            mode_s=line["mode_s"],
            resident_s=line["resident_s"],
            peak_allocated=self._own_peak(line),
            first_s=line["first_s"][0] if line.get("first_s") else None,
            small={key: value for key, value in self.small.items() if isinstance(value, list)},
            small_shape=None if shape is None else Shape(**shape),
            small_tokens=self.small.get("tokens", 0),
            driver_s=median(driver) if driver else 0.0,
            profile_of_forward=line.get("profile", {}),
        )

    def _own_peak(self, line: dict[str, Any]) -> float | None:
        """Highest level less what lay there before the mode, and less two forwards' inputs."""
        peaks = [peak["allocated"] for peak in line.get("peaks", []) if peak]
        if not peaks:
            return None
        others = line["level_before_mode"] - self.about["workspace_bytes"]
        return float(max(peaks) - others - 2 * self.shape.input_bytes(line["tokens"]))


class LibraryError(NamedTuple):
    """One record and its prediction; errors are predicted / measured - 1."""

    record: LibraryRecord
    prediction: Prediction
    reference: Prediction
    """Without offloading."""

    @property
    def predicted(self) -> float:
        """Ratio."""
        return self.prediction.steps[-1].duration / self.reference.steps[-1].duration

    @property
    def error(self) -> float:
        return self.predicted / self.record.ratio - 1

    @property
    def mode_error(self) -> float:
        """Of the mode's forward in seconds."""
        return self.prediction.steps[-1].duration / self.record.seconds - 1

    @property
    def resident_error(self) -> float:
        return self.reference.steps[-1].duration / self.record.resident - 1

    @property
    def memory_error(self) -> float | None:
        peak = self.record.peak_allocated
        return None if peak is None else self.prediction.peak_allocated / peak - 1


def library_error(record: LibraryRecord) -> LibraryError:
    """Predict one record with its node's profile and the library's own host costs."""
    node = with_launch_cost(load_node(str(record.profile)), record)
    policy = with_host_costs(record, node)
    of = [predict(scenario_of(record.shape, record.tokens, node, p)) for p in (policy, Resident())]
    return LibraryError(record, of[0], of[1])


def scenario_of(shape: Shape, tokens: int, node: Node, policy: Policy) -> Scenario:
    """Forwards of the library's Wan, each drained before the next."""
    work = Workload(tokens=tokens, steps=STEPS, cfg="none", step_end="device", kernels="eager")
    scenario = Scenario(model_of(shape), work, node, policy, name="diffusers-forwards")
    check(scenario)
    return scenario


@cache
def model_of(shape: Shape) -> Model:
    """The library's Wan with these sizes."""
    sizes: dict[str, Any] = {
        "hidden": shape.heads * shape.head_dim,
        "heads": shape.heads,
        "head_dim": shape.head_dim,
        "ffn": shape.ffn,
    }
    parameters = parameter_count(ARCHITECTURES["wan"](_Sizes(**sizes)))
    blocks = BlockList("blocks", shape.blocks, "wan", parameters, **sizes, tensors=27)
    embeddings = Embeddings(shape.text_width)
    before, after = outside_operations(blocks, embeddings)
    return Model(
        "diffusers-wan",
        "WanTransformer3DModel with random weights",
        (blocks,),
        other_parameters=parameter_count((*before, *after)),
        source="diffusers",
        text_tokens=shape.text_tokens,
        embeddings=embeddings,
    )


class _Sizes(msgspec.Struct, frozen=True):
    """A block's sizes before its parameters are known."""

    hidden: int
    heads: int
    head_dim: int
    ffn: int
    architecture: str = "wan"
    text_hidden: int | None = None
    text_ffn: int | None = None
    extra: dict[str, int] = {}


def with_launch_cost(node: Node, record: LibraryRecord) -> Node:
    """The node with what one of the library's eager kernels costs the host, if the small model tells."""
    seconds = record.small.get("resident", [])
    if not seconds or record.small_shape is None:
        return node
    program = build(scenario_of(record.small_shape, record.small_tokens, node, Resident()))
    step = next(section for section in program.sections if section.step == STEPS - 1)
    kernels = sum(len(command.kernels) for command in step.commands if isinstance(command, Compute))
    launch = Quantity(median(seconds[1:]) / kernels, "measured", "forwards of a small model")
    return structs.replace(node, overheads=structs.replace(node.overheads, launch=launch))


def with_host_costs(record: LibraryRecord, node: Node) -> Policy:
    """The policy with its hooks' cost, so that the small model takes as long as it took; and the driver's."""
    policy = record.policy
    seconds = record.small.get(record.mode, [])
    if not isinstance(policy, DiffusersGroup | AccelerateSequential) or len(seconds) < 3 or record.small_shape is None:
        return policy
    probed = scenario_of(record.small_shape, record.small_tokens, node, structs.replace(policy, hook_cost=PROBED_HOOK))
    step = next(section for section in build(probed).sections if section.step == STEPS - 1)
    hooks = sum(isinstance(command, HostWork) and command.name == "hook" for command in step.commands)
    without = predict(structs.replace(probed, policy=policy)).steps[-1].duration
    cost = max(0.0, median(seconds[2:]) - without) / hooks
    if isinstance(policy, AccelerateSequential):
        return structs.replace(policy, hook_cost=cost, empty_cache=DRIVER_CALLS_PER_TENSOR * record.driver_s)
    return structs.replace(policy, hook_cost=cost)
