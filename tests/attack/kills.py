"""Sweeps that are killed or interrupted at moments spread over all that they do; each is resumed, and compared.

    python -m tests.attack.kills --count 200 --seed 1 --verbs 60

Half of the moments are spread evenly over the time that a sweep takes, half follow what its folder shows. Prints a
table of moment x signal, and every fault. `--verbs`: so many of the other verbs are struck as well.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from itertools import cycle, islice
from pathlib import Path
from random import Random
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM
from typing import NamedTuple

from offsim.scenario.faults import ScenarioError
from offsim.sweep.run import sweep_command
from offsim.sweep.store import DATABASE

from .struck import POLLING, Blow, Moment, Process, Struck, command, faults, strike, when
from .verbs import strike_verbs

GRID = """
schema = 2
name = "kills"
title = "Killed sweeps"

[scenario]
node = "h100-pcie"
model = "wan2.1-t2v-1.3b"
workload = { steps = 27, gpus = 4 }

[axes.tokens]
key = "workload.tokens"
values = [%s]

[[axes.policy]]
label = "layerwise"
policy = { name = "sglang-layerwise", version = "v1", prefetch = 1 }

[[axes.policy]]
label = "full-model"
policy = "full-model"
"""
TOKENS = 30
ROWS = 2 * TOKENS
KINDS = [(SIGKILL, False), (SIGTERM, False), (SIGINT, False), (SIGINT, True), (SIGHUP, False)]
"""Signals, and whether they come twice; each to the process and to its group."""
EVENTS = ("folder", "tables", "a row", "half the rows", "all rows", "results.csv")
STAGES = ("start", "folder", "tables", *(f"{k}/3 of the rows" for k in range(1, 4)), "all rows", "results.csv")
SOON = 0.03
"""Seconds after an event within which it strikes."""
EARLIER = 0.8
"""The share of the time after which one that came too late comes again."""


class Kill(NamedTuple):
    """One sweep that is struck."""

    blow: Blow
    script: bool
    workers: int
    event: str
    """What it follows; empty: its start."""
    after: float
    """Seconds after that."""


class Case(NamedTuple):
    """What came of it."""

    kill: Kill
    moment: str
    faults: list[str]


def draw(count: int, seed: int, duration: float) -> list[Kill]:
    """Kills whose moments and signals are spread, in random order."""
    numbers = Random(seed)
    blows = list(islice(cycle([(kind, group) for kind in KINDS for group in (False, True)]), count))
    numbers.shuffle(blows)
    kills, timed = [], (count + 1) // 2
    for place, ((number, twice), group) in enumerate(blows):
        again = numbers.uniform(0, 1) if twice else None
        blow = Blow(number, group, again, terminal=numbers.random() < 0.25)
        event = "" if place < timed else EVENTS[place % len(EVENTS)]
        after = numbers.uniform(0, SOON) if event else (place + numbers.random()) / timed * duration
        kills.append(Kill(blow, numbers.random() < 0.5, numbers.choice((1, 2, 2, 2)), event, after))
    numbers.shuffle(kills)
    return kills


class Range:
    """A grid, the table that it comes to, and room for sweeps of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.grid = folder, folder / "grid.toml"
        self.grid.write_text(GRID % ", ".join(str(256 * i) for i in range(1, TOKENS + 1)))
        begun = time.monotonic()
        undisturbed = Kill(Blow(SIGINT, group=False), script=False, workers=2, event="", after=1e9)
        _, seen = self._struck(undisturbed, folder / "undisturbed")
        if seen.code:
            raise RuntimeError(seen.errors)
        self.duration = time.monotonic() - begun
        self.expected = (folder / "undisturbed/results.csv").read_bytes()

    def try_one(self, kill: Kill) -> Case:
        """Kill a sweep, and go on with it."""
        with tempfile.TemporaryDirectory(dir=self.folder) as room:
            out = Path(room) / "out"
            moment, seen = self._struck(kill, out)
            if moment == "end":
                return self.try_one(kill._replace(after=kill.after * EARLIER))
            found = faults(seen, kill.blow, _may_say)
            if seen.before_our_code:
                moment = "Python starts"
            if seen.code == 0 and not (out / "results.csv").exists():
                found.append("exit code 0 without results")
            return Case(kill, moment, found + self._resumed(out))

    def _struck(self, kill: Kill, out: Path) -> tuple[str, Struck]:
        words = [*command(kill.script), "sweep", str(self.grid), "--out", str(out), "--workers", str(kill.workers)]
        seen = strike(words, kill.blow, moment_of(kill, out), self.folder)
        return seen.moment or "end", seen

    def _resumed(self, out: Path) -> list[str]:
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                code = sweep_command(str(self.grid), out, 1, True, resume=(out / DATABASE).exists())
        except ScenarioError as error:
            return [f"cannot go on: {error}"]
        same = (out / "results.csv").read_bytes() == self.expected
        return [] if code == 0 and same else [f"resumed: exit code {code}, the same table: {same}"]


def _may_say(line: str) -> bool:
    return line.startswith(("offsim: rows: ", "not complete: interrupted", "nothing finished: interrupted"))


def moment_of(kill: Kill, out: Path) -> Moment:
    """Waits for the event, then for the rest."""

    def wait(process: Process) -> str | None:
        while kill.event and not _happened(kill.event, out):
            if process.poll() is not None:
                return None
            time.sleep(POLLING)
        return stage(out) if when(process, kill.after) else None

    return wait


def _happened(event: str, out: Path) -> bool:
    if event == "folder":
        return out.exists()
    if event == "results.csv":
        return (out / "results.csv").exists()
    wanted = {"tables": 0, "a row": 1, "half the rows": ROWS // 2, "all rows": ROWS}[event]
    return stored(out) >= wanted


def stage(out: Path) -> str:
    """What the folder of a sweep shows."""
    rows = stored(out)
    if (out / "results.csv").exists():
        return "results.csv"
    if rows == ROWS:
        return "all rows"
    if rows > 0:
        return f"{1 + 3 * rows // ROWS}/3 of the rows"
    return "tables" if rows == 0 else "folder" if out.exists() else "start"


def stored(out: Path) -> int:
    """Rows that are stored; -1: there is no table."""
    # Not opened before it keeps a log: a reader would keep it from beginning one.
    if not (out / f"{DATABASE}-wal").exists():
        return -1
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{out / DATABASE}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM rows").fetchone()[0])
    return -1


def table(cases: list[Case]) -> str:
    """How many fell at which moment, by signal and target; `!` marks those with faults."""
    kinds = list(dict.fromkeys(Blow(n, g, 0.0 if twice else None).kind for n, twice in KINDS for g in (False, True)))
    counts = Counter((case.moment, case.kill.blow.kind, bool(case.faults)) for case in cases)
    lines = [["moment", *kinds, "all"]]
    for moment in ("Python starts", *STAGES):
        cells = [_cell(counts[moment, kind, False], counts[moment, kind, True]) for kind in kinds]
        lines.append([moment, *cells, str(sum(case.moment == moment for case in cases))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _cell(fine: int, wrong: int) -> str:
    return f"{fine + wrong or '.'}{f' !{wrong}' if wrong else ''}"


def main() -> int:
    """Kill, print; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbs", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ground = Range(Path(folder))
        cases = [_shown(ground.try_one(kill)) for kill in draw(options.count, options.seed, ground.duration)]
        print(f"\nan undisturbed sweep took {ground.duration:.1f} s\n{table(cases)}")
        wrong = sum(bool(case.faults) for case in cases)
        for words, said, found in strike_verbs(options.verbs, options.seed, Path(folder)):
            print(f"{'FAULT' if found else 'fine'}  {words}: {said}  {'; '.join(found)}", flush=True)
            wrong += bool(found)
    print(f"{wrong} with faults")
    return int(wrong > 0)


def _shown(case: Case) -> Case:
    if case.faults:
        print(f"FAULT  {case.kill} at {case.moment}: {'; '.join(case.faults)}", flush=True)
    return case


if __name__ == "__main__":
    sys.exit(main())
