"""A scenario: model x workload x node x policy, checked against each other."""

from msgspec import Struct

from .faults import ScenarioError
from .model import DTYPE_BYTES, Model
from .node import Node
from .policy import (
    Policy,
)
from .schedule import experts
from .schema_1 import SCHEMA
from .units import Name
from .wording import choices, cut, one_line, shown
from .workload import Workload

LONGEST_REASON = 250


class RefusedScenario(ScenarioError):
    """A well-formed scenario that no real system would run."""

    def __init__(self, reason: str, scenario: "Scenario", path: str = "") -> None:
        super().__init__(reason, scenario, path)
        self.reason, self.scenario, self.path = reason, scenario, path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class Simulation(Struct, frozen=True, forbid_unknown_fields=True):
    """Switches of the engine: shortcuts, which are exact, and mechanisms, for ablations."""

    fold: bool = True
    """Whether one rank is simulated for all that topology and program make alike."""
    steady_state: bool = True
    """Whether steps are left out that begin in an earlier one's state and have its commands."""
    block_period: bool = True
    """Whether blocks of a step are left out that begin in an earlier one's state and have its commands."""
    contention: bool = True
    """Whether flows share links and slow kernels; off, each runs as if it were alone."""
    clock: bool = True
    """Whether the node's power limit lowers the clock; off, every kernel runs at full clock."""
    collective_form: str = "pairs"
    """The flows of a collective: pairs (one per sender and receiver), or aggregated (per rank and way to its peers)."""


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """One question to the simulator."""

    model: Model
    workload: Workload
    node: Node
    policy: Policy
    name: Name = ""
    title: str = ""
    schema: int = SCHEMA
    simulation: Simulation = Simulation()

    @property
    def ulysses(self) -> int:
        return self.workload.ulysses(self.model)

    @property
    def tokens(self) -> int:
        """Padded image tokens of one sample."""
        return self.workload.padded_tokens(self.model)

    @property
    def steps(self) -> int:
        return self.workload.steps or self.model.steps

    @property
    def weight_bytes_per_parameter(self) -> float:
        return DTYPE_BYTES[self.workload.weight_dtype]

    def expert_of_step(self) -> list[int]:
        """Which expert runs at each step."""
        if self.model.experts == 1:
            return [0] * self.steps
        shift = self.workload.flow_shift or self.model.flow_shift
        boundary = self.workload.boundary_ratio
        if boundary is None:
            boundary = self.model.boundary_ratio or 0.0
        return experts(self.steps, shift, boundary)

    def groups(self) -> list[tuple[int, ...]]:
        """The sequence-parallel groups of ranks; their number is the CFG split (or data parallel) degree."""
        degree = self.ulysses
        return [tuple(range(start, start + degree)) for start in range(0, self.workload.gpus, degree)]


def check_layout(scenario: Scenario) -> None:
    """Check model, workload and node against each other, whatever the policy.

    Raises RefusedScenario where no real system would run them; ScenarioError where the engine cannot.
    """
    message = _engine_problem(scenario)
    if message:
        raise ScenarioError(message)
    for problem in (_size_problem, _gpu_problem, _parallel_problem, _backend_problem, _kernels_problem):
        refuse(problem(scenario), scenario)


def refuse(why: str | None, scenario: Scenario) -> None:
    """Raise RefusedScenario if there is a reason."""
    if why:
        raise RefusedScenario(cut(one_line(why), LONGEST_REASON), scenario)


def _size_problem(scenario: Scenario) -> str | None:
    work = scenario.workload
    sizes = (work.width, work.height)
    if work.tokens is not None:
        if any(s is not None for s in (*sizes, work.frames)):
            return f"workload.tokens={work.tokens}: give either tokens or width, height and frames, not both"
        return None
    if any(s is None for s in sizes):
        return "workload: needs tokens, or width and height (and frames for video)"
    strides, patches = scenario.model.vae_stride[1:], scenario.model.patch[1:]
    for key, size, stride, patch in zip(("height", "width"), (work.height, work.width), strides, patches, strict=True):
        if size is not None and (size % (stride * patch) or size < stride * patch):
            return f"workload.{key}={size}: must be a positive multiple of {stride * patch} for {scenario.model.name}"
    frames, stride = work.frames or 1, scenario.model.vae_stride[0]
    if stride == 1 and frames > 1:
        return f"workload.frames={frames}: {scenario.model.name} makes single images; leave frames out"
    if stride > 1 and work.frames is None:
        return f"workload: needs frames, since {scenario.model.name} makes videos (frames = 1 for an image)"
    if (frames - 1) % stride:
        return f"workload.frames={frames}: must be {stride} k + 1 for {scenario.model.name}"
    return None


def _gpu_problem(scenario: Scenario) -> str | None:
    work, node = scenario.workload, scenario.node
    if work.gpus > node.gpus:
        return f"workload.gpus={work.gpus}: node {node.name} has {node.gpus}"
    return None


def _parallel_problem(scenario: Scenario) -> str | None:
    work, degree = scenario.workload, scenario.ulysses
    if work.gpus % degree:
        return f"workload.sequence_parallel={degree}: must divide workload.gpus={work.gpus}"
    if work.cfg_mode(scenario.model) == "split" and work.gpus != 2 * degree:
        return f"workload.cfg='split': needs gpus = 2 x sequence_parallel, got {work.gpus} and {degree}"
    for blocks in scenario.model.blocks:
        if blocks.heads % degree:
            return (
                f"workload.sequence_parallel={degree}: {blocks.heads} heads of {scenario.model.name} "
                f"do not divide by {degree} (Ulysses gives each rank heads / degree)"
            )
    if scenario.model.experts == 1 and work.boundary_ratio is not None:
        return f"workload.boundary_ratio={work.boundary_ratio}: {scenario.model.name} has one expert"
    return None


def _backend_problem(scenario: Scenario) -> str | None:
    backend, known = scenario.workload.attention_backend, scenario.node.gpu.attention
    if backend not in known:
        return f"workload.attention_backend={shown(backend)}: {choices(known, backend)} (node {scenario.node.name})"
    return None


def _kernels_problem(scenario: Scenario) -> str | None:
    work, model = scenario.workload, scenario.model
    if work.kernels == "eager" and any(blocks.eager_operations() is None for blocks in model.blocks):
        return f"workload.kernels='eager': the eager kernels of {model.name}'s blocks are not known; leave it out"
    if work.kernels == "eager" and work.compiled:
        return "workload.kernels='eager': not together with compiled = true"
    return None


def _engine_problem(scenario: Scenario) -> str | None:
    if scenario.schema != SCHEMA:
        return f"schema={scenario.schema}: this version reads schema {SCHEMA}"
    form = scenario.simulation.collective_form
    if form not in ("pairs", "aggregated"):
        return f"simulation.collective_form={shown(form)}: allowed are pairs, aggregated"
    return None
