"""Stores of sweeps that were damaged, tampered with, or are something else."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.attack.case import Case, Content, File, Folder, Link, Pipe, chance
from tests.attack.documents import scenario
from tests.attack.pools import FORMULAS, hostile_text
from tests.malformed.mutations import toml

DATABASE, LEFTOVERS = "results.sqlite", ("results.sqlite-wal", "results.sqlite-shm", "results.sqlite-journal")


def _grid() -> bytes:
    base = scenario()
    base["workload"]["sequence_parallel"] = 1
    axes = {
        "gpus": {"key": "workload.gpus", "values": [1, 2, 3]},
        "steps": {"key": "workload.steps", "values": [1, 2]},
    }
    sections = {key: value for key, value in base.items() if isinstance(value, dict)}
    return toml({"name": "stored", "axes": axes, "scenario": sections}).encode()


GRID_FILE = _grid()


def finished() -> Path:
    """The folder of a finished sweep of the grid, made once in the folder for temporary files: never written to."""
    folder = Path(tempfile.gettempdir()) / "finished"
    if not folder.exists():
        grid = folder.with_name("grid.toml")
        grid.write_bytes(GRID_FILE)
        command = [sys.executable, "-m", "offsim", "sweep", grid, "--out", folder, "--workers", "1"]
        subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[3])
    return folder


class Store(NamedTuple):
    """The folder of a finished sweep, with the damage of a seed (None: none)."""

    seed: int | None

    def make(self, path: Path) -> None:
        shutil.copytree(finished(), path)
        if self.seed is not None:
            random = Random(self.seed)
            for _ in range(random.choice((1, 1, 1, 2))):
                # What is a link by now leads to a file that nothing may touch, the next damage neither.
                if (path / DATABASE).is_file() and not (path / DATABASE).is_symlink():
                    with suppress(sqlite3.Error):
                        random.choice(DAMAGES)(random, path)


def stores(random: Random) -> Case:
    """A damaged store that is resumed or exported."""
    store = Store(random.randrange(2**32))
    if chance(random, 0.1):
        return _siblings(random)
    files: tuple[tuple[str, Content], ...] = (("grid.toml", File(GRID_FILE)), ("q7", store))
    if chance(random, 0.6):
        return Case(
            ("sweep", "grid.toml", "--workers", "1", "--resume", "--out", "q7"),
            files,
            ("q7",),
            ("q7",),
            table="q7/results.csv",
        )
    to = random.choice(("rows.csv", "rows.csv", "rows.parquet"))
    return Case(("export", "q7", "--to", to), files, ("q7",), (to, "q7"), table=to if to == "rows.csv" else "")


def _siblings(random: Random) -> Case:
    """Folders beside the one that --resume looks for."""
    from offsim.sweep.grid import parse_grid

    name = f"offsim-results/stored-{parse_grid(tomllib.loads(GRID_FILE.decode()), Path('grid.toml')).hash}"
    ends = ("-backup", "-2", "-02", "-1_0", "-٣", "-", " copy", "-2.old", "-" + "9" * 50, "x", "")
    files: list[tuple[str, Content]] = [(name + end, Store(None)) for end in random.sample(ends, random.randint(1, 3))]
    files += [("grid.toml", File(GRID_FILE))]
    return Case(("sweep", "grid.toml", "--workers", "1", "--resume"), tuple(files))


def _flip(random: Random, folder: Path) -> None:
    content = bytearray((folder / DATABASE).read_bytes() or b"x")
    for _ in range(random.choice((1, 5, 50))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    (folder / DATABASE).write_bytes(content)


def _cut(random: Random, folder: Path) -> None:
    os.truncate(folder / DATABASE, random.randrange(1 + (folder / DATABASE).stat().st_size))


def _other_file(random: Random, folder: Path) -> None:
    kinds = (b"", b"SQLite format 3\x00", b"not a database", random.randbytes(5000), b"\x00" * 4096)
    (folder / DATABASE).write_bytes(random.choice(kinds))


def _other_thing(random: Random, folder: Path) -> None:
    """Something else under one of the names of a store."""
    name = random.choice((DATABASE, ".lock", ".results.csv.part", "results.csv", "answer.txt", "grid.toml", *LEFTOVERS))
    path = folder / name
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    victim = Link("../../elsewhere/precious")
    random.choice((Pipe(), Folder(), victim, victim, Link("/dev/zero"), Link(name))).make(path)


def _foreign(random: Random, folder: Path) -> None:
    """Another application's database."""
    (folder / DATABASE).unlink()
    with closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        for table in random.sample(("about", "rows", "unmeasured", "bookmarks", "users"), random.randint(1, 4)):
            columns = random.choice(("key, value", "number, list", "id INTEGER PRIMARY KEY, name", "number, status"))
            connection.execute(f"CREATE TABLE {table} ({columns})")
            connection.execute(f"INSERT INTO {table} VALUES (1, 'x')")


def _tampered(random: Random, folder: Path) -> None:
    """Some statements of SQL on a random table and column."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection, suppress(sqlite3.Error), connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if not tables:
            return
        table = random.choice(tables)
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        column = random.choice(columns)
        for statement in random.choice(STATEMENTS):
            connection.execute(statement.format(table=table, column=column), _bound(random, statement))


def _bound(random: Random, statement: str) -> tuple[object, ...]:
    pool = (None, "text", b"\x00\xff", 1e308, float("inf"), -1, 2**63 - 1, "", "nan", *FORMULAS, "\x1b[31m")
    value = hostile_text(random)[:3000] if chance(random, 0.2) else random.choice(pool)
    return (value,) if "?" in statement else ()


STATEMENTS: tuple[tuple[str, ...], ...] = (
    ('UPDATE "{table}" SET "{column}" = ?',),
    ('UPDATE "{table}" SET "{column}" = ? WHERE rowid = (SELECT max(rowid) FROM "{table}")',),
    ('UPDATE "{table}" SET "{column}" = "{column}" || ?',),
    ('UPDATE "{table}" SET "{column}" = "{column}" + 1 WHERE rowid = (SELECT min(rowid) FROM "{table}")',),
    ('ALTER TABLE "{table}" DROP COLUMN "{column}"',),
    ('ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "other"',),
    ('ALTER TABLE "{table}" ADD COLUMN "axis_new" TEXT',),
    ('ALTER TABLE "{table}" RENAME TO "other"',),
    ('DROP TABLE "{table}"',),
    ('DELETE FROM "{table}"',),
    ('DELETE FROM "{table}" WHERE rowid % 2',),
    ("UPDATE rows SET number = number + 1000000",),
    ("UPDATE rows SET number = -number - 1",),
    ("UPDATE rows SET status = 'error'",),
    ("UPDATE rows SET status = 'something'",),
    ("UPDATE unmeasured SET list = ?",),
    ("UPDATE unmeasured SET list = '[[1]]'",),
    ("UPDATE unmeasured SET list = '" + "[" * 100_000 + "'",),
    ("UPDATE about SET value = ? WHERE key = 'store'",),
    ("ALTER TABLE rows RENAME TO old", "CREATE VIEW rows AS SELECT * FROM old"),
    ("CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END", "DELETE FROM rows WHERE rowid = 1"),
)


def _leftovers(random: Random, folder: Path) -> None:
    for name in random.sample((*LEFTOVERS, ".results.csv.part", "notes.txt", "results.csv"), 2):
        if not (folder / name).exists() or (folder / name).is_file():
            (folder / name).write_bytes(random.randbytes(random.choice((0, 100, 40_000))))


DAMAGES: tuple[Callable[[Random, Path], None], ...] = (
    _flip,
    _cut,
    _other_file,
    _other_thing,
    _foreign,
    _tampered,
    _tampered,
    _tampered,
    _tampered,
    _leftovers,
)
