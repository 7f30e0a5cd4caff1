"""Reading and checking whole scenarios: `offsim.scenario.load` reads documents, policies' pages say the rest."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from offsim.scenario.documents import plain_document
from offsim.scenario.faults import Place, ScenarioError
from offsim.scenario.load import (
    MAPPING,
    SECTION_TYPES,
    SECTIONS,
    Kinds,
    convert,
    read_document,
    scenario_tables,
    section_table,
)
from offsim.scenario.scenario import RefusedScenario, Scenario, check_layout, refuse
from offsim.scenario.wording import file_name

from .pages import as_declared, decodable, page_of, policy_types

ScenarioSource = str | Path | Mapping[str, Any] | Scenario
"""What says which scenario is meant."""


def load_scenario(source: ScenarioSource) -> Scenario:
    """The scenario of a catalogue name, in a file or in a mapping that says what a file would; raises ScenarioError.

    It is complete and checked; one that is a Scenario already is checked. A mapping's `extends` is relative to the
    working directory.
    """
    if isinstance(source, Scenario):
        check_scenario(source)
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


def parse_scenario(raw: dict[str, Any], path: Path) -> Scenario:
    """The scenario of an already read TOML document; `path` names it in errors and anchors `extends`."""
    tables = scenario_tables(raw, path, section_kinds())
    missing = [key for key in ("model", "workload", "node", "policy") if key not in tables]
    if missing:
        raise Place(path, missing[0]).fault("missing; a scenario needs model, workload, node and policy")
    decoded: Scenario = convert(tables, decodable(Scenario), path)
    scenario = as_declared(decoded, Scenario)
    try:
        check_scenario(scenario)
    except RefusedScenario as refused:
        raise RefusedScenario(refused.reason, scenario, file_name(path)) from None
    except ScenarioError as error:
        raise Place(path).fault(str(error)) from None
    return scenario


@cache
def section_kinds() -> Kinds:
    """The type of every section of a scenario."""
    return {section: SECTION_TYPES.get(section, policy_types()) for section in SECTIONS}


def inherited_tables(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a scenario document says outside its sections, and the sections that it extends, in SI."""
    rest = {key: value for key, value in raw.items() if key not in SECTIONS}
    return scenario_tables(rest, path, section_kinds())


def parse_section(value: Any, section: str, inherited: Any, path: Path) -> Any:
    """One section of a scenario, typed: all of them together make what `parse_scenario` makes.

    `inherited` is the section of the scenario that this one extends, or None. Messages are poorer than
    `parse_scenario`'s: ask that for the one to show.
    """
    table = section_table(value, section, inherited, path, section_kinds())
    return convert(table, section_kinds()[section], path)


def check_scenario(scenario: Scenario) -> None:
    """Raise RefusedScenario where no real system would run it; ScenarioError where the engine cannot."""
    check_layout(scenario)
    refuse(page_of(scenario.policy).refusal(scenario, scenario.policy), scenario)
