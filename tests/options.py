"""Every option of a scenario, read off its types; and which of their values scenarios have.

A choice, a switch and an optional value count once for each thing that they can be; a number, or a text that stands for
something, counts as drawn once it has had two values.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

from offsim.program.pages import pages
from offsim.scenario.architectures import ARCHITECTURES
from offsim.scenario.policy import Policy
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import Scenario

Option = tuple[str, str, object]
"""Struct, field, and a value; or how many values there are to be."""
SEVERAL = "two values"
PROSE = frozenset(["name", "title", "source", "notes", "fingerprint", "condition", "checkpoint", "schema"])
"""Fields that no simulation reads."""
TEXTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("Simulation", "collective_form"): ("pairs", "aggregated"),
    ("BlockList", "architecture"): tuple(ARCHITECTURES),
}
"""Texts of which only some are allowed."""
ONE_VALUE = frozenset([("AccelerateModel", "text_encoder"), ("AccelerateModel", "vae")])


def all_options(kind: Any = Scenario) -> set[Option]:
    """Every option of a struct and of all structs within it."""
    found: set[Option] = set()
    for name, hint in _fields(kind):
        found |= {(kind.__name__, name, value) for value in _values(kind.__name__, name, hint)}
        for struct in _structs(hint):
            for one in (page.parameters for page in pages().values()) if struct is Policy else (struct,):
                found |= all_options(one)
    return found


def drawn_options(structs: Iterable[Struct]) -> set[Option]:
    """Every option that some of these scenarios, or parts of scenarios, have."""
    values: dict[tuple[str, str], set[object]] = defaultdict(set)
    for drawn in structs:
        for struct, name, value in _had(drawn):
            values[struct, name].add(value)
    known = all_options()
    found: set[Option] = set()
    for (struct, name), had in values.items():
        found |= {(struct, name, value) for value in had if (struct, name, value) in known}
        given = {value for value in had if value is not None}
        found |= {(struct, name, "given")} if given else set()
        found |= {(struct, name, SEVERAL)} if len(given) > 1 else set()
    return found & known


def _fields(kind: Any) -> Iterator[tuple[str, Any]]:
    """Fields of a struct that matter, with their types."""
    hints = get_type_hints(kind, include_extras=True)
    return ((name, hints[name]) for name in kind.__struct_fields__ if name not in PROSE)


def _plain(hint: Any) -> Any:
    return _plain(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def _members(hint: Any) -> list[Any]:
    """The types of a union, or the one."""
    hint = _plain(hint)
    return [_plain(one) for one in get_args(hint)] if get_origin(hint) in (Union, UnionType) else [hint]


def _values(struct: str, name: str, hint: Any) -> set[object]:
    """What an option can be."""
    if (struct, name) in TEXTS:
        return set(TEXTS[struct, name])
    found: set[object] = set()
    for member in _members(hint):
        if get_origin(member) is Literal:
            found |= set(get_args(member))
        elif get_origin(member) in (Union, UnionType):
            found |= _values(struct, name, member)
        elif member is bool:
            found |= {True, False}
        elif member is NoneType:
            found |= {None, "given"}
        elif isinstance(member, type) and issubclass(member, Struct) and member not in (Quantity, Curve):
            found |= {member.__name__} if len(_members(hint)) > 2 else set()
        else:
            found.add(SEVERAL)
    return found


def _structs(hint: Any) -> Iterator[Any]:
    """The structs within a type."""
    for member in _members(hint):
        if isinstance(member, type):
            if issubclass(member, Struct) and member not in (Quantity, Curve):
                yield member
        else:
            for inner in get_args(member):
                if inner is not Ellipsis and get_origin(member) is not Literal:
                    yield from _structs(inner)


def _had(value: Struct) -> Iterator[Option]:
    """Every option that a struct, and what is within it, has."""
    for name, hint in _fields(type(value)):
        entry = getattr(value, name)
        several = isinstance(entry, Struct) and not isinstance(entry, Quantity | Curve) and len(_members(hint)) > 2
        yield type(value).__name__, name, type(entry).__name__ if several else _comparable(entry)
        for inner in entry if isinstance(entry, tuple) else (entry,):
            if isinstance(inner, Struct) and not isinstance(inner, Quantity | Curve):
                yield from _had(inner)


def _comparable(entry: Any) -> object:
    """Something that is equal for equal values: numbers for themselves."""
    if isinstance(entry, Quantity):
        return entry.value
    return repr(entry) if isinstance(entry, Struct | dict | tuple) else entry
