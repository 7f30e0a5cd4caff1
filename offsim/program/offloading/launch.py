"""How SGLang and diffusers are asked for a policy and a layout of ranks: flags and code to paste.

SGLang's flags as of September 2026 (sgl-project/sglang, python/sglang/multimodal_gen/runtime/server_args.py); it runs
guidance's forwards one after the other or split over ranks, never as a batch. diffusers is asked on one GPU: its
context parallelism is left out. Which system runs which model is data, in launch.toml, with its source.
"""

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from offsim.scenario.scenario import Scenario

from .page import LaunchLine


@cache
def _families() -> dict[str, dict[str, tuple[str, ...]]]:
    raw = tomllib.loads((files(__package__) / "launch.toml").read_text(encoding="utf-8"))
    return {
        system: {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
        for system, table in raw.items()
    }


def runs(system: str, scenario: Scenario, what: str = "models") -> bool:
    """Whether a system runs the scenario's model (or does `what` with it), by the beginning of the model's name."""
    return scenario.model.name.startswith(_families()[system][what])


def sglang_line(scenario: Scenario, since: str, *flags: str) -> Iterator[LaunchLine]:
    """SGLang's flags for the scenario's ranks, these, and those for text encoder and VAE; none if it can't run it."""
    if scenario.workload.cfg_mode(scenario.model) != "batched" and runs("sglang", scenario):
        yield LaunchLine(f"SGLang ({since})", " ".join((*_layout(scenario), *flags, *_components(scenario))))


def _layout(scenario: Scenario) -> Iterator[str]:
    """How the GPUs of one request are used."""
    degree, split = scenario.ulysses, scenario.workload.cfg_mode(scenario.model) == "split"
    gpus = 2 * degree if split else degree
    if gpus > 1:
        yield f"--num-gpus {gpus} --ulysses-degree {degree}"
    if split:
        yield "--enable-cfg-parallel"


def _components(scenario: Scenario) -> Iterator[str]:
    """Where text encoder and VAE are while they don't work."""
    policy = scenario.policy
    for flag, placement in (("text-encoder", policy.text_encoder), ("vae", policy.vae)):
        yield f"--{flag}-cpu-offload {'false' if placement == 'resident' else 'true'}"


def diffusers_line(scenario: Scenario, code: str) -> Iterator[LaunchLine]:
    """The code, where the model's pipeline runs guidance as the workload has it."""
    mode = scenario.workload.cfg_mode(scenario.model)
    guided = mode == "none" or (mode == "batched") == runs("diffusers", scenario, "batched")
    if scenario.workload.gpus == 1 and mode != "split" and guided and runs("diffusers", scenario):
        yield LaunchLine("diffusers", code)
