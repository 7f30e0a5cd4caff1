"""Scenarios put together from sections that were parsed once.

Which model, node, policy ... a combination has depends on the axes that set something in that section, so a
grid of many scenarios has few distinct sections. What a section is parsed from is the same document that
`parse_scenario` would get, and where anything is wrong, that says what.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from offsim.program.load import check_scenario, inherited_tables, parse_scenario, parse_section, section_kinds
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import SECTIONS
from offsim.scenario.scenario import RefusedScenario, Scenario, Simulation

from .axis import Axis
from .overlay import Table, overlay
from .product import Positions

KEPT = 2000
"""Parsed sections of one kind that are kept: those of a large grid's workloads are made again."""


class Made(NamedTuple):
    """A combination's scenario."""

    scenario: Scenario
    refused: str
    digest: bytes
    node_digest: bytes


class Assembly:
    """Makes the scenario at any positions on the axes."""

    def __init__(self, base: Table, axes: Sequence[Axis], path: Path) -> None:
        self._base, self._axes, self._path = base, axes, path
        self._inherited = inherited_tables(base, path)
        self._setting = {s: [i for i, axis in enumerate(axes) if s in axis.sections] for s in SECTIONS}
        self._digests: dict[str, dict[Positions, bytes]] = {section: {} for section in SECTIONS}
        self._parsed: dict[str, dict[Positions, tuple[Any, bytes]]] = {section: {} for section in SECTIONS}
        self._head = {key: value for key, value in self._inherited.items() if key not in SECTIONS}
        self._head_digest = _digest(self._head)

    def digest(self, positions: Positions) -> bytes:
        """The digest of the complete scenario, remembered by section until `forget`."""
        return self._whole([self._section_digest(section, positions) for section in SECTIONS])

    def make(self, positions: Positions) -> Made:
        """The scenario, checked; raises ScenarioError for what only the whole shows to be wrong."""
        sections = {section: self._section(section, positions) for section in SECTIONS}
        scenario = Scenario(**{key: value for key, (value, _) in sections.items()}, **self._head)
        refused = ""
        try:
            check_scenario(scenario)
        except RefusedScenario as found:
            refused = found.reason
        except ScenarioError:
            self._explain(positions)
        digests = [digest for _, digest in sections.values()]
        return Made(scenario, refused, self._whole(digests), sections["node"][1])

    def forget(self) -> None:
        """Drop the digests that were remembered."""
        for known in self._digests.values():
            known.clear()

    def _whole(self, digests: list[bytes]) -> bytes:
        return sha256(b"".join((self._head_digest, *digests))).digest()

    def _section_digest(self, section: str, positions: Positions) -> bytes:
        known, key = self._digests[section], self._key(section, positions)
        found = known.get(key)
        if found is None:
            found = known[key] = self._section(section, positions)[1]
        return found

    def _key(self, section: str, positions: Positions) -> Positions:
        return tuple([positions[i] for i in self._setting[section]])

    def _section(self, section: str, positions: Positions) -> tuple[Any, bytes]:
        """A section's value and digest."""
        known, key = self._parsed[section], self._key(section, positions)
        found = known.get(key)
        if found is None:
            if len(known) >= KEPT:
                known.clear()
            value = self._parse(section, positions)
            found = known[key] = (value, _digest(value))
        return found

    def _parse(self, section: str, positions: Positions) -> Any:
        document = {key: self._base[key] for key in (section,) if key in self._base}
        for i in self._setting[section]:
            overrides = self._axes[i].point(positions[i]).overrides
            if section in overrides:
                document = overlay(document, {section: overrides[section]})
        try:
            if section in document:
                return parse_section(document[section], section, self._inherited.get(section), self._path)
            if section in self._inherited:
                return msgspec.convert(self._inherited[section], section_kinds()[section])
        except (ScenarioError, msgspec.ValidationError):
            self._explain(positions)
        return Simulation() if section == "simulation" else self._explain(positions)

    def _explain(self, positions: Positions) -> Any:
        """Raise the error of a whole scenario file, which names file, key and value."""
        points = (axis.point(at).overrides for axis, at in zip(self._axes, positions, strict=True))
        raw = reduce(overlay, points, self._base)
        with suppress(RefusedScenario):
            parse_scenario(raw, self._path)
        raise AssertionError(f"a section of {self._path} that is wrong only alone")


def _digest(value: object) -> bytes:
    return sha256(msgspec.json.encode(value, order="sorted")).digest()
