"""Documents of schema 1, read as schema 2: the one place that knows how a node was written before it was parts.

Schema 1 had a node's links, collectives, host costs and interference side by side. Keys that are of schema 2 already
pass as they are, so a document that names no schema may be of either.
"""

from collections.abc import Mapping
from typing import Any

SCHEMA = 2
READABLE = (1, 2)
WIRED = ("gpus", "pcie", "switches", "nvlink", "collectives")
"""Keys of a node that its wiring has now."""
KERNEL_VICTIMS = ("gemm", "attention", "elementwise", "relayout")
COLLECTIVE_VICTIMS = ("all_to_all", "all_gather")
BESIDE_COPIES = {"H2D": "h2d", "D2H": "d2h"}
"""What copies are called beside whom something is slowed; anything else is a collective."""
MOVED_KEYS = {f"node.{key}": f"node.wiring.{key}" for key in WIRED}
MOVED_KEYS |= {"node.overheads": "node.host.overheads", "node.interference": "node.gpu.interference"}
RawTable = dict[str, Any]


def scenario_of_schema_1(raw: Mapping[str, Any]) -> RawTable:
    """A scenario's document, or the part of one that an axis of a grid sets."""
    own = dict(raw)
    if isinstance(own.get("node"), dict):
        own["node"] = node_of_schema_1(own["node"])
    return own


def grid_of_schema_1(raw: Mapping[str, Any]) -> RawTable:
    """A grid's document: its scenario, and what its axes set."""
    own = dict(raw)
    if isinstance(own.get("scenario"), dict):
        own["scenario"] = scenario_of_schema_1(own["scenario"])
    if isinstance(own.get("axes"), dict):
        own["axes"] = {name: _axis(axis) for name, axis in own["axes"].items()}
    return own


def node_of_schema_1(raw: Mapping[str, Any]) -> RawTable:
    """A node's document, or a table over one."""
    own = dict(raw)
    parts: dict[str, Any] = {part: own.pop(part) for part in ("gpu", "host", "wiring") if part in own}
    for key in WIRED:
        if key in own:
            _put(parts, "wiring", key, own.pop(key))
    if "overheads" in own:
        _put(parts, "host", "overheads", own.pop("overheads"))
    if "interference" in own:
        _put_interference(parts, own.pop("interference"), over_another="extends" in own or "name" not in own)
    _part_sockets(parts)
    return own | parts


def _axis(axis: Any) -> Any:
    if isinstance(axis, list):
        return [scenario_of_schema_1(value) if isinstance(value, dict) else value for value in axis]
    if not isinstance(axis, dict):
        return axis
    key = axis.get("key")
    values = axis.get("values")
    changed = {"values": _axis(values)} if isinstance(values, list) else {}
    return axis | changed | ({"key": key_of_schema_1(key)} if isinstance(key, str) else {})


def key_of_schema_1(key: str) -> str:
    """A dotted key of a scenario, where it stands now.

    >>> key_of_schema_1("node.pcie.h2d_GBps"), key_of_schema_1("node.gpu.memory_GiB"), key_of_schema_1("node.gpus")
    ('node.wiring.pcie.h2d_GBps', 'node.gpu.memory_GiB', 'node.wiring.gpus')
    """
    moved = next((old for old in MOVED_KEYS if key == old or key.startswith(f"{old}.")), None)
    return key if moved is None else MOVED_KEYS[moved] + key[len(moved) :]


def _put(parts: RawTable, part: str, key: str, value: Any) -> None:
    """Put a key into a part, which may be missing or, being wrong, no table at all."""
    table = parts.setdefault(part, {})
    if isinstance(table, dict):
        parts[part] = {**table, key: value}


def _part_sockets(parts: RawTable) -> None:
    """Part the GPUs of each socket, which are wiring, from its memory; memories of one rate become one entry."""
    host = parts.get("host")
    sockets = host.get("sockets") if isinstance(host, dict) else None
    if not isinstance(sockets, list) or not all(isinstance(s, dict) and "gpus" in s for s in sockets) or not sockets:
        return
    memories = [{key: value for key, value in socket.items() if key != "gpus"} for socket in sockets]
    alike = all(_numbers(memory) == _numbers(memories[0]) for memory in memories)
    parts["host"] = {**parts["host"], "sockets": memories[:1] if alike else memories}
    _put(parts, "wiring", "sockets", [socket["gpus"] for socket in sockets])


def _numbers(memory: RawTable) -> RawTable:
    return {key: value.get("value") if isinstance(value, dict) else value for key, value in memory.items()}


def _put_interference(parts: RawTable, entries: Any, over_another: bool) -> None:
    """Give each victim its own table. What the list leaves out is zero.

    For it replaced an inherited one. Collectives that neither the list nor the document names stay as inherited: there
    may be none.
    """
    if not _are_known(entries):
        _put(parts, "gpu", "interference", entries)  # refused there, being no table
        return
    kernels: RawTable = _slowing_nothing(KERNEL_VICTIMS) if over_another else {}
    named = _has_collectives(parts) or any(str(entry.get("victim")).startswith("all-") for entry in entries)
    kinds: RawTable = _slowing_nothing(COLLECTIVE_VICTIMS) if over_another and named else {}
    for entry in entries:
        victim, aside = str(entry.get("victim")), BESIDE_COPIES.get(str(entry.get("aggressor")), "collective")
        tables = kinds if victim.startswith("all-") else kernels
        tables.setdefault(victim.replace("-", "_"), {})[aside] = entry.get("slowdown")
    _put(parts, "gpu", "interference", kernels)
    for kind, table in kinds.items():
        _put_of_kind(parts, kind, table)


def _are_known(entries: Any) -> bool:
    """Whether a list of interference names victims with aggressors that schema 1 knew, each pair once."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return False
    pairs = [(str(entry.get("victim")), str(entry.get("aggressor"))) for entry in entries]
    others = {"all-to-all": "all-gather", "all-gather": "all-to-all", **dict.fromkeys(KERNEL_VICTIMS, "collective")}
    return len(set(pairs)) == len(pairs) and all(
        victim in others and aggressor in (*BESIDE_COPIES, others[victim]) for victim, aggressor in pairs
    )


def _slowing_nothing(victims: tuple[str, ...]) -> RawTable:
    return {victim: dict.fromkeys(("h2d", "d2h", "collective"), 0) for victim in victims}


def _has_collectives(parts: RawTable) -> bool:
    wiring = parts.get("wiring")
    return isinstance(wiring, dict) and isinstance(wiring.get("collectives"), dict)


def _put_of_kind(parts: RawTable, kind: str, table: RawTable) -> None:
    """Put what slows a kind of collective where that kind stands."""
    wiring = parts.get("wiring", {})
    collectives = wiring.get("collectives", {}) if isinstance(wiring, dict) else {}
    if isinstance(collectives, dict) and isinstance(collectives.get(kind, {}), dict):
        of_kind = {**collectives.get(kind, {}), "interference": table}
        _put(parts, "wiring", "collectives", {**collectives, kind: of_kind})
