"""What a grid may vary: ranges, draws, axes with conditions; and that its scenarios are those of scenario files."""

import tomllib
from functools import reduce
from pathlib import Path

import pytest

from offsim.program.load import parse_scenario
from offsim.scenario.faults import ScenarioError
from offsim.scenario.scenario import RefusedScenario
from offsim.sweep.grid import Grid, load_grid, parse_grid
from offsim.sweep.overlay import overlay
from offsim.sweep.panels import panels
from offsim.sweep.row import result_of

BASE = """
name = "small"
SAMPLE

[scenario]
model = "wan2.1-t2v-1.3b"
node = "h100-sxm-x8"
workload = { tokens = 512, steps = 2 }
policy = "resident"

[axes]
"""
POLICIES = 'policy = { key = "policy.name", values = ["sglang-layerwise", "full-model"] }\n'
PREFETCH = 'prefetch = { key = "policy.prefetch", values = [1, 2], when = { "policy.name" = "sglang-layerwise" } }\n'
DRAWN = 'tokens = { key = "workload.tokens", from = 100, to = 900 }\n'
SOBOL = 'sample = { kind = "sobol", count = 8, seed = 3 }'


def grid_of(axes: str, sample: str = "") -> Grid:
    return parse_grid(tomllib.loads(BASE.replace("SAMPLE", sample) + axes), Path("small.toml"))


def labels(grid: Grid) -> list[tuple[str, ...]]:
    return [combination.labels for combination in grid.combinations]


def ranged(key: str, rest: str) -> list[str]:
    return [label for (label,) in labels(grid_of(f'it = {{ key = "{key}", {rest} }}'))]


@pytest.mark.parametrize(
    ("key", "rest", "expected"),
    [
        ("workload.gpus", "from = 1, to = 4, step = 1", "1 2 3 4"),
        ("workload.tokens", "from = 100, to = 250, step = 100", "100 200"),
        ("workload.compute_efficiency", "from = 0.1, to = 0.4, step = 0.1", "0.1 0.2 0.3 0.4"),
        ("workload.compute_efficiency", "from = 1, to = 2, step = 0.5", "1.0 1.5 2.0"),
        (
            "workload.compute_efficiency",
            "from = 0.0625, to = 16.0, count = 5, scale = 'log'",
            "0.0625 0.25 1.0 4.0 16.0",
        ),
        ("workload.tokens", "from = 1, to = 64, count = 4, scale = 'log'", "1 4 16 64"),
        ("workload.tokens", "from = 10, to = 40, count = 4", "10 20 30 40"),
    ],
)
def test_a_range_has_both_ends_and_integers_stay_integers(key, rest, expected):
    assert ranged(key, rest) == expected.split()


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("from = 4, to = 4, step = 1", "axes.it.to=4: expected more than from = 4"),
        ("from = 1, to = 4", "axes.it: needs step or count"),
        ("from = 1, step = 1", "axes.it.to: missing"),
        ("from = 1, to = 4, step = 0", "axes.it.step=0"),
        ("from = 1, to = 4, count = 1", "axes.it.count=1"),
        ("from = 1, to = 4, count = 9", "axes.it.count=9: makes 1 twice"),
        ("from = 1, to = 4, step = 1, count = 4", "axes.it.count: give either step, or count and scale"),
        ("from = 0, to = 4, count = 3, scale = 'log'", "axes.it.from=0: a range with scale = 'log' begins above 0"),
        ("from = 1, to = 4, count = 4, scale = 'cubic'", "axes.it.scale='cubic'"),
        ("from = 1, to = 4, count = 4, values = [1]", "axes.it.values: unknown key"),
        ("from = 1, to = 1000000000, step = 1", "makes 1,000,000,000 values; at most 100,000"),
        ("from = 0, to = 1e30, step = 1e-300", "axes.it.step=1e-300: makes 1,000,000,000"),
        ("from = 1, to = inf, step = 1", "axes.it.to=inf"),
        ('values = ["\\u001b[31m"]', "axes.it.values[0]='\\x1b[31m': expected text on one line"),
        (f'values = ["{"x" * 101}"]', "expected text on one line, at most 100 characters"),
        ("values = [1], when = 3", "axes.it.when=3: expected a table"),
        ("values = [1], when = { 'policy.version' = 'v1' }", "nothing sets policy.version"),
        ("values = [1], when = { 'workload.gpus' = 1 }", "workload.gpus is set by axes.it, which must come before"),
    ],
)
def test_a_wrong_axis_is_an_error_that_names_file_and_key(rest, said):
    with pytest.raises(ScenarioError) as caught:
        grid_of(f'it = {{ key = "workload.gpus", {rest} }}')
    assert said in str(caught.value)
    assert str(caught.value).startswith("small.toml: axes.it")


def test_axes_and_conditions_are_bounded():
    def axis(name, point, count):
        points = "".join(f"{{ label = '{i}', {point.format(i)} }}, " for i in range(count))
        return f"{name} = [{points}]\n"

    with pytest.raises(ScenarioError, match=r"axes: 33 axes; at most 32"):
        grid_of("".join(axis(f"a{i}", "policy = 'fsdp'", 1) for i in range(33)))
    conditions = "policy = 'fsdp', when = {{ 'workload.gpus' = {} }}"
    with pytest.raises(ScenarioError, match=r"axes: 302 different conditions; at most 300"):
        grid_of(axis("a", conditions, 151) + axis("b", conditions, 151))


def test_an_axis_with_a_condition_stands_on_one_empty_point_elsewhere():
    found = [("sglang-layerwise", "1"), ("sglang-layerwise", "2"), ("full-model", "-")]
    assert labels(grid_of(POLICIES + PREFETCH)) == found


def test_a_point_with_a_condition_is_absent_elsewhere():
    deep = '[[axes.how]]\nlabel = "deep"\npolicy = { prefetch = 4 }\nwhen = { policy = "sglang-layerwise" }\n'
    plain = '[[axes.how]]\nlabel = "plain"\n'
    found = [("sglang-layerwise", "deep"), ("sglang-layerwise", "plain"), ("full-model", "plain")]
    assert labels(grid_of(POLICIES + deep + plain)) == found


def test_one_key_may_be_set_by_two_axes_that_exclude_each_other():
    other = PREFETCH.replace("prefetch =", "fsdp_prefetch =", 1).replace('"sglang-layerwise" }', '"fsdp" }')
    grid = grid_of(POLICIES.replace("full-model", "fsdp") + PREFETCH + other)
    assert labels(grid)[1:3] == [("sglang-layerwise", "2", "-"), ("fsdp", "-", "1")]
    with pytest.raises(ScenarioError, match=r"policy\.prefetch is set by axes\.prefetch too"):
        grid_of(POLICIES + PREFETCH + PREFETCH.replace("prefetch =", "again =", 1))


def test_an_axis_that_does_not_apply_has_no_part_in_the_answer():
    grid = grid_of(POLICIES + PREFETCH)
    (panel,) = panels(grid.axes, [result_of(combination).row for combination in grid.combinations])
    assert list(panel.lines[0].entries) == ["sglang-layerwise 1", "sglang-layerwise 2", "full-model"]


@pytest.mark.parametrize("kind", ["random", "sobol"])
def test_every_policy_is_asked_the_same_draws_and_a_seed_repeats_them(kind):
    sample = SOBOL.replace("sobol", kind)
    found = labels(grid_of(POLICIES + DRAWN, sample))
    drawn = {name: [tokens for policy, tokens in found if policy == name] for name, _ in found}
    assert drawn["sglang-layerwise"] == drawn["full-model"]
    assert len(drawn["full-model"]) == 8
    assert all(100 <= int(tokens) <= 900 for tokens in drawn["full-model"])
    assert labels(grid_of(POLICIES + DRAWN, sample)) == found
    assert labels(grid_of(POLICIES + DRAWN, sample.replace("seed = 3", "seed = 4"))) != found


def test_sobol_draws_fall_into_every_eighth_of_the_range():
    tokens = sorted(int(label) for (label,) in labels(grid_of(DRAWN, SOBOL)))
    assert [(number - 100) * 8 // 801 for number in tokens] == list(range(8))


def test_ranges_are_drawn_together_and_not_crossed():
    efficiency = 'efficiency = { key = "workload.compute_efficiency", from = 0.5, to = 1.0, scale = "log" }\n'
    found = labels(grid_of(DRAWN + efficiency, SOBOL))
    assert len(found) == len(set(found)) == 8
    assert all(0.5 <= float(share) <= 1 and len(share) <= 8 for _, share in found)


def test_draws_that_coincide_are_one_combination():
    gpus = 'gpus = { key = "workload.steps", from = 1, to = 2 }\n'
    assert sorted(labels(grid_of(gpus, SOBOL))) == [("1",), ("2",)]
    apart = DRAWN.replace("}", 'when = { policy = "fsdp" } }').replace("900 ", "900, ")
    assert len(labels(grid_of(POLICIES.replace("full-model", "fsdp") + apart, SOBOL))) == 1 + 8


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("sample = 3", "sample=3"),
        (SOBOL.replace("sobol", "halton"), "sample.kind='halton'"),
        (SOBOL.replace("8", "0"), "sample.count=0"),
        (SOBOL.replace(", seed = 3", ""), "sample.seed: missing"),
        (SOBOL.replace("seed", "sed"), "sample.sed: unknown key"),
    ],
)
def test_a_wrong_sample_is_an_error_that_names_file_and_key(sample, said):
    with pytest.raises(ScenarioError) as caught:
        grid_of(DRAWN, sample)
    assert str(caught.value).startswith(f"small.toml: {said}")


def test_a_sample_without_a_range_to_draw_from_is_an_error():
    with pytest.raises(ScenarioError, match="nothing to draw"):
        grid_of(POLICIES, SOBOL)


def test_scenarios_put_together_from_sections_are_those_of_a_scenario_file():
    grid = load_grid("seeds")
    base = tomllib.loads(grid.source.decode())["scenario"]
    for number, combination in enumerate(grid.combinations):
        points = zip(grid.axes, grid.combinations.positions(number), strict=True)
        document = reduce(overlay, (axis.point(at).overrides for axis, at in points), base)
        try:
            whole, refused = parse_scenario(document, grid.path), ""
        except RefusedScenario as found:
            whole, refused = found.scenario, found.reason
        assert (combination.scenario, combination.refused) == (whole, refused)


def test_sections_of_an_extended_scenario_are_kept_or_overridden():
    axes = '[axes.steps]\nkey = "workload.steps"\nvalues = [2, 3]\n'
    text = f'name = "e"\n[scenario]\nextends = "wan2.2-4xh100-pcie-layerwise"\n{axes}'
    first, second = parse_grid(tomllib.loads(text), Path("e.toml")).combinations
    assert (first.scenario.workload.steps, second.scenario.workload.steps) == (2, 3)
    assert first.scenario.workload.gpus == 4
    assert first.scenario.policy is second.scenario.policy


def test_what_asks_the_same_has_one_hash_and_what_differs_anywhere_another():
    found = 'node = { key = "node.wiring.pcie.h2d_GBps", values = [50, 50.0, 51] }\n'
    first, same, other = grid_of(found).combinations
    assert (first.hash, first.node_fingerprint) == (same.hash, same.node_fingerprint)
    assert first.hash != other.hash and first.node_fingerprint != other.node_fingerprint
    assert list(grid_of(found).firsts) == [0, 0, 2]


def test_a_large_grid_holds_positions_and_not_scenarios():
    wide = 'a = { key = "workload.tokens", from = 1, to = 20000, step = 1 }\n'
    grid = grid_of(POLICIES + wide)
    assert len(grid.combinations) == 40_000
    assert grid.combinations[39_999].scenario.workload.tokens == 20_000
    assert max(map(len, grid.combinations._assembly._parsed.values())) <= 2000
