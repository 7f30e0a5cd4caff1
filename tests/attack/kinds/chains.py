"""Chains of `extends`: long, circular, across kinds, and to what is no file."""

from random import Random

from tests.attack.case import Case, Content, File, Folder, Link, Pipe, chance, text
from tests.attack.documents import entry_path, scenario
from tests.attack.pools import any_value, hostile_text
from tests.malformed.mutations import GOOD, toml

from .edited import change, verb

TARGETS = ("0.toml", "pipe.toml", "folder.toml", "link.toml", "loop.toml", "zero.toml", "missing.toml", "../0.toml")
CONTENTS: tuple[tuple[str, Content], ...] = (
    ("0.toml", File(GOOD.read_bytes())),
    ("pipe.toml", Pipe()),
    ("folder.toml", Folder()),
    ("link.toml", Link("0.toml")),
    ("loop.toml", Link("loop.toml")),
    ("zero.toml", Link("/dev/zero")),
)


def chains(random: Random) -> Case:
    """Scenarios, models or nodes that extend each other."""
    section = random.choice(("", "", "model", "node"))
    count = random.choice((1, 2, 5, 15, 16, 17, 30))
    first = _parent(random, section) if chance(random, 0.5) else "0.toml" if not section else _catalogue(section)
    parents = [first, *(f"{i}.toml" for i in range(1, count))]
    files = [(f"{i}.toml", text(toml(_link(random, parent)))) for i, parent in enumerate(parents, 1)]
    if chance(random, 0.1):
        files.append((f"{random.randint(1, count)}.toml", text(f'extends = "{count}.toml"\n')))
    last = f"{count}.toml"
    if section:
        whole = scenario()
        whole[section] = random.choice((last, {"extends": last}))
        files.append(("case.toml", text(toml(whole))))
        last = "case.toml"
    return Case(verb(random, last), (*CONTENTS, *dict(files).items()), (".toml",))


def _link(random: Random, parent: str) -> dict[str, object]:
    """A file of a chain: the parent, and at times something of its own."""
    own: dict[str, object] = {"extends": parent}
    if chance(random, 0.1):
        own[random.choice(("title", "workload", "notes", "model", "x"))] = any_value(random)
    if chance(random, 0.05):
        change(random, own)
    return own


def _parent(random: Random, section: str) -> str:
    if chance(random, 0.7):
        return random.choice(TARGETS)
    return random.choice((hostile_text(random), "a\0.toml", "b" * 5000 + ".toml", "h100-pcie", "flux.1-dev", ""))


def _catalogue(section: str) -> str:
    """A good model or node."""
    return str(entry_path(f"{section}s", "flux.1-dev" if section == "model" else "h100-pcie"))
