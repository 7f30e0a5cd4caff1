"""A good scenario made bad in one place: every value, table and key of `parts/good.toml`, by rule."""

import datetime
import tomllib
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

Table = dict[str, Any]
Steps = tuple[str | int, ...]

FOLDER = Path(__file__).parent
GOOD = FOLDER / "parts" / "good.toml"
UNITS = ("GBps", "TFLOPS", "GiB", "GB", "us", "ms", "s")
OTHER_UNIT = {"GBps": "MBps", "TFLOPS": "GFLOPS", "GiB": "MB", "GB": "MiB", "us": "ms", "ms": "s", "s": "us"}
PLAIN = ("steady_state", "token_sharding", "tensors", "gpus", "notes")
"""Keys that end like a unit but have none."""

TABLES = {"model", "workload", "node", "policy"}


def _set_of(names: str) -> set[str]:
    return set(names.split())


REQUIRED_IN_MODEL = _set_of(
    "name title blocks other_parameters parameters count architecture hidden heads head_dim ffn"
)
OPTIONAL_IN_NODE = _set_of(
    "notes fingerprint condition interval switches nvlink collectives interference gemm collective cross_socket_GBps "
    "default pinned_rounding relayout_bandwidth_GBps queue_depth weight_growth"
)
FREE_TEXT = _set_of("checkpoint notes fingerprint condition")
ENUMERATIONS = _set_of(
    "guidance architecture dtype cfg token_sharding all_to_all_calls weight_dtype step_end version residency "
    "text_encoder vae collective_form provenance pinned_rounding transport weight_growth victim aggressor"
)
MAY_BE_ZERO = _set_of(
    "other_parameters text_tokens boundary_ratio workspace_per_pixel parameters prefetch resident_layers "
    "collective interval compile_s communicator_start_ms hook_cost_us context_GiB latency_us launch_us copy_us "
    "event_us collective_us allocation_us synchronize_us"
)


class Malformed(NamedTuple):
    """A bad document and what its error must name."""

    rule: str
    document: Table
    key: str
    expects: tuple[str, ...] = ()


def good() -> Table:
    """The good document, a fresh copy each time."""
    return tomllib.loads(GOOD.read_text())


def mutations() -> Iterator[Malformed]:
    """Every bad document."""
    for steps, value in places(good()):
        if isinstance(value, dict):
            yield from _bad_tables(steps, value)
        elif isinstance(value, list):
            yield from _bad_arrays(steps, value)
        elif isinstance(value, bool):
            yield from _replaced(steps, {"text for true or false": "true", "a number for true or false": 1})
        elif isinstance(value, str):
            yield from _bad_texts(steps)
        else:
            yield from _bad_numbers(steps, value)
        if steps and steps != ("schema",):
            yield from _replaced(steps, {"a date for something else": datetime.date(2026, 1, 31)})


def places(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Everything in a document, with the keys and indices that lead there."""
    yield steps, value
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, entry in entries:
        yield from places(entry, (*steps, step))


def _name(steps: Steps) -> str:
    """A place as messages write it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


def _key(steps: Steps) -> str:
    """The key that the error must name: the array's, for an entry that is no table."""
    named = max((i for i, step in enumerate(steps) if isinstance(step, str)), default=-1)
    return _name(steps[: named + 1])


def _changed(steps: Steps, change: Callable[[Any, Any], None]) -> Table:
    """The good document after `change(container, last step)`."""
    document = deepcopy(good())
    container: Any = document
    for step in steps[:-1]:
        container = container[step]
    change(container, steps[-1])
    return document


def _set(value: Any) -> Callable[[Any, Any], None]:
    def change(container: Any, step: Any) -> None:
        container[step] = value

    return change


def _replaced(steps: Steps, values: dict[str, Any]) -> Iterator[Malformed]:
    for rule, value in values.items():
        yield Malformed(rule, _changed(steps, _set(value)), _key(steps), ("=",))


def _bad_tables(steps: Steps, table: Table) -> Iterator[Malformed]:
    if steps != ("node", "gpu", "attention"):
        at = _name((*steps, "nonsense"))
        yield Malformed("an unknown key", _changed((*steps, "nonsense"), _set(1)), at, ("unknown key", "allowed are"))
    if steps:
        yield from _replaced(steps, {"an array for a table": [1, 2], "true for a table": True})
        if "value" not in table and "points" not in table:
            yield from _replaced(steps, {"a number for a table": 7})
        if steps not in (("model",), ("node",), ("policy",)):
            yield from _replaced(steps, {"text for a table": "text"})
    for key in table:
        if _required((*steps, key)):
            removed = _changed((*steps, key), lambda container, step: container.pop(step))
            yield Malformed("a missing key", removed, _name((*steps, key.removesuffix("_GB"))), ("missing",))
        yield from _bad_units((*steps, key), table[key])


def _required(steps: Steps) -> bool:
    """Whether a key must be there: nearly all of a node, the shape of a block, the origin of a quantity."""
    if len(steps) == 1:
        return steps[0] in TABLES
    if steps[0] == "model":
        return steps[-1] in REQUIRED_IN_MODEL or steps == ("model", "source")
    # A node without a name is called by its GPUs.
    named = steps in (("node", "name"), ("node", "title"))
    return steps[0] == "node" and steps[-1] not in OPTIONAL_IN_NODE and not named


def _bad_units(steps: Steps, value: Any) -> Iterator[Malformed]:
    """A key with no unit, with one that isn't any, with two."""
    key, table = str(steps[-1]), steps[:-1]
    field, _, unit = key.rpartition("_")
    if unit not in UNITS or key in PLAIN or not field:
        return
    for rule, wrong in {"no unit": field, "an unknown unit": f"{field}_furlongs"}.items():

        def rename(container: Any, step: Any, wrong: str = wrong) -> None:
            container[wrong] = container.pop(step)

        yield Malformed(rule, _changed(steps, rename), _name((*table, key if field == "points" else wrong)), (key,))
    other = f"{field}_{OTHER_UNIT[unit]}"
    both = _changed((*table, other), _set(deepcopy(value)))
    yield Malformed("two units", both, _name((*table, other)), ("given twice",))


def _bad_arrays(steps: Steps, array: list[Any]) -> Iterator[Malformed]:
    others = {"text for an array": "text", "a number for an array": 7, "a table for an array": {"x": 1}}
    yield from _replaced(steps, others)
    if steps not in (("node", "wiring", "switches"),):
        yield from _replaced(steps, {"an empty array": []})
    if not isinstance(array[0], dict):
        yield from _replaced(steps, {"text in an array": ["text", *array[1:]]})


def _bad_texts(steps: Steps) -> Iterator[Malformed]:
    yield from _replaced(steps, {"a number for text": 7, "true for text": True, "an array for text": ["text"]})
    yield from _replaced(steps, {"a table for text": {"x": 1}})
    if steps[-1] in ENUMERATIONS:
        document = _changed(steps, _set("nonsense"))
        yield Malformed("an unknown choice", document, _key(steps), ("='nonsense'", "allowed are"))
    elif steps[-1] not in FREE_TEXT and steps != ("title",) and steps[-2:] != ("text_encoder", "source"):
        yield from _replaced(steps, {"an empty text": ""})


def _bad_numbers(steps: Steps, value: float) -> Iterator[Malformed]:
    key = steps[-1] if isinstance(steps[-1], str) else str(steps[-2])
    yield from _replaced(steps, {"text for a number": "text", "a quoted number": str(value), "true for a number": True})
    yield from _replaced(steps, {"an array for a number": [value], "a huge integer": 10**400, "a huge number": 1e40})
    yield from _replaced(steps, {"not a number": float("nan"), "infinity": float("inf")})
    if key != "interval":
        yield from _replaced(steps, {"a negative number": -value or -1, "minus infinity": float("-inf")})
    if (
        key not in MAY_BE_ZERO
        and not (isinstance(steps[-1], int) and {"gpus", "sockets"}.intersection(steps))
        and value != 0
    ):
        yield from _replaced(steps, {"zero": 0})
    if isinstance(value, int):
        yield from _replaced(steps, {"a fraction for an integer": value + 1.5})
        if key not in {"prefetch", "schema"}:
            yield from _replaced(steps, {"a float for an integer": float(value)})


def toml(document: Table) -> str:
    """A document as TOML, one line per top-level key."""
    return "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in document.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in value) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(entry)}" for key, entry in value.items()) + "}"
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else repr(value)
