"""Names of files and what may stand at them, for every path that a command takes."""

from random import Random

from tests.attack.case import Case, Content, File, Folder, Link, Pipe, chance
from tests.malformed.mutations import GOOD

from .stores import GRID_FILE, Store

TOKEN = "q7"
"""In every name: a message about it must show as much."""
NAMES = (
    "q7",
    "q7#x",
    "q7?mode=rwc",
    "q7?x=1&y",
    "q7%41%q",
    "q7%00",
    "q7 x ",
    " q7",
    "q7'x",
    'q7"x',
    "q7`x",
    "q7\nx",
    "q7\rx",
    "q7\x1b[31mx",
    "q7\x07",
    "q7\udcff\udc80",
    "q7é中😀",
    "q7\u202ex",
    "-q7",
    "--q7",
    "~q7",
    "$q7",
    "q7*",
    "q7[x]",
    "q7;x",
    "q7&x",
    "q7\\x",
    "file:q7",
    ":memory:q7",
    "q7:x",
    "q7" + "x" * 200,
    "q7" + "é" * 100,
    "q7.csv",
    "@q7",
    "=q7",
    "q7[red]x[/red]",
)
NO_NAMES = ("", ".", "/", "..", "q7" + "x" * 5000, "q7/" * 2000, "q7\0x", "/dev/full", "/dev/stdin", "/proc/self/mem")
STANDS = ("good", "good", "good", "nothing", "folder", "pipe", "link", "dangling", "loop", "zero", "victim", "empty")
OUTPUTS = ("run --trace", "sweep --out", "export --to", "replay --out", "calibrate --out")
PLACES = (
    "run",
    "program",
    "best",
    "sweep",
    "export",
    "replay",
    "show",
    "fit",
    "config",
    *OUTPUTS[:3],
    "run --trace",
    "export --to",
    "sweep --out",
    "sweep --resume",
    *OUTPUTS[4:],
)
SUFFIXES = {"export --to": (".csv", ".parquet", ".csv", ""), "config": (".json",)}


def paths(random: Random) -> Case:
    """One path of one verb: an odd name, or an odd thing under it."""
    place = random.choice(PLACES)
    if place == "replay" and not chance(random, 0.1):
        place = "run"  # It imports torch.
    suffix = random.choice(SUFFIXES.get(place, (".toml", ".toml", ".toml", "")))
    name = random.choice(NO_NAMES) if chance(random, 0.15) else random.choice(NAMES) + suffix
    fits = name not in NO_NAMES and len(name.encode("utf-8", "surrogateescape")) < 250
    given = f"./{name}" if name.startswith("-") and chance(random, 0.7) else name
    contents = ((name, thing(random, place, name)),) if fits else ()
    return _case(random, place, given, tuple((n, c) for n, c in contents if c is not None))


def thing(random: Random, place: str, name: str) -> Content | None:
    """What stands under the name."""
    output = place.partition(" --")[2] in ("trace", "out", "to")
    what = random.choice((*STANDS, *(("nothing",) * 12 if output else ())))
    good: Content = File(GRID_FILE if place.startswith("sweep") else GOOD.read_bytes())
    if place in ("export", "sweep --resume"):
        good = Store(None)
    return {
        "good": good,
        "folder": Folder(),
        "pipe": Pipe(),
        "link": Link("good.toml"),
        "dangling": Link("../elsewhere/new"),
        "loop": Link(name),
        "zero": Link("/dev/zero"),
        "victim": Link("../elsewhere/precious"),
        "empty": File(b""),
        "nothing": None,
    }[what]


COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "@"),
    "program": ("program", "@"),
    "best": ("best", "@"),
    "sweep": ("sweep", "@", "--workers", "1"),
    "export": ("export", "@", "--to", "rows.csv"),
    "replay": ("replay", "good.toml", "--node", "@", "--cpu"),
    "show": ("show", "@"),
    "fit": ("@",),
    "config": ("@",),
    "run --trace": ("run", "good.toml", "--trace", "@"),
    "sweep --out": ("sweep", "grid.toml", "--workers", "1", "--out", "@"),
    "sweep --resume": ("sweep", "grid.toml", "--workers", "1", "--resume", "--out", "@"),
    "export --to": ("export", "store", "--to", "@"),
    "calibrate --out": ("calibrate", "--quick", "--out", "@"),
}


def _case(random: Random, place: str, given: str, contents: tuple[tuple[str, Content], ...]) -> Case:
    others: list[tuple[str, Content]] = [("good.toml", File(GOOD.read_bytes())), ("grid.toml", File(GRID_FILE))]
    if place.startswith("export"):
        others.append(("store", Store(None)))
    arguments = tuple(given if word == "@" else word for word in COMMANDS[place])
    resumes = place == "sweep --resume"
    output = place.partition(" --")[2] in ("trace", "out", "to") or resumes
    # A folder that exists already may be written into.
    own = (given.removeprefix("./").split("/")[0],) if output and given else ()
    names = (TOKEN,) if TOKEN in given and place != "calibrate --out" and not given.startswith("-") else ()
    entry = place if place in ("fit", "config") else "offsim"
    return Case(arguments, (*others, *contents), names, ("offsim-results", "rows.csv", *own), entry)
