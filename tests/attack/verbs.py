"""The other verbs, struck at random moments of their first seconds: they end at once, and say nothing."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from random import Random
from signal import SIGHUP, SIGINT, SIGTERM

from .struck import Blow, Process, command, faults, strike, when

SCENARIO = "wan2.2-4xh100-pcie-layerwise"
VERBS = {
    ("--help",): 0.5,
    ("show", "h100-pcie"): 1.0,
    ("scenarios",): 1.0,
    ("program", SCENARIO): 1.0,
    ("run", SCENARIO): 1.5,
    ("run", SCENARIO, "--json"): 1.5,
    ("best", SCENARIO): 6.0,
    ("export", "undisturbed", "--to", "rows.parquet"): 1.5,
    ("calibrate", "--dry-run"): 1.5,
    ("replay", SCENARIO, "--node", "h200-x1", "--cpu"): 4.0,
    ("validate",): 8.0,
}
"""About how long each takes [s], or is watched."""
CANNOT = 2
"""What a verb ends with that this machine has no memory or no torch for."""
BLOWS = [(SIGINT, False), (SIGINT, True), (SIGTERM, False), (SIGHUP, False)]
"""Signals, and whether they come twice."""


def strike_verbs(count: int, seed: int, folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """A command line, what struck it when, and what it did wrong; `folder` has a sweep called undisturbed."""
    numbers = Random(seed)
    for words, seconds in islice(cycle(VERBS.items()), count):
        number, twice = numbers.choice(BLOWS)
        blow = Blow(number, numbers.random() < 0.5, numbers.uniform(0, 1) if twice else None)
        after = numbers.uniform(0, seconds)
        seen = strike([*command(numbers.random() < 0.5), *words], blow, _moment(after), folder)
        where = "Python starts" if seen.before_our_code else seen.moment or "end"
        said = f"{blow.kind} after {after:.2f} s ({where}): {seen.code}"
        (folder / "rows.parquet").unlink(missing_ok=True)
        yield " ".join(words), said, faults(seen, blow, _may_say, (0, CANNOT))


def _may_say(line: str) -> bool:
    """That it takes long, or that it cannot run here."""
    return line.startswith("offsim: ")


def _moment(after: float):
    def wait(process: Process) -> str | None:
        return when(process, after) and "runs"

    return wait
