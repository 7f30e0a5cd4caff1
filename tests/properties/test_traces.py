"""Traces of random scenarios against the checker of tests/oracles/traces, which knows nothing of the engine.

It runs over many more by a command of its own: see there.
"""

import tomllib

import pytest

from offsim.program.load import parse_scenario
from tests.oracles.traces.run import check
from tests.oracles.traces.toml import as_toml
from tests.scenario_strategies import drawn_scenario

SEEDS = range(1, 26)


@pytest.mark.parametrize("seed", SEEDS)
def test_traces_hold_and_what_is_left_out_changes_none_of_them(seed):
    scenario = drawn_scenario(seed)
    assert check(scenario).wrong == [], as_toml(scenario)


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_a_scenario_is_written_as_the_file_that_says_it(seed, tmp_path):
    scenario = drawn_scenario(seed)
    text = as_toml(scenario)
    again = parse_scenario(tomllib.loads(text), tmp_path / "scenario.toml")
    assert numbers(as_toml(again)) == pytest.approx(numbers(text), rel=1e-12)
    assert again.policy == scenario.policy


def numbers(text):
    """All numbers of a document."""
    values, found = [tomllib.loads(text)], []
    while values:
        value = values.pop()
        if isinstance(value, int | float):
            found.append(value)
        elif isinstance(value, dict | list):
            values += value.values() if isinstance(value, dict) else value
    return found
