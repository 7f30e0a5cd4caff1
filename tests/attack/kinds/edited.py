"""Good documents with some places changed: types, ranges, keys, texts."""

import datetime
from random import Random

from offsim.scenario import catalogue
from tests.attack.case import Case, chance, text
from tests.attack.documents import SCENARIOS, at, entry, put, scenario
from tests.attack.pools import any_key, any_value, hostile_text
from tests.malformed.mutations import Steps, Table, places, toml

FREE = ("title", "notes", "source", "condition", "checkpoint", "fingerprint")
"""Fields that take any text."""


def verb(random: Random, file: str = "case.toml") -> tuple[str, ...]:
    """A command that reads a scenario."""
    lines = (("run", file), ("run", file, "--json"), ("program", file), ("program", file, "--check"))
    if chance(random, 0.02):
        return ("best", file, *(("--json",) if chance(random, 0.5) else ()))
    return random.choice((*lines[:2], *lines))


def edited(random: Random) -> Case:
    """A scenario with one to four changes; the message names the file, and the key of a change that is surely wrong."""
    document = scenario(random.choice(SCENARIOS))
    if chance(random, 0.2):
        key = surely_wrong(random, document)
        return Case(verb(random), (("case.toml", text(toml(document))),), ("case.toml", key))
    for _ in range(random.choice((1, 1, 2, 3, 4))):
        change(random, document)
    return Case(verb(random), (("case.toml", text(toml(document))),), ("case.toml",))


def surely_wrong(random: Random, document: Table) -> str:
    """Put something where it cannot be; returns the key to name."""
    steps = _place(random, document)
    if isinstance(at(document, steps), dict) and steps[-1] not in ("attention", "extra"):
        put(document, (*steps, "nonsense_key"), 1)
        return "nonsense_key"
    put(document, steps, datetime.date(2026, 1, 31))
    return str(next(step for step in reversed(steps) if isinstance(step, str)))


def _place(random: Random, document: Table) -> Steps:
    return random.choice([steps for steps, _ in places(document) if steps])


def change(random: Random, document: Table) -> None:
    """One change at a random place."""
    found = [steps for steps, _ in places(document) if steps]
    if not found:
        return
    steps = random.choice(found)
    action = random.choice((_replace, _replace, _replace, _remove, _rename, _add, _swap, _wrap))
    action(random, document, steps)


def _replace(random: Random, document: Table, steps: Steps) -> None:
    put(document, steps, any_value(random))


def _remove(random: Random, document: Table, steps: Steps) -> None:
    del at(document, steps[:-1])[steps[-1]]


def _rename(random: Random, document: Table, steps: Steps) -> None:
    table = at(document, steps[:-1])
    if isinstance(table, dict):
        key = any_key(random) if chance(random, 0.5) else f"{str(steps[-1]).rpartition('_')[0]}_GBps"
        table[key] = table.pop(steps[-1])


def _add(random: Random, document: Table, steps: Steps) -> None:
    table = at(document, steps[:-1])
    if isinstance(table, dict):
        table[any_key(random)] = any_value(random)


def _swap(random: Random, document: Table, steps: Steps) -> None:
    """What stands elsewhere stands here too."""
    other = _place(random, document)
    if other[: len(steps)] != steps and steps[: len(other)] != other:
        put(document, steps, at(document, other))


def _wrap(random: Random, document: Table, steps: Steps) -> None:
    value = at(document, steps)
    put(document, steps, [value] if chance(random, 0.5) else {"value": value})


def texts(random: Random) -> Case:
    """A scenario that is good but for what its texts contain."""
    document = scenario()
    fields = [steps for steps, value in places(document) if isinstance(value, str) and _is_free(steps)]
    for steps in random.sample(fields, random.randint(1, 5)):
        put(document, steps, hostile_text(random))
    if chance(random, 0.3):
        attention = document["node"]["gpu"]["attention"]
        attention[hostile_text(random)] = attention["default"]
        if chance(random, 0.5):
            document["workload"]["attention_backend"] = list(attention)[-1]
    command = verb(random)
    traced = command[0] == "run" and chance(random, 0.3)
    return Case(
        (*command, "--trace", "trace.json") if traced else command,
        (("case.toml", text(toml(document))),),
        ("case.toml",),
        ("trace.json",) if traced else (),
    )


def _is_free(steps: Steps) -> bool:
    """Whether a text says something to readers only; names of blocks, components and GPUs too."""
    return steps[-1] in FREE or (steps[-1] == "name" and len(steps) > 2)


def entries(random: Random) -> Case:
    """A model or node file with changes, that a scenario names or extends."""
    section, kind = random.choice((("model", "models"), ("node", "nodes")))
    document = entry(kind, random.choice(sorted(catalogue.names(kind))))
    for _ in range(random.choice((1, 1, 2, 3))):
        change(random, document)
    whole = scenario(random.choice(("tiny", "flux.1-dev-rtx4090-layerwise")))
    whole[section] = random.choice(("entry.toml", {"extends": "entry.toml"}, "sub/../entry.toml"))
    files = (("case.toml", text(toml(whole))), ("entry.toml", text(toml(document))), ("sub/x", text("")))
    return Case(verb(random), files, (".toml",))
