"""Documents that are good to begin with, and changes at places in them."""

import tomllib
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from offsim.scenario import catalogue
from tests.malformed.mutations import GOOD, Steps, Table

SCENARIOS = ("tiny", "flux.1-dev-rtx4090-layerwise", "wan2.2-4xh100-pcie-layerwise", "wan2.2-4xh100-pcie-full-model")


@cache
def _read(path: Path) -> Table:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def scenario(name: str = "tiny") -> Table:
    """A good scenario, a fresh copy each time: the tiny one is complete in itself."""
    return deepcopy(_read(GOOD)) if name == "tiny" else entry("scenarios", name)


def entry_path(kind: str, name: str) -> Path:
    """The file of a catalogue entry."""
    path = catalogue.path_of(kind, name)
    assert path is not None
    return path


def entry(kind: str, name: str) -> Table:
    """A catalogue entry as it is written, a fresh copy each time."""
    return deepcopy(_read(entry_path(kind, name)))


def at(document: Any, steps: Steps) -> Any:
    """What stands at a place."""
    for step in steps:
        document = document[step]
    return document


def put(document: Any, steps: Steps, value: Any) -> None:
    """Set what stands at a place."""
    at(document, steps[:-1])[steps[-1]] = value
