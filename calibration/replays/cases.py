"""The committed lists of replays, and the scenarios that they mean.

cases.toml: schedules that systems offer. ideas.toml: schedules that none offers, each beside plain layerwise.

A case takes the blocks of a catalogue model, fewer of them, without text encoder and VAE: the time of a step grows with
the number of blocks and nothing else does, so a part of a model shows what its schedule does.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from offsim.program.load import check_scenario
from offsim.program.pages import as_declared, decodable
from offsim.program.systems.resident import Resident
from offsim.scenario.load import load_model, load_node
from offsim.scenario.model import Dtype, Model
from offsim.scenario.node import Node
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload

ListName = Literal["cases", "ideas"]
SHAPES = {"wan-14b": "wan2.2-t2v-a14b", "wan-5b": "wan2.2-ti2v-5b", "flux.1": "flux.1-dev"}
Kind = Literal["x1", "x2-nvlink", "x2-host-memory"]
GPUS: dict[str, int] = {"x1": 1, "x2-nvlink": 2, "x2-host-memory": 2}


def without_kind(name: str) -> str:
    """A case's name without the kind of node, where that is known.

    >>> without_kind("x2-host-memory-wan-14b-12000-sharded")
    'wan-14b-12000-sharded'
    """
    kind = next((kind for kind in GPUS if name.startswith(f"{kind}-")), "")
    return name.removeprefix(f"{kind}-") if kind else name


class ReplayCase(Struct, frozen=True, forbid_unknown_fields=True):
    """One schedule to replay: blocks of a model, their tokens, and the policy that places their weights."""

    name: str
    kind: Kind
    shape: Literal["wan-14b", "wan-5b", "flux.1"]
    blocks: tuple[int, ...]
    tokens: int
    policy: Policy
    experts: int = 1
    steps: int = 12
    step_end: Literal["stream", "device", "none"] = "stream"
    all_to_all_calls: Literal[2, 4, 8] = 4
    weight_dtype: Dtype = "bf16"
    """What the policy's run has its weights in; the others' are bf16, and so are all products."""
    beside: Policy | None = None
    """A second policy that takes turns with the first and the resident run."""

    @property
    def gpus(self) -> int:
        """GPUs that the case runs on."""
        return GPUS[self.kind]

    @property
    def pageable(self) -> bool:
        """Whether the policy copies from or to memory that is not pinned."""
        return not getattr(self.policy, "pinned", True) or getattr(self.policy, "version", "") == "pageable"

    def scenario(self, node: str | Node) -> Scenario:
        """The case on a node: a profile's path, a catalogue name, or a node."""
        return self._on(node, self.policy, self.weight_dtype)

    def other(self, node: str | Node) -> Scenario | None:
        """The case's shape under the policy beside it; None where there is none."""
        return None if self.beside is None else self._on(node, self.beside)

    def resident(self, node: str | Node) -> Scenario:
        """The case's shape with every weight on the device."""
        return self._on(node, Resident())

    def _on(self, node: str | Node, policy: Policy, weight_dtype: Dtype = "bf16") -> Scenario:
        work = Workload(
            gpus=self.gpus,
            tokens=self.tokens,
            steps=self.steps,
            cfg="none",
            flow_shift=1.0,
            step_end=self.step_end,
            all_to_all_calls=self.all_to_all_calls,
            weight_dtype=weight_dtype,
        )
        machine = load_node(node) if isinstance(node, str) else node
        scenario = Scenario(_model(self.shape, self.blocks, self.experts), work, machine, policy, name=self.name)
        check_scenario(scenario)
        return scenario

    def raw(self) -> dict[str, Any]:
        """The case as its line in a replay file has it."""
        return dict(msgspec.to_builtins(self))


def replay_case(raw: Any) -> ReplayCase:
    """A case from plain data; msgspec.ValidationError if it is not one."""
    decoded: ReplayCase = msgspec.convert(raw, decodable(ReplayCase))
    return as_declared(decoded, ReplayCase)


@cache
def _model(shape: str, blocks: tuple[int, ...], experts: int) -> Model:
    """So many blocks of a catalogue model; with two experts, the second half of the steps runs the other one."""
    whole = load_model(SHAPES[shape])
    lists = tuple(structs.replace(b, count=n) for b, n in zip(whole.blocks, blocks, strict=True))
    boundary = 0.5 if experts == 2 else None
    name = f"{shape}-{'-'.join(map(str, blocks))}-blocks"
    changed = {"name": name, "blocks": lists, "experts": experts, "boundary_ratio": boundary}
    return structs.replace(whole, **changed, text_encoder=None, vae=None)


def load_cases(kind: str | None = None, name: ListName = "cases") -> list[ReplayCase]:
    """The cases of a committed list, or those for one kind of node."""
    path = Path(__file__).with_name(f"{name}.toml")
    raw = tomllib.loads(path.read_text(encoding="utf-8"))["case"]
    cases = [replay_case(entry) for entry in raw]
    return [case for case in cases if kind in (None, case.kind)]
