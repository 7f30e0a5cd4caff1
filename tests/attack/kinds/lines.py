"""Command lines: wrong verbs and flags, odd numbers, too much and too little."""

from itertools import pairwise
from random import Random

from tests.attack.case import Case, Content, File, chance
from tests.attack.pools import NUMBER_TEXTS, hostile_text
from tests.malformed.mutations import GOOD

from .stores import GRID_FILE, Store

VERBS = ("run", "program", "best", "sweep", "export", "models", "nodes", "policies", "scenarios", "show")
RARE = ("calibrate", "validate", "replay", "--help", "--version", "", "RUN", "help", "x")
VALUED = (
    "--steps",
    "--vram",
    "--workers",
    "--out",
    "--engine",
    "--to",
    "--trace",
    "--limit-s",
    "--transport",
    "--node",
)
SWITCHES = ("--json", "--check", "--quiet", "--resume", "--dry-run", "--quick", "--full", "--no-kernels", "--cpu")
ODD = (
    "--no-json",
    "--JSON",
    "--jso",
    "-j",
    "--",
    "-",
    "--help",
    "-h",
    "--version",
    "--json=maybe",
    "--workers=",
    "---",
)
FILES: tuple[tuple[str, Content], ...] = (
    ("good.toml", File(GOOD.read_bytes())),
    ("grid.toml", File(GRID_FILE)),
)
OPERANDS = ("good.toml", "grid.toml", "flux.1-dev-rtx4090-layerwise", "h100-pcie", "resident", "store", "missing.toml")
STEPS = (
    "0",
    "0-2",
    "2-0",
    "0,0,0",
    "1,",
    ",",
    "-1",
    "0-",
    "0--1",
    "a",
    "٣",
    "0-1-2",
    "9" * 5000,
    "0," * 5000 + "0",
    "²",
)
FITTING: dict[str, tuple[str, ...]] = {
    "run": ("good.toml",),
    "program": ("good.toml",),
    "best": ("good.toml", "--quiet"),
    "sweep": ("grid.toml", "--workers", "1"),
    "export": ("store", "--to", "rows.csv"),
    "show": ("h100-pcie",),
    "calibrate": ("--dry-run",),
    "replay": ("good.toml", "--node", "h200-x1"),
}


def lines(random: Random) -> Case:
    """A command line, mostly a good one with something wrong put in."""
    verb = random.choice(VERBS) if chance(random, 0.85) else random.choice(RARE)
    words = [verb, *FITTING.get(verb, ())]
    # What runs long or imports torch is always given something wrong.
    spared = verb in ("replay", "calibrate", "validate", "sweep", "")
    for _ in range(random.choice((1, 1, 2, 3, 6) if spared else (0, 1, 1, 2, 3, 6))):
        _disturb(random, words, verb)
    if spared and words[1:] in ([], ["--json"], ["--quiet"]):
        words.append("--nonsense")
    if chance(random, 0.02):
        words = [*words, *([random.choice(OPERANDS)] * random.choice((50, 5000)))]
    # A file that is asked for by name may have any of the words' names.
    asked = [word for before, word in pairwise(words) if before in ("--trace", "--out", "--to")]
    outputs = ("offsim-results", "rows.csv", "out", "t.json", *asked)
    return Case(tuple(words), (*FILES, ("store", Store(None))), outputs=outputs)


def _disturb(random: Random, words: list[str], verb: str) -> None:
    at = random.randrange(1, len(words) + 1)
    action = random.randrange(8)
    if action == 0 and len(words) > 1:
        del words[min(at, len(words) - 1)]
    elif action == 1:
        words[at:at] = [random.choice(SWITCHES)]
    elif action == 2:
        words[at:at] = [random.choice(ODD)]
    elif action == 3:
        words[at:at] = [random.choice(OPERANDS) if chance(random, 0.7) else hostile_text(random).replace("\0", "")]
    elif action == 4 and verb == "program":
        words += ["--steps", random.choice(STEPS)]
    elif action == 5 and verb == "best":
        words += ["--vram", random.choice(NUMBER_TEXTS)]
    elif action == 6 and verb in ("sweep", "calibrate"):
        flag = "--workers" if verb == "sweep" else "--limit-s"
        words += [f"{flag}={random.choice(NUMBER_TEXTS)}"]
    else:
        words += [random.choice(VALUED), _argument(random)]


def _argument(random: Random) -> str:
    if chance(random, 0.4):
        return random.choice(NUMBER_TEXTS)
    if chance(random, 0.3):
        return hostile_text(random).replace("\0", "").replace("/", "")
    return random.choice(
        ("out", "t.json", "rows.csv", "local", "dask://", "dask://x", "dask://127.0.0.1:1", "h100-pcie")
    )
