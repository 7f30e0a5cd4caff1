"""config.json files of transformers, changed."""

import json
from copy import deepcopy
from random import Random
from typing import Any

from tests.attack.case import Case, File, Folder, Link, Pipe, chance, text
from tests.attack.pools import any_number, hostile_text
from tests.unit.test_diffusers_config import PUBLISHED

from .raw import damaged

DIGITS = (17, 400, 4000, 5000)
NAMES = ("_name_or_path", "_class_name")


def configs(random: Random) -> Case:
    """What from_diffusers_config is given."""
    if chance(random, 0.05):
        return _no_file(random)
    if chance(random, 0.2):
        return _surely_wrong(random)
    found = json.dumps(_changed(random)).replace('"@digits"', "9" * random.choice(DIGITS))
    content = text(found)
    if chance(random, 0.15):
        content = damaged(random, content.content)
    elif chance(random, 0.05):
        content = text(_constructed(random))
    return Case(("q7/config.json",), (("q7/config.json", content),), ("config.json",), entry="config")


def _surely_wrong(random: Random) -> Case:
    """A size that is none: the message names its key."""
    config: dict[str, Any] = deepcopy(random.choice(PUBLISHED)[1])
    key = random.choice([key for key, value in config.items() if type(value) is int])
    config[key] = random.choice(("40", -1, 0, 1.5, [1], {}, True, "\x1b[1m" * 1000, "x" * 10**5))
    files = (("q7/config.json", text(json.dumps(config))),)
    return Case(("q7/config.json",), files, ("config.json", key), entry="config")


def _changed(random: Random) -> Any:
    config: dict[str, Any] = deepcopy(random.choice(PUBLISHED)[1])
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        key = random.choice((*config, *NAMES)) if chance(random, 0.9) else hostile_text(random)[:100]
        if chance(random, 0.2):
            config.pop(key, None)
        else:
            config[key] = _value(random)
    return config


def _value(random: Random) -> Any:
    kind = random.randrange(6)
    if kind < 2:
        number = any_number(random)
        return "@digits" if isinstance(number, int) and abs(number) > 10**300 else number
    if kind == 2:
        return hostile_text(random)
    return random.choice((None, True, False, [], {}, [1, 2, 2], [1, 2], [1, "2", 3], [10**9] * 3, 10**9, 1, "@digits"))


def _constructed(random: Random) -> str:
    count = random.choice((10, 500, 5000, 200_000))
    return random.choice(
        (
            "[" * count + "]" * count,
            '{"a":' * count + "1" + "}" * count,
            '{"_class_name": "' + "x" * count + '"}',
            '{"_class_name": "WanTransformer3DModel", "num_layers": 1' + "0" * count + "}",
            "{" + ",".join(f'"k{i}": 1' for i in range(count)) + "}",
            '\ufeff{"_class_name": "WanTransformer3DModel"}',
            "NaN",
            "",
        )
    )


def _no_file(random: Random) -> Case:
    content = random.choice((Pipe(), Folder(), Link("q7-config.json"), Link("/dev/zero"), File(b"{", 3 * 10**9)))
    path = random.choice(("q7-config.json", "q7-config.json", "a\0q7-config.json", "q7-config.json" + "x" * 5000))
    return Case((path,), (("q7-config.json", content),), ("q7",), entry="config")
