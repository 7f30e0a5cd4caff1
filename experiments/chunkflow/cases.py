"""The paper's models and sizes as scenarios on its node, in two readings of the SGLang that it ran on.

The version is not stated. `january`: 0.5.8, as the same author's traces of then have it: Wan exchanges cross-attention
too (6 large and 2 small all-to-alls a block), latent frames are padded to a multiple of the ranks. `spring`: the last
before the paper: 4 all-to-alls, tokens as the paper counts them.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from offsim.program.load import check_scenario, parse_scenario
from offsim.results.predict import Prediction, predict
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload

HERE = Path(__file__).parent
WAN, HUNYUAN, FLUX = "wan2.2-ti2v-5b", "hunyuanvideo", "flux.1-dev"
VIDEO = {WAN: (1280, 704), HUNYUAN: (1280, 720)}
SIZES: dict[str, tuple[int, ...]] = {WAN: (41, 81, 121, 161), HUNYUAN: (9, 21, 33, 45), FLUX: (4, 8, 12, 16)}
"""Frames; of FLUX images in a batch."""
NO_OFFLOAD_STEP = 1.307
"""Wan, 81 frames, no offload [s]: the number that the compute rate is fitted to."""
EVERYTHING_ELSE = {"text_encoder": "resident", "vae": "resident"}
NO_OFFLOAD: dict[str, Any] = {"name": "resident"}
CHUNKFLOW: dict[str, Any] = {"name": "chunkflow"}


class Reading(NamedTuple):
    """What SGLang was like."""

    name: str
    layerwise: dict[str, Any]
    wan: dict[str, Any]
    """Workload of Wan."""
    video: dict[str, Any]
    """Workload of videos."""


JANUARY = Reading(
    "january",
    {"name": "sglang-layerwise", "version": "v1"},
    {"all_to_all_calls": 8},
    {"token_sharding": "frames"},
)
SPRING = Reading("spring", {"name": "sglang-layerwise", "version": "v2"}, {}, {})
READINGS = (JANUARY, SPRING)


class BatchedWorkload(Workload, frozen=True):
    """So many equal requests in one forward, which scenario files cannot say."""

    samples: int = 1

    def batch(self, model: Any) -> int:
        """Samples per forward."""
        return self.samples * super().batch(model)


class Case(NamedTuple):
    """One run of the paper's."""

    reading: Reading
    model: str
    size: int
    transport: str = "host-memory"
    node: str = "h100-pcie-x2-root.toml"
    weight: float | None = None
    """Of all-to-alls against copies, where it is not the node's."""

    def scenario(self, policy: dict[str, Any], efficiency: float) -> Scenario:
        """With a policy of the transformer's; all else stays on the device, as without offload."""
        work: dict[str, Any] = {"gpus": 2, "steps": 4, "compute_efficiency": efficiency}
        work |= self._size() | (self.reading.wan if self.model == WAN else {})
        node = {"extends": self.node, "wiring": {"collectives": {"transport": self.transport, **self._weight()}}}
        tables = {"schema": 1, "model": self.model, "workload": work, "node": node, "policy": policy | EVERYTHING_ELSE}
        made = parse_scenario(tables, HERE / "case")
        return batched(made, self.size) if self.model == FLUX else made

    def _weight(self) -> dict[str, Any]:
        if self.weight is None:
            return {}
        return {"all_to_all": {"weight": {"value": self.weight, "provenance": "given", "source": "what if"}}}

    def _size(self) -> dict[str, Any]:
        if self.model == FLUX:
            return {"width": 1024, "height": 1024}
        width, height = VIDEO[self.model]
        return {"width": width, "height": height, "frames": self.size, **self.reading.video}


def batched(scenario: Scenario, samples: int) -> Scenario:
    """The scenario with so many samples in each forward."""
    work = scenario.workload
    fields = {field: getattr(work, field) for field in Workload.__struct_fields__}
    made = replace(scenario, workload=BatchedWorkload(**fields, samples=samples))
    check_scenario(made)
    return made


@cache
def fitted_efficiency(reading: str) -> float:
    """The one number that is fitted: what the compute rates are multiplied by, so that Wan's step is NO_OFFLOAD_STEP.

    Without offload nothing overlaps the kernels: a step is a + b / efficiency, and two runs give both.
    """
    case = Case(next(one for one in READINGS if one.name == reading), WAN, 81)
    slow, fast = (predict(case.scenario(NO_OFFLOAD, efficiency)).steady for efficiency in (0.5, 1.0))
    return (slow - fast) / (NO_OFFLOAD_STEP - fast + slow - fast)


_PREDICTED: dict[tuple[Any, ...], Prediction] = {}


def predicted(case: Case, policy: dict[str, Any]) -> Prediction:
    """The prediction of a case under a policy, made once."""
    key = (case.reading.name, *case[1:], tuple(sorted(policy.items())))
    if key not in _PREDICTED:
        _PREDICTED[key] = predict(case.scenario(policy, fitted_efficiency(case.reading.name)))
    return _PREDICTED[key]


def ratio(case: Case, policy: dict[str, Any], over: dict[str, Any] = NO_OFFLOAD) -> float:
    """A steady step over another policy's."""
    return predicted(case, policy).steady / predicted(case, over).steady


def peak_ratio(case: Case, policy: dict[str, Any]) -> float:
    """A GPU's memory at its fullest over that without offload: what the framework reserves, and the context."""
    context = predicted(case, policy).scenario.node.gpu.context.value
    some, all_ = (predicted(case, one).peak_reserved + context for one in (policy, NO_OFFLOAD))
    return some / all_


class Shares(NamedTuple):
    """Parts of a steady step."""

    exchange: float
    """All-to-alls, as long as they take alone."""
    held_up: float
    """How much longer copies make them."""


def shares(case: Case, policy: dict[str, Any]) -> Shares:
    """What of a steady step exchanges take, and what copies add to them."""
    made = predicted(case, policy)
    step = made.steps[made.steady_index]
    held = sum(
        charge.seconds
        for charge in made.ledger()
        if charge.step == step.index and charge.waiting.startswith("collective") and charge.culprit == "H2D copy"
    )
    return Shares(step.losses.exposed_collective / step.duration, held / step.duration)
