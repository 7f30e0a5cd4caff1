"""Numbers on the command line: read as strictly as those in files, with the same words where they are wrong."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token
from msgspec import Meta

from offsim.scenario.allowed import allowed_words, check
from offsim.scenario.faults import Place

INTEGER = re.compile(r"[+-]?[0-9]{1,300}")


def number(allowed: Any) -> Parameter:
    """How cyclopts reads a number that is `allowed`; anything else raises ScenarioError."""

    def read(_: Any, tokens: Sequence[Token]) -> float:
        place = Place(None, tokens[0].keyword or "")
        value = _number(tokens[0].value)
        if value is None:
            raise place.fault(f"expected {allowed_words(allowed)}", tokens[0].value)
        check(value, allowed, place)
        return value

    return Parameter(converter=read)


def _number(text: str) -> float | None:
    if INTEGER.fullmatch(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return None


WorkerCount = Annotated[int, number(Annotated[int, Meta(ge=1, le=1024)])]
Gibibytes = Annotated[float, number(Annotated[float, Meta(gt=0, le=10_000)])]
Patience = Annotated[float, number(Annotated[float, Meta(gt=0, le=86_400)])]
"""Seconds that something may show nothing."""
