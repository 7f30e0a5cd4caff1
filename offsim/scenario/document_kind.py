"""What a file is of, told by its keys: a scenario, a model, a node, a part of nodes or a grid."""

from pathlib import Path
from typing import Any

from . import catalogue
from .decode import known_keys
from .documents import read_toml
from .load import CATALOGUE_KIND, LONGEST_CHAIN, SECTION_TYPES, SECTIONS, read_document
from .parts import PARTS
from .schema_1 import WIRED

ENTRIES = {kind: known_keys(SECTION_TYPES[section]) for section, kind in CATALOGUE_KIND.items()}
"""The keys of what scenarios name, by the folder of the catalogue that it stands in."""


def kind_of_file(path: str) -> str:
    """The folder of the catalogue that a file would stand in; raises ScenarioError if it cannot be read.

    A file that says nothing else than what it extends is of that kind; one that says nothing at all is a scenario.
    """
    return _kind(*read_document(path, "scenarios"), LONGEST_CHAIN)


def _kind(raw: dict[str, Any], path: Path, further: int) -> str:
    if "axes" in raw:
        return "grids"
    if raw.keys() & {*SECTIONS}:
        return "scenarios"
    if raw.keys() & {*PARTS} or ("name" in raw and raw.keys() & {*WIRED}):
        return "nodes"  # in schema 1 its wiring stood beside its name
    common = set.intersection(*(set(keys) for keys in ENTRIES.values()))
    known = {kind: len(raw.keys() & (keys.keys() - common)) for kind, keys in ENTRIES.items()}
    most = max(known, key=lambda kind: known[kind])
    extended = _parents_kind(raw["extends"], path, further) if "extends" in raw else "scenarios"
    return most if known[most] and extended not in ENTRIES else extended


def _parents_kind(parent: Any, path: Path, further: int) -> str:
    """The kind of what is extended; of what isn't there, whoever loads the scenario will tell."""
    if not isinstance(parent, str) or not further:
        return "scenarios"
    if parent.endswith(".toml"):
        file = path.parent / parent
        return _kind(read_toml(file), file, further - 1) if file.is_file() else "scenarios"
    return next((kind for kind in ENTRIES if catalogue.path_of(kind, parent)), "scenarios")
