"""Models, nodes, scenarios and grids by name: one TOML file each, with its sources."""

from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent
KINDS = ("models", "nodes", "gpus", "hosts", "wirings", "scenarios", "grids")


@cache
def names(kind: str) -> tuple[str, ...]:
    """Catalogue names of one kind (a member of `KINDS`), sorted."""
    return tuple(sorted(path.stem for path in (ROOT / kind).glob("*.toml")))


def path_of(kind: str, name: str) -> Path | None:
    """The file of a catalogue entry, or None."""
    return ROOT / kind / f"{name}.toml" if name in names(kind) else None
