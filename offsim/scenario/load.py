"""Reading scenario files: TOML, `extends`, units, strict types, one clear error.

Tables merge deeply, arrays replace, cycles are errors. A table may be a catalogue name (``node = "h100-pcie"``), a
table, or a table that extends a catalogue name or a file relative to the one it stands in.
"""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from . import catalogue
from .decode import describe, normalise
from .model import Model
from .node import Node
from .policy import Policy
from .scenario import Scenario, ScenarioError, Simulation, check
from .workload import Workload

SECTIONS: dict[str, Any] = {
    "model": Model,
    "workload": Workload,
    "node": Node,
    "policy": Policy,
    "simulation": Simulation,
}
CATALOGUE_KIND = {"model": "models", "node": "nodes"}
T = TypeVar("T")


def load_scenario(name_or_path: str | Path) -> Scenario:
    """The scenario in a file or of a catalogue name, complete and checked; raises ScenarioError."""
    path = _find(str(name_or_path), "scenarios", base=None)
    return parse_scenario(_read(path), path)


def parse_scenario(raw: dict[str, Any], path: Path) -> Scenario:
    """The scenario of an already read TOML document; `path` names it in errors and anchors `extends`."""
    tables = _scenario_tables(raw, path, seen=(path.resolve(),))
    missing = [key for key in ("model", "workload", "node", "policy") if key not in tables]
    if missing:
        raise ScenarioError(f"{path}: missing table [{missing[0]}]: a scenario needs model, workload, node and policy")
    scenario: Scenario = _convert(tables, Scenario, path)
    try:
        check(scenario)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None
    return scenario


def load_model(name_or_path: str) -> Model:
    """A model of the catalogue or of a file."""
    return _load_entry(name_or_path, "model", Model)


def load_node(name_or_path: str) -> Node:
    """A node of the catalogue or of a file."""
    return _load_entry(name_or_path, "node", Node)


def _load_entry(name_or_path: str, section: str, kind: type[T]) -> T:
    path = _find(name_or_path, CATALOGUE_KIND[section], base=None)
    return _convert(_entry_table(path, section, seen=()), kind, path)


def _find(name: str, kind: str, base: Path | None) -> Path:
    """The file that a catalogue name or a path means."""
    if not name.endswith(".toml"):
        found = catalogue.path_of(kind, name)
        if found is not None:
            return found
        close = get_close_matches(name, catalogue.names(kind), n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else f"`python -m offsim {kind}` lists them"
        raise ScenarioError(f"{kind[:-1]}={name!r}: not in the catalogue and not a .toml file; {hint}")
    path = Path(name) if base is None else base.parent / name
    if not path.is_file():
        raise ScenarioError(f"{path}: no such file")
    return path


def _read(path: Path) -> dict[str, Any]:
    """The TOML document of a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ScenarioError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: not TOML: {error}") from None


def _scenario_tables(raw: dict[str, Any], path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A scenario document in SI with every `extends` and catalogue name resolved."""
    tables: dict[str, Any] = {}
    own = dict(raw)
    if "extends" in own:
        parent = _parent(own.pop("extends"), "scenarios", path, "extends", seen)
        tables = _scenario_tables(_read(parent), parent, (*seen, parent.resolve()))
    for key, value in own.items():
        if key in SECTIONS:
            tables[key] = _merge_section(tables.get(key), _section(key, value, path, seen))
        else:
            tables.update(normalise({key: value}, Scenario, path, allowed=("extends", *SECTIONS)))
    return tables


def _merge_section(inherited: Any, own: dict[str, Any]) -> dict[str, Any]:
    """A table over the one it inherits; another policy replaces it, since the parameters differ."""
    if inherited is None or (own.get("name") and own["name"] != inherited.get("name")):
        return own
    return _merge(inherited, own)


def _section(key: str, value: Any, path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """One table of a scenario, which may be a catalogue name."""
    if isinstance(value, str):
        if key == "policy":
            value = {"name": value}
        elif key in CATALOGUE_KIND:
            return _entry_table(_find(value, CATALOGUE_KIND[key], path), key, seen)
    if not isinstance(value, dict):
        raise ScenarioError(f"{path}: {key}={value!r}: expected a table{' or a name' if key in CATALOGUE_KIND else ''}")
    return _extended(dict(value), key, path, seen)


def _entry_table(path: Path, section: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A model or node file in SI, its `extends` resolved."""
    raw = _read(path)
    raw.pop("schema", None)
    return _extended(raw, section, path, (*seen, path.resolve()))


def _extended(own: dict[str, Any], section: str, path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if "extends" not in own:
        return normalise(own, SECTIONS[section], path, prefix=section)
    if section not in CATALOGUE_KIND:
        raise ScenarioError(f"{path}: {section}.extends: only model, node and whole scenarios can be extended")
    parent = _parent(own.pop("extends"), CATALOGUE_KIND[section], path, f"{section}.extends", seen)
    return _merge(_entry_table(parent, section, seen), normalise(own, SECTIONS[section], path, prefix=section))


def _parent(value: Any, kind: str, path: Path, key: str, seen: tuple[Path, ...]) -> Path:
    """The file that an `extends` means; a cycle is an error."""
    if not isinstance(value, str):
        raise ScenarioError(f"{path}: {key}={value!r}: expected a catalogue name or a path")
    try:
        parent = _find(value, kind, path)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {key}: {error}") from None
    if parent.resolve() in seen:
        raise ScenarioError(f"{path}: {key}={value!r}: extends itself in a circle")
    return parent


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: tables merge deeply, everything else replaces."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _convert(tables: dict[str, Any], kind: type[T], path: Path) -> T:
    """Strict conversion to the typed struct, with the error in the file's own words."""
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{path}: {describe(str(error), tables, kind)}") from None
