"""The pages of all offload policies, found by scanning `offsim.program.systems` when one is first asked for."""

from collections.abc import Iterator
from functools import cache, reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, TypeVar, cast

from msgspec import Struct, convert, defstruct
from msgspec.structs import fields as struct_fields

from offsim.scenario.policy import Policy, policy_name
from offsim.scenario.scenario import Scenario

from . import systems
from .offloading.hooks import PolicyProgram
from .offloading.page import Ladder, LaunchLine, Page

S = TypeVar("S", bound=Struct)


@cache
def pages() -> dict[str, Page[Any]]:
    """Every policy's page under the policy's name, in the order of lists. Raises TypeError for a module without one."""
    modules = (import_module(f"{systems.__name__}.{module.name}") for module in iter_modules(systems.__path__))
    named = {policy_name(page.parameters): page for page in map(_page_in, modules)}
    return dict(sorted(named.items(), key=lambda entry: (entry[1].listed, entry[0])))


def _page_in(module: ModuleType) -> Page[Any]:
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Page)]
    own = [kind for kind in kinds if kind is not Page]
    if len(own) != 1:
        raise TypeError(f"{module.__name__}: needs one subclass of Page, has {len(own)}")
    return own[0]()


def page_of(policy: Policy) -> Page[Any]:
    """The page of a policy."""
    return pages()[policy.tag]


@cache
def policy_types() -> Any:
    """The union of all policies' parameter types: what a scenario's `policy` table is decoded as."""
    return reduce(or_, (page.parameters for page in pages().values()))


@cache
def decodable(kind: type[S]) -> type[S]:
    """A struct like `kind` to decode plain data as: its policies are of those types that have a page."""
    kinds = {Policy: policy_types(), Policy | None: policy_types() | None}
    fields = [(field.name, kinds[field.type], field.default) for field in struct_fields(kind) if field.type in kinds]
    return cast(type[S], defstruct(kind.__name__, fields, bases=(kind,), frozen=True))


def as_declared(decoded: S, kind: type[S]) -> S:
    """What was decoded as `decodable(kind)`, as the type itself: it compares equal to others, and can be pickled."""
    return kind(**{field: getattr(decoded, field) for field in kind.__struct_fields__})


def policy_of(raw: Any) -> Policy:
    """A policy from plain data, as a scenario's `policy` table in SI; msgspec.ValidationError if it is none."""
    policy: Policy = convert(raw, policy_types())
    return policy


def policy_program(scenario: Scenario) -> PolicyProgram:
    """The hooks of the scenario's policy, in their initial state."""
    return page_of(scenario.policy).program(scenario, scenario.policy)


def ladders(scenario: Scenario) -> Iterator[Ladder]:
    """Every policy worth searching for this model, workload and node; what it can't run is among them."""
    for page in pages().values():
        yield from page.candidates(scenario)


def launch_lines(scenario: Scenario) -> tuple[LaunchLine, ...]:
    """How real systems are asked for a scenario's policy and workload; empty if none is known to offer it."""
    return tuple(page_of(scenario.policy).launch_lines(scenario, scenario.policy))


def rounding_of(policy: Policy) -> str:
    """How a policy changes what the model computes; empty if it doesn't."""
    return page_of(policy).rounding(policy)
