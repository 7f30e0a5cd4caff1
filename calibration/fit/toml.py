"""A node profile as TOML text, with six significant digits."""

import json
from typing import Any

from offsim.scenario.quantity import Curve

from .estimate import Estimate

Table = dict[str, Any]


def number(value: float) -> str:
    """
    >>> number(55.4387123), number(2.0), number(0)
    ('55.4387', '2', '0')
    """
    return f"{value:.6g}"


def quantity(value: float, provenance: str, source: str, estimate: Estimate | None = None, factor: float = 1.0) -> str:
    """An inline table; `factor` divides SI into the key's unit."""
    parts = [f"value = {number(value / factor)}", f'provenance = "{provenance}"', f"source = {json.dumps(source)}"]
    if estimate is not None and estimate.note:
        parts.append(f"condition = {json.dumps(estimate.note)}")
    if estimate is not None and estimate.interval is not None:
        low, high = (number(end / factor) for end in estimate.interval)
        if float(low) <= float(number(value / factor)) <= float(high):
            parts.append(f"interval = [{low}, {high}]")
    return "{ " + ", ".join(parts) + " }"


def points(curve: Curve, unit: str, factor: float) -> str:
    """An inline table of a curve; `unit` completes the key `points`."""
    pairs = ", ".join(f"[{number(size)}, {number(value / factor)}]" for size, value in curve.points)
    key = f"points_{unit}" if unit else "points"
    source = json.dumps(curve.source)
    return f'{{ {key} = [{pairs}], provenance = "{curve.provenance}", source = {source} }}'


def document(head: list[tuple[str, str]], tables: list[tuple[str, list[tuple[str, str]]]]) -> str:
    """Keys, then tables in order; empty tables are left out."""
    lines = [f"{key} = {value}" for key, value in head]
    for name, entries in tables:
        if entries:
            lines += ["", f"[{name}]" if not name.startswith("[") else name, *(f"{key} = {v}" for key, v in entries)]
    return "\n".join(lines) + "\n"
