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
from .documents import MOST_BYTES, read_toml
from .faults import Place, reason
from .gpu import GPU
from .host import Host
from .model import Model
from .node import Node
from .parts import PARTS, WholeTable, first_gpus, inherited_by, is_named, named
from .scenario import Scenario, Simulation
from .schema_1 import READABLE, SCHEMA, grid_of_schema_1, key_of_schema_1, node_of_schema_1, scenario_of_schema_1
from .wiring import Wiring
from .wording import choices
from .workload import Workload

SECTIONS = ("model", "workload", "node", "policy", "simulation")
Kinds = Mapping[str, Any]
"""The type of every section; what a policy may be is known where policies are, and handed in."""
PART_TYPES: Kinds = {"gpu": GPU, "host": Host, "wiring": Wiring}
"""The type of every part of a node."""
SECTION_TYPES: Kinds = {"model": Model, "workload": Workload, "node": Node, "simulation": Simulation, **PART_TYPES}
"""The type of every section that is known here, and of every part of a node."""
CATALOGUE_KIND = {"model": "models", "node": "nodes", "gpu": "gpus", "host": "hosts", "wiring": "wirings"}
CONVERTERS = {"scenario": scenario_of_schema_1, "node": node_of_schema_1, "grid": grid_of_schema_1}
"""What makes schema 2 of an older document, by what it is of; others did not change."""
MAPPING = Path("mapping")
"""Stands in messages where a file's name would."""
FROM_CONFIG = "of a diffusers config.json, offsim.scenario.diffusers.from_diffusers_config makes a model in Python"
LONGEST_CHAIN = 16
"""Files of one chain of `extends`."""
Decoded = TypeVar("Decoded")


def read_document(name_or_path: str, kind: str) -> tuple[dict[str, Any], Path]:
    """The TOML document of a catalogue entry or a file as it stands, and where it was found."""
    path = _find(name_or_path, kind, Place(None, kind.removesuffix("s")))
    return read_toml(path), path


def current(raw: dict[str, Any], section: str, place: Place) -> dict[str, Any]:
    """A document of a scenario, a section or a grid as this version writes it, without its schema."""
    own = dict(raw)
    schema = own.pop("schema", min(READABLE))
    if type(schema) is not int or schema not in READABLE:
        raise place.child("schema").fault(f"this version reads schema = {SCHEMA}, and {min(READABLE)}", schema)
    converter = CONVERTERS.get(section)
    return converter(own) if converter and schema < SCHEMA else own


def section_table(value: Any, section: str, inherited: Any, path: Path, kinds: Kinds) -> dict[str, Any]:
    """One section of a scenario document in SI, over the one that it inherits, or None; its names resolved."""
    return _section(value, section, inherited, Place(path, section), (path.resolve(),), kinds)


def load_model(name_or_path: str) -> Model:
    """A model of the catalogue or of a file."""
    return _load_entry(name_or_path, "model", Model)


def load_node(name_or_path: str) -> Node:
    """A node of the catalogue or of a file."""
    return _load_entry(name_or_path, "node", Node)


def load_part(name_or_path: str, part: str) -> GPU | Host | Wiring:
    """A part of nodes (`gpu`, `host` or `wiring`), of the catalogue or of a file."""
    found: GPU | Host | Wiring = _load_entry(name_or_path, part, PART_TYPES[part])
    return found


def _load_entry(name_or_path: str, section: str, kind: type[Decoded]) -> Decoded:
    path = _find(name_or_path, CATALOGUE_KIND[section], Place(None, section))
    return convert(_entry_table(path, section, seen=()), kind, path)


def _find(name: str, kind: str, place: Place) -> Path:
    """The file that a catalogue name or a path means; `place` is where it was asked for."""
    if not name.endswith(".toml"):
        found = catalogue.path_of(kind, name)
        if found is not None:
            return found
        known = catalogue.names(kind)
        hint = f"; {choices(known, name) if not name.endswith('.json') else FROM_CONFIG}" if known else ""
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


def scenario_tables(raw: dict[str, Any], path: Path, kinds: Kinds, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A scenario document in SI with every `extends` and catalogue name resolved; `seen`: the files that extend it."""
    seen, tables = (*seen, path.resolve()), dict[str, Any]()
    own = current(raw, "scenario", Place(path))
    if "extends" in own:
        parent = _parent(own.pop("extends"), "scenarios", Place(path, "extends"), seen)
        inherited = scenario_tables(read_toml(parent), parent, kinds, seen)
        # A variant is another scenario: it doesn't go by its parent's name.
        tables = {key: value for key, value in inherited.items() if key not in ("name", "title")}
    sections = {key: own.pop(key) for key in SECTIONS if key in own}
    tables |= normalise(own, Scenario, path, allowed=("extends", *SECTIONS))
    for key, value in sections.items():
        tables[key] = _section(value, key, tables.get(key), Place(path, key), seen, kinds)
    return tables


def _section(
    value: Any, section: str, inherited: Any, place: Place, seen: tuple[Path, ...], kinds: Kinds
) -> dict[str, Any]:
    """One table of a scenario, or a part of its node.

    A name or a table with `extends` replaces an inherited one, others merge.
    """
    if isinstance(value, str) and section in CATALOGUE_KIND:
        path = _find(value, CATALOGUE_KIND[section], place)
        whole = _entry_table(path, section, seen)
        convert(whole, kinds[section], path)
        return whole
    if isinstance(value, str) and section == "policy":
        return _extended({"name": value}, section, place, seen, kinds)
    if not isinstance(value, dict):
        named = section == "policy" or section in CATALOGUE_KIND
        raise place.fault(f"expected a table{' or a name' if named else ''}", value)
    if inherited is None or "extends" in value:
        return _extended(dict(value), section, place, seen, kinds)
    return _over(inherited, value, section, place, kinds)


def _over(inherited: dict[str, Any], value: dict[str, Any], section: str, place: Place, kinds: Kinds) -> dict[str, Any]:
    """A table over the one it inherits; another policy replaces it, since the parameters differ."""
    if section == "policy":
        value = {"name": inherited["name"], **value}
    own = _normalised(dict(value), section, place, (), kinds)
    if section == "node":
        return named(_merge(inherited_by(inherited, own), own))
    return own if own.get("name") != inherited.get("name") and section == "policy" else _merge(inherited, own)


def _normalised(
    own: dict[str, Any], section: str, place: Place, seen: tuple[Path, ...], kinds: Kinds, allowed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A table in SI. A node's parts may be named or extend others: they become whole."""
    if section == "node":
        _check_node_keys(own, place)
    parts = [part for part in PARTS if section == "node" and is_named(own.get(part))]
    whole = {
        part: WholeTable(_section(own.pop(part), part, None, place.child(part), seen, SECTION_TYPES)) for part in parts
    }
    return normalise(own, kinds[section], place.path, place.key, allowed) | whole


def _check_node_keys(own: dict[str, Any], place: Place) -> None:
    """Refuse what is no part where one is meant, and keys of schema 1, with the key that they have today."""
    for key, value in own.items():
        if key in PARTS and not isinstance(value, str | dict):
            raise place.child(key).fault("expected a table or a name", value)
        today = key_of_schema_1(f"node.{key}")
        if today != f"node.{key}":
            raise place.child(key).fault(f"stands elsewhere since schema 2; write {today}")


def _entry_table(path: Path, section: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A model or node file in SI, its `extends` resolved."""
    if not seen and path.is_relative_to(catalogue.ROOT):
        return _catalogue_table(path, section)
    return _extended(current(read_toml(path), section, Place(path)), section, Place(path), (*seen, path.resolve()))


@cache
def _catalogue_table(path: Path, section: str) -> dict[str, Any]:
    """A catalogue entry in SI, read once: sweeps name the same few again and again. Never written to."""
    return _extended(current(read_toml(path), section, Place(path)), section, Place(path), (path.resolve(),))


def _extended(
    own: dict[str, Any], section: str, place: Place, seen: tuple[Path, ...], kinds: Kinds = SECTION_TYPES
) -> dict[str, Any]:
    """A table in SI, over the model or node that it extends; `place` is the table's."""
    at = place.child("extends")
    if "extends" not in own:
        allowed = ("extends",) if section in CATALOGUE_KIND else ()
        return _complete(_normalised(dict(own), section, place, seen, kinds, allowed), section)
    if section not in CATALOGUE_KIND:
        raise at.fault("only model, node and whole scenarios can extend another", own["extends"])
    own = dict(own)
    parent = _parent(own.pop("extends"), CATALOGUE_KIND[section], at, seen)
    table = _normalised(own, section, place, seen, kinds, ("extends",))
    base = _entry_table(parent, section, seen)
    _check_parent(base, section, parent)
    return _complete(_merge(_inherited(base, table, section), table), section)


def _inherited(base: dict[str, Any], table: dict[str, Any], section: str) -> dict[str, Any]:
    """What a table inherits of the one that it extends."""
    if section == "wiring":
        return first_gpus({"wiring": base}, table["gpus"])["wiring"] if "gpus" in table else base
    return inherited_by(base, table) if section == "node" else base


def _complete(table: dict[str, Any], section: str) -> dict[str, Any]:
    return named(table) if section == "node" else table


def _check_parent(base: dict[str, Any], section: str, path: Path) -> None:
    """Find what is wrong in a file that others extend, which may lack keys, where it can be named: in that file."""
    try:
        msgspec.convert(base, SECTION_TYPES[section])
    except msgspec.ValidationError as error:
        if "missing required field" not in str(error):
            raise Place(path).fault(describe(str(error), base, SECTION_TYPES[section])) from None


def _parent(value: Any, kind: str, place: Place, seen: tuple[Path, ...]) -> Path:
    """The file that an `extends` means; a cycle is an error."""
    if not isinstance(value, str):
        raise place.fault("expected a catalogue name or a path", value)
    parent = _find(value, kind, place)
    if parent.resolve() in seen:
        raise place.fault("extends itself in a circle", value)
    if len(seen) > LONGEST_CHAIN:
        raise place.fault(f"extended more than {LONGEST_CHAIN} times", value)
    if sum(file.stat().st_size for file in (*seen, parent) if file.is_file()) > MOST_BYTES:
        raise place.fault(f"with all that it extends larger than {MOST_BYTES / 1e6:g} MB", value)
    return parent


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: tables merge deeply, everything else (quantities and whole parts too) replaces."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not isinstance(value, WholeTable):
            value = _merge(old, value)
        merged[key] = value
    return merged


def convert(tables: dict[str, Any], kind: type[Decoded], path: Path) -> Decoded:
    """Strict conversion to the typed struct, with the error in the file's own words."""
    try:
        return msgspec.convert(tables, kind)
    except msgspec.ValidationError as error:
        raise Place(path).fault(describe(str(error), tables, kind)) from None
