"""The words of a search: ladders of policies, and recipes for real systems.

Which system runs which model is data, in systems.toml, with its source.
"""

import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario

Ladder = tuple[Policy, ...]
"""Policies that differ in one parameter, in order of growing device memory: the search takes some of those that fit,
and the last one that does."""


class Recipe(NamedTuple):
    """How a real system is asked for a policy."""

    system: str
    """Its name, and from when on it can."""
    text: str
    """Flags or code to paste."""


class Searched(NamedTuple):
    """What a policy contributes to a search."""

    ladders: Callable[[Scenario], Iterator[Ladder]]
    recipes: tuple[Callable[[Scenario], Iterator[Recipe]], ...]
    rounding: Callable[[Policy], str] = lambda _: ""
    """How a policy changes what the model computes; empty if it doesn't."""


@cache
def _families() -> dict[str, dict[str, tuple[str, ...]]]:
    raw = tomllib.loads((files(__package__) / "systems.toml").read_text(encoding="utf-8"))
    return {
        system: {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
        for system, table in raw.items()
    }


def runs(system: str, scenario: Scenario, what: str = "models") -> bool:
    """Whether a system runs the scenario's model (or does `what` with it), by the beginning of the model's name."""
    return scenario.model.name.startswith(_families()[system][what])
