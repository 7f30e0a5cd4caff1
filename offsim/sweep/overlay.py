"""Putting overrides over a scenario document, before units and catalogue names are resolved.

Tables merge deeply, arrays and values replace. A model or node that is a catalogue name, or extends one,
replaces; any other table over a catalogue name extends it. A policy of another name replaces.
"""

from collections.abc import Iterator
from typing import Any

Table = dict[str, Any]


def overlay(base: Table, over: Table) -> Table:
    """The document `base` with `over` on top.

    >>> overlay({"node": "a", "policy": "fsdp"}, {"node": {"gpus": 2}, "policy": {"name": "resident"}})
    {'node': {'extends': 'a', 'gpus': 2}, 'policy': {'name': 'resident'}}
    """
    merged = dict(base)
    for section, value in over.items():
        merged[section] = _section(section, merged[section], value) if section in merged else value
    return merged


def _section(section: str, old: Any, new: Any) -> Any:
    short = "name" if section == "policy" else "extends"
    old, table = (({short: value} if isinstance(value, str) else value) for value in (old, new))
    if not isinstance(old, dict) or not isinstance(table, dict):
        return new
    return _merge(old, table) if table.get(short, old.get(short)) == old.get(short) else new


def _merge(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return old | {key: _merge(old[key], value) if key in old else value for key, value in new.items()}


def leaves(table: Table, prefix: str = "") -> Iterator[str]:
    """The dotted keys of everything that is no table: `workload.gpus`."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
