"""A node in a document: its parts by name, how many of its GPUs are there, and what it is called.

A part (`gpu`, `host`, `wiring`) is a name of the catalogue, a file, or a table; a part that is named or that extends
another replaces the inherited one whole, so that nothing of another GPU stays behind.
"""

import re
from typing import Any

PARTS = ("gpu", "host", "wiring")
LONGEST_GPU_NAME = 60
UNNAMED = "unnamed"
Tables = dict[str, Any]


class WholeTable(dict[str, Any]):
    """A table that replaces the one that it comes over, where others merge."""


def is_named(part: Any) -> bool:
    """Whether a part of a node is given by the name of another, or extends one."""
    return isinstance(part, str) or (isinstance(part, dict) and "extends" in part)


def inherited_by(node: Tables, table: Tables) -> Tables:
    """What a table over a node inherits of it: fewer GPUs, and no name that would be another machine's.

    With a smaller `wiring.gpus`, GPUs, switches and sockets beyond it go. Another GPU, or another number of them, makes
    another machine: it is called by them, unless the table says how.
    """
    wiring = table.get("wiring", {})
    count = wiring.get("gpus")
    kept = dict(node)
    if count is not None and not isinstance(wiring, WholeTable):
        kept |= first_gpus(node, count)
    other_count = count is not None and count != node.get("wiring", {}).get("gpus")
    if isinstance(table.get("gpu"), WholeTable) or "name" in table.get("gpu", {}) or other_count:
        kept = {key: value for key, value in kept.items() if key not in ("name", "title", "fingerprint")}
        kept["title"] = f"changed from {node['name']}" if "name" in node else ""
    return kept


def first_gpus(node: Tables, count: int) -> Tables:
    """The host and the wiring of a node of which only the first GPUs are there, with their sockets and switches."""
    wiring, host = dict(node.get("wiring", {})), dict(node.get("host", {}))
    sockets = [[gpu for gpu in gpus if gpu < count] for gpus in wiring.get("sockets", [])]
    if "sockets" in wiring:
        wiring["sockets"] = [gpus for gpus in sockets if gpus]
    if "switches" in wiring:
        switches = [{**s, "gpus": [gpu for gpu in s["gpus"] if gpu < count]} for s in wiring["switches"]]
        wiring["switches"] = [switch for switch in switches if switch["gpus"]]
    if len(host.get("sockets", ())) == len(sockets) > 1:
        host["sockets"] = [memory for memory, gpus in zip(host["sockets"], sockets, strict=True) if gpus]
    return {key: table for key, table in (("host", host), ("wiring", wiring)) if table}


def named(node: Tables) -> Tables:
    """A node with a name and a title: those it has, else its GPUs'.

    >>> node = {"gpu": {"name": "RTX 3090"}, "host": {}, "wiring": {"gpus": 2}, "title": "changed from rtx4090-x8"}
    >>> named(node)["title"]
    '2 x RTX 3090, changed from rtx4090-x8'
    """
    if "name" not in node and any(part not in node for part in PARTS):
        return {"name": UNNAMED, "title": UNNAMED, **node}  # so that the part is said to be missing, not the name
    gpu, count = node.get("gpu", {}).get("name"), node.get("wiring", {}).get("gpus")
    if "name" in node or not isinstance(gpu, str) or not isinstance(count, int):
        return node
    word = re.sub(r"[^a-z0-9.]+", "-", gpu.lower()).strip("-.")[:LONGEST_GPU_NAME] or "gpu"
    title = ", ".join(filter(None, (f"{count} x {gpu}", node.get("title", ""))))
    return {**node, "name": f"{word}-x{count}", "title": title}
