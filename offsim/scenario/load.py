"""Reading scenario files: TOML, `extends`, units, strict types, one clear error.

Tables merge deeply, arrays and quantities replace, cycles are errors. A table may be a catalogue name
(``node = "h100-pcie"``), a table, or a table that extends a catalogue name or a file relative to the one it
stands in; named or extending, it replaces an inherited one.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, TypeVar

import msgspec

from . import catalogue
from .decode import describe, normalise
from .documents import MOST_BYTES, plain_document, read_toml
from .faults import Place, reason
from .model import Model
from .node import Node
from .policy import Policy
from .scenario import RefusedScenario, Scenario, ScenarioError, Simulation, check
from .wording import choices, file_name
from .workload import Workload

SECTIONS: dict[str, Any] = {
    "model": Model,
    "workload": Workload,
    "node": Node,
    "policy": Policy,
    "simulation": Simulation,
}
CATALOGUE_KIND = {"model": "models", "node": "nodes"}
SCHEMA = 1
ScenarioSource = str | Path | Mapping[str, Any] | Scenario
"""What says which scenario is meant."""
MAPPING = Path("mapping")
"""Stands in messages where a file's name would."""
DEEPEST = 16
"""Files of one chain of `extends`."""
T = TypeVar("T")


def load_scenario(source: ScenarioSource) -> Scenario:
    """The scenario of a catalogue name, in a file or in a mapping that says what a file would; raises ScenarioError.

    It is complete and checked; one that is a Scenario already is checked. A mapping's `extends` is relative to the
    working directory.
    """
    if isinstance(source, Scenario):
        check(source)
        return source
    if isinstance(source, Mapping):
        return parse_scenario(plain_document(source, Place(MAPPING)), MAPPING)
    raw, path = read_document(str(source), "scenarios")
    return parse_scenario(raw, path)


def load_scenario_on(name_or_path: str | Path, node: str) -> Scenario:
    """The scenario of a file or catalogue name, on another node: a catalogue name or a profile's file."""
    raw, path = read_document(str(name_or_path), "scenarios")
    replaced = str(Path(node).absolute()) if node.endswith(".toml") else node
    return parse_scenario(raw | {"node": replaced}, path)


def read_document(name_or_path: str, kind: str) -> tuple[dict[str, Any], Path]:
    """The TOML document of a catalogue entry or a file as it stands, and where it was found."""
    path = _find(name_or_path, kind, Place(None, kind.removesuffix("s")))
    return read_toml(path), path


def parse_scenario(raw: dict[str, Any], path: Path) -> Scenario:
    """The scenario of an already read TOML document; `path` names it in errors and anchors `extends`."""
    tables = _scenario_tables(raw, path, seen=(path.resolve(),))
    missing = [key for key in ("model", "workload", "node", "policy") if key not in tables]
    if missing:
        raise Place(path, missing[0]).fault("missing; a scenario needs model, workload, node and policy")
    scenario: Scenario = convert(tables, Scenario, path)
    try:
        check(scenario)
    except RefusedScenario as refused:
        raise RefusedScenario(refused.reason, scenario, file_name(path)) from None
    except ScenarioError as error:
        raise Place(path).fault(str(error)) from None
    return scenario


def inherited_tables(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a scenario document says outside its sections, and the sections that it extends, in SI."""
    rest = {key: value for key, value in raw.items() if key not in SECTIONS}
    return _scenario_tables(rest, path, seen=(path.resolve(),))


def parse_section(value: Any, section: str, inherited: Any, path: Path) -> Any:
    """One section of a scenario, typed: all of them together make what `parse_scenario` makes.

    `inherited` is the section of the scenario that this one extends, or None. Messages are poorer than
    `parse_scenario`'s: ask that for the one to show.
    """
    table = _section(value, section, inherited, Place(path, section), (path.resolve(),))
    return convert(table, SECTIONS[section], path)


def load_model(name_or_path: str) -> Model:
    """A model of the catalogue or of a file."""
    return _load_entry(name_or_path, "model", Model)


def load_node(name_or_path: str) -> Node:
    """A node of the catalogue or of a file."""
    return _load_entry(name_or_path, "node", Node)


def _load_entry(name_or_path: str, section: str, kind: type[T]) -> T:
    path = _find(name_or_path, CATALOGUE_KIND[section], Place(None, section))
    return convert(_entry_table(path, section, seen=()), kind, path)


def _find(name: str, kind: str, place: Place) -> Path:
    """The file that a catalogue name or a path means; `place` is where it was asked for."""
    if not name.endswith(".toml"):
        found = catalogue.path_of(kind, name)
        if found is not None:
            return found
        known = catalogue.names(kind)
        hint = f"; {choices(known, name)}" if known else ""
        raise place.fault(f"not in the catalogue of {kind} and not a .toml file{hint}", name)
    path = Path(name) if place.path is None else place.path.parent / name
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else reason(error)
        raise place.fault(why, name) from None
    if not S_ISREG(mode):
        raise place.fault("a directory, not a file" if S_ISDIR(mode) else "not a regular file", name)
    return path


def _own(raw: dict[str, Any], place: Place) -> dict[str, Any]:
    """A document without its schema, which must be the one that this version reads."""
    own = dict(raw)
    schema = own.pop("schema", SCHEMA)
    if type(schema) is not int or schema != SCHEMA:
        raise place.child("schema").fault(f"this version reads schema = {SCHEMA}", schema)
    return own


def _scenario_tables(raw: dict[str, Any], path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A scenario document in SI with every `extends` and catalogue name resolved."""
    tables: dict[str, Any] = {}
    own = _own(raw, Place(path))
    if "extends" in own:
        parent = _parent(own.pop("extends"), "scenarios", Place(path, "extends"), seen)
        inherited = _scenario_tables(read_toml(parent), parent, (*seen, parent.resolve()))
        # A variant is another scenario: it doesn't go by its parent's name.
        tables = {key: value for key, value in inherited.items() if key not in ("name", "title")}
    sections = {key: own.pop(key) for key in SECTIONS if key in own}
    tables |= normalise(own, Scenario, path, allowed=("extends", *SECTIONS))
    for key, value in sections.items():
        tables[key] = _section(value, key, tables.get(key), Place(path, key), seen)
    return tables


def _section(value: Any, section: str, inherited: Any, place: Place, seen: tuple[Path, ...]) -> dict[str, Any]:
    """One table of a scenario: a name or a table with `extends` replaces an inherited one, others merge."""
    if isinstance(value, str) and section in CATALOGUE_KIND:
        path = _find(value, CATALOGUE_KIND[section], place)
        whole = _entry_table(path, section, seen)
        convert(whole, SECTIONS[section], path)
        return whole
    if isinstance(value, str) and section == "policy":
        return _extended({"name": value}, section, place, seen)
    if not isinstance(value, dict):
        named = section == "policy" or section in CATALOGUE_KIND
        raise place.fault(f"expected a table{' or a name' if named else ''}", value)
    if inherited is None or "extends" in value:
        return _extended(dict(value), section, place, seen)
    return _over(inherited, value, section, place)


def _over(inherited: dict[str, Any], value: dict[str, Any], section: str, place: Place) -> dict[str, Any]:
    """A table over the one it inherits; another policy replaces it, since the parameters differ."""
    if section == "policy":
        value = {"name": inherited["name"], **value}
    own = normalise(value, SECTIONS[section], place.path, place.key)
    return own if own.get("name") != inherited.get("name") and section == "policy" else _merge(inherited, own)


def _entry_table(path: Path, section: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A model or node file in SI, its `extends` resolved."""
    if not seen and path.is_relative_to(catalogue.ROOT):
        return _catalogue_table(path, section)
    return _extended(_own(read_toml(path), Place(path)), section, Place(path), (*seen, path.resolve()))


@cache
def _catalogue_table(path: Path, section: str) -> dict[str, Any]:
    """A catalogue entry in SI, read once: sweeps name the same few again and again. Never written to."""
    return _extended(_own(read_toml(path), Place(path)), section, Place(path), (path.resolve(),))


def _extended(own: dict[str, Any], section: str, place: Place, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A table in SI, over the model or node that it extends; `place` is the table's."""
    at = place.child("extends")
    if "extends" not in own:
        allowed = ("extends",) if section in CATALOGUE_KIND else ()
        return normalise(own, SECTIONS[section], place.path, place.key, allowed)
    if section not in CATALOGUE_KIND:
        raise at.fault("only model, node and whole scenarios can extend another", own["extends"])
    parent = _parent(own.pop("extends"), CATALOGUE_KIND[section], at, seen)
    table = normalise(own, SECTIONS[section], place.path, place.key, ("extends",))
    return _merge(_entry_table(parent, section, seen), table)


def _parent(value: Any, kind: str, place: Place, seen: tuple[Path, ...]) -> Path:
    """The file that an `extends` means; a cycle is an error."""
    if not isinstance(value, str):
        raise place.fault("expected a catalogue name or a path", value)
    parent = _find(value, kind, place)
    if parent.resolve() in seen:
        raise place.fault("extends itself in a circle", value)
    if len(seen) > DEEPEST:
        raise place.fault(f"extended more than {DEEPEST} times", value)
    if sum(file.stat().st_size for file in (*seen, parent) if file.is_file()) > MOST_BYTES:
        raise place.fault(f"with all that it extends larger than {MOST_BYTES / 1e6:g} MB", value)
    return parent


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: tables merge deeply, everything else (quantities too) replaces."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def convert(tables: dict[str, Any], kind: type[T], path: Path) -> T:
    """Strict conversion to the typed struct, with the error in the file's own words."""
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as error:
        raise Place(path).fault(describe(str(error), tables, kind)) from None
