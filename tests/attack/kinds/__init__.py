"""The kinds of input, each a generator, and how often each is drawn."""

from tests.attack.case import Generator

from . import calibrations, chains, configs, edited, grids, legal, lines, paths, raw, stores

WEIGHTS: dict[str, tuple[Generator, int]] = {
    "edited": (edited.edited, 4),
    "texts": (edited.texts, 2),
    "entries": (edited.entries, 2),
    "raw": (raw.raw, 3),
    "chains": (chains.chains, 1),
    "legal": (legal.legal, 6),
    "grids": (grids.grids, 3),
    "configs": (configs.configs, 2),
    "stores": (stores.stores, 2),
    "paths": (paths.paths, 2),
    "lines": (lines.lines, 2),
    "calibrations": (calibrations.calibrations, 1),
}
KINDS: dict[str, Generator] = {name: generator for name, (generator, _) in WEIGHTS.items()}
ORDER = [name for name, (_, weight) in WEIGHTS.items() for _ in range(weight)]
"""Kinds in turn, so that every stretch of numbers has all of them."""


def kind_of(number: int) -> str:
    """The kind of a case: kinds take turns."""
    return ORDER[number % len(ORDER)]
