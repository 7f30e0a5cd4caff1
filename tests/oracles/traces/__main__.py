"""Checks the traces of random scenarios: python -m tests.oracles.traces --count 500 --seed 1"""

import argparse
import sys
from collections.abc import Iterator

from offsim.scenario.scenario import Scenario
from tests.options import all_options, drawn_options
from tests.scenario_strategies import drawn_scenario

from .run import Outcome, check
from .toml import as_toml


def main() -> int:
    """Checks so many scenarios from a seed on; 1 if anything was wrong with any."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracles.traces", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="how many scenarios")
    parser.add_argument("--seed", type=int, default=1, help="of the first; each has the next one")
    asked = parser.parse_args()
    scenarios, outcomes = [], []
    for seed in range(asked.seed, asked.seed + asked.count):
        scenario = drawn_scenario(seed)
        outcome = checked(scenario)
        if outcome.wrong:
            print(
                "\n".join([f"seed {seed}:", *map("  {:.600}".format, outcome.wrong[:8]), as_toml(scenario)]), flush=True
            )
        scenarios.append(scenario)
        outcomes.append(outcome)
    print("\n".join(summary(scenarios, outcomes)))
    return int(any(outcome.wrong for outcome in outcomes))


def checked(scenario: Scenario) -> Outcome:
    """What is wrong with a scenario's traces; an error, where it breaks off."""
    try:
        return check(scenario)
    except Exception as error:
        return Outcome([f"raises {error!r}"], 0.0, 0)


def summary(scenarios: list[Scenario], outcomes: list[Outcome]) -> Iterator[str]:
    """What was looked at."""
    drawn, known = drawn_options(scenarios), all_options()
    yield f"{len(scenarios)} scenarios, {sum(bool(outcome.wrong) for outcome in outcomes)} with something wrong"
    yield f"{len(drawn)} of {len(known)} values of options drawn"
    yield f"{sum(outcome.left_out for outcome in outcomes)} traces left something out"
    yield f"largest relative difference from a trace that does not: {max(outcome.largest for outcome in outcomes):.1e}"


if __name__ == "__main__":
    sys.exit(main())
