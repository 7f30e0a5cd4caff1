"""Documents that people write (scenarios, models, nodes, grids, published configs), read within bounds.

A document that is no mistake is small and shallow, so what would take long to parse is refused before, and what
nothing else could walk after. One answer for all of them: ScenarioError, in one line.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from .faults import Place, reason
from .files import read_within
from .wording import cut

MOST_BYTES = 300_000
"""The largest profile has 21 kB, and a grid that lists 10,000 numbers of 17 digits 200 kB. The worst file of this size
takes 1.5 s and 140 MB."""
DEEPEST = 12
"""Tables and arrays within each other: a grid has 10 above the numbers of a node's curve, a scenario 7."""
MOST_DIGITS = 300
"""Digits of a JSON integer; longer ones become infinite."""
LONGEST_PARSER_MESSAGE = 120

# What may hold dots that separate no keys. Where a document breaks off within one, tomllib does so too.
TEXT_OR_COMMENT = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"{3,5}|\Z)'
    r"|'''(?:[^']++|'(?!''))*+(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]++|\\.)*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+",
    re.S,
)
DOTTED = re.compile(rf"(?<![\w-])[\w-]++(?:[ \t]*+\.[ \t]*+[\w-]++){{{DEEPEST}}}")
TOO_MANY_DIGITS = re.compile(r"[\d_]{4301}")


def read_toml(path: Path) -> dict[str, Any]:
    """The TOML document in a file; raises ScenarioError."""
    place = Place(path)
    text = _text(path)
    # tomllib takes time and memory with the square of the dots in a key.
    if DOTTED.search(TEXT_OR_COMMENT.sub("_", text)):
        raise place.fault(f"a key of more than {DEEPEST} parts; expected at most so many")
    document: dict[str, Any] = _parsed(tomllib.loads, text, "TOML", place)
    return document


def read_json(path: Path) -> Any:
    """The JSON document in a file; raises ScenarioError."""
    return _parsed(partial(json.loads, parse_int=_integer), _text(path), "JSON", Place(path))


def plain_document(content: Mapping[Any, Any], place: Place) -> dict[str, Any]:
    """What a file would be read as that says what a mapping says; raises ScenarioError for what no file can say.

    Numbers may be of any kind that counts as one, as numpy's do.
    """
    return {_key(key, place): _plain(value, place.child(str(key)), DEEPEST - 1) for key, value in content.items()}


def _plain(value: Any, place: Place, deeper: int) -> Any:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if not isinstance(value, Mapping | list | tuple):
        raise place.fault("expected text, a number, a truth value, an array or a table", value)
    if not deeper:
        raise place.fault(f"nested too deeply; expected at most {DEEPEST} tables and arrays within each other")
    if isinstance(value, Mapping):
        return {_key(key, place): _plain(entry, place.child(str(key)), deeper - 1) for key, entry in value.items()}
    return [_plain(entry, place.item(i), deeper - 1) for i, entry in enumerate(value)]


def _key(key: Any, place: Place) -> str:
    if not isinstance(key, str):
        raise place.fault("keys are text", key)
    return key


def toml_text(document: dict[str, Any]) -> str:
    """A document as TOML, a line for each of its keys.

    >>> print(toml_text({"policy": {"name": "fsdp", "prefetch": 2}, "values": [0.5, True]}), end="")
    "policy" = {"name" = "fsdp", "prefetch" = 2}
    "values" = [0.5, true]
    """
    return "".join(f"{_inline(key)} = {_inline(value)}\n" for key, value in document.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(key)} = {_inline(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _integer(digits: str) -> float:
    """One that is too long for anything becomes infinite, so that the key that has it is named."""
    return int(digits) if len(digits) < MOST_DIGITS else float(digits)


def _text(path: Path) -> str:
    try:
        return read_within(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Place(path).fault("not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise Place(path).fault(reason(error)) from None


def _parsed(parse: Callable[[str], Any], text: str, kind: str, place: Place) -> Any:
    too_deep = f"nested too deeply; expected at most {DEEPEST} tables and arrays within each other"
    try:
        document = parse(text)
    except RecursionError:
        raise place.fault(too_deep) from None
    except ValueError as error:
        raise place.fault(_no_document(error, text, kind)) from None
    if _is_deeper(document, DEEPEST):
        raise place.fault(too_deep)
    return document


def _no_document(error: ValueError, text: str, kind: str) -> str:
    """Why a text cannot be parsed: its syntax, or an integer that Python makes none of."""
    number = TOO_MANY_DIGITS.search(text)
    if number and not isinstance(error, tomllib.TOMLDecodeError | json.JSONDecodeError):
        return f"not {kind}: a number of thousands of digits in line {text.count(chr(10), 0, number.start()) + 1}"
    return f"not {kind}: {cut(reason(error), LONGEST_PARSER_MESSAGE)}"


def _is_deeper(document: Any, most: int) -> bool:
    """Whether there are containers on more than so many levels; walked level by level, since depth may be the fault."""
    level = [document]
    for _ in range(most):
        inner = [entry for container in level for entry in _entries(container)]
        level = [entry for entry in inner if isinstance(entry, dict | list)]
    return bool(level)


def _entries(container: Any) -> Any:
    return container.values() if isinstance(container, dict) else container if isinstance(container, list) else ()
