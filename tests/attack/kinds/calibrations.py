"""What calibrations leave and comparisons read: samples, profiles, replays."""

import json
from functools import cache
from random import Random
from typing import Any

from calibration.validate.records import NODES
from tests.attack.case import Case, Content, File, chance, text
from tests.attack.documents import at, put, scenario
from tests.attack.pools import any_value
from tests.malformed.mutations import places, toml

from .edited import verb
from .raw import damaged

NODE = NODES / "h200-x1-a"
FEW = 3
"""Samples of each probe: a fit of all takes half a minute."""


def calibrations(random: Random) -> Case:
    """A damaged file of samples, profile or file of replays, and the command that reads it."""
    return random.choice((_fit, _fit, _profile, _validate))(random)


@cache
def _lines(name: str) -> tuple[str, ...]:
    return tuple((NODE / name).read_text(encoding="utf-8").splitlines())


@cache
def _few_samples() -> tuple[str, ...]:
    header, *samples = _lines("samples.jsonl")
    found: dict[str, list[str]] = {}
    for line in samples:
        found.setdefault(json.loads(line)["probe"], []).append(line)
    return (header, *(line for group in found.values() for line in group[:FEW]))


def _damaged_lines(random: Random, lines: list[str]) -> File:
    """Lines of JSON with values changed, lines lost or doubled, or bytes damaged."""
    for _ in range(random.choice((0, 1, 1, 3))):
        number = random.randrange(len(lines)) if chance(random, 0.7) else 0
        if chance(random, 0.2):
            lines[number : number + 1] = random.choice(([], [lines[number]] * 2, [""], ["[]"], ["null"], ["{}"]))
        else:
            lines[number] = _changed(random, lines[number])
        if not lines:
            break
    content = "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")
    return damaged(random, content) if chance(random, 0.2) else File(content)


def _changed(random: Random, line: str) -> str:
    try:
        record = json.loads(line)
    except ValueError:
        return line
    found = [steps for steps, _ in places(record) if steps]
    if not found:
        return line
    steps = random.choice(found)
    if chance(random, 0.2):
        del at(record, steps[:-1])[steps[-1]]
    else:
        put(record, steps, random.choice((None, 0, 0.0, -1.0, 1e308, [], {}, "x", _plain(any_value(random)))))
    return json.dumps(record)


def _plain(value: Any) -> Any:
    """Of what TOML can say what JSON can, too."""
    return value if isinstance(value, int | float | str | bool) and not _is_huge(value) else None


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > 10**300


def _fit(random: Random) -> Case:
    samples = _damaged_lines(random, list(_few_samples()))
    return Case(("node",), (("node/samples.jsonl", samples),), ("samples",), ("node",), entry="fit")


def _profile(random: Random) -> Case:
    """A calibrated profile that a scenario names."""
    whole = scenario("flux.1-dev-rtx4090-layerwise")
    whole["node"] = "profile.toml"
    profile = damaged(random, (NODE / "profile.toml").read_bytes())
    files: tuple[tuple[str, Content], ...] = (("case.toml", text(toml(whole))), ("profile.toml", profile))
    return Case(verb(random), files, (".toml",))


def _validate(random: Random) -> Case:
    replays = _damaged_lines(random, list(_lines("replays.jsonl")[:1]))
    profile = File((NODE / "profile.toml").read_bytes())
    if chance(random, 0.2):
        profile = damaged(random, profile.content)
    files: tuple[tuple[str, Content], ...] = (("nodes/a/profile.toml", profile), ("nodes/a/replays.jsonl", replays))
    if chance(random, 0.1):
        files = (*files, ("nodes/b/profile-of.txt", text(random.choice(("a", "b", "c", "../..", "\0", "")))))
    return Case(("nodes",), files, ("nodes",), entry="validate")
