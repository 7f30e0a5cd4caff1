"""The folder of a sweep: every finished row is in results.sqlite at once, all else is written from there at the end.

A row counts as finished when its transaction is in the write-ahead log on disk: neither a kill nor a power failure
loses any of those, and nothing is ever half there. One sweep at a time writes a folder: a lock on `.lock` ends with
its process, however that ends.
"""

import csv
import fcntl
import json
import os
import platform
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

from offsim.scenario.scenario import ScenarioError

from .axis import Axis
from .grid import Grid
from .row import COLUMNS, Result, Row, cells, column_names, offsim_version, plain

DEFAULT_ROOT = Path("offsim-results")
DATABASE, LOCK, GRID = "results.sqlite", ".lock", "grid.toml"
SQL_TYPES = {float: "REAL", int: "INTEGER", bool: "INTEGER"}
STORE_VERSION = "1"
OURS = {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", LOCK, GRID, "results.csv", "answer.txt"}


class Store:
    """The rows of one sweep on disk."""

    def __init__(self, folder: Path, grid: Grid) -> None:
        self.folder = folder
        self.grid = grid
        self._connection = sqlite3.connect(folder / DATABASE)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        places = ", ".join("?" * (2 + len(column_names(grid.axes))))
        self._insert = f"INSERT INTO rows VALUES ({places})"
        self._unmeasured: dict[tuple[tuple[str, str], ...], int] = {}
        """Lists of unmeasured values that are stored, with their numbers: most rows share one."""

    def create(self) -> None:
        """An empty table of rows, and what the sweep is."""
        hints = get_type_hints(Row)
        names = column_names(self.grid.axes)
        columns = [f'"{name}" TEXT NOT NULL' for name in names[: len(self.grid.axes)]]
        columns += [f'"{name}" {_sql_type(hints[name])}' for name in COLUMNS]
        with self._connection:
            self._connection.execute("CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._connection.executemany("INSERT INTO about VALUES (?, ?)", about(self.grid).items())
            self._connection.execute("CREATE TABLE unmeasured (number INTEGER PRIMARY KEY, list TEXT NOT NULL)")
            self._connection.execute(
                f"CREATE TABLE rows ({', '.join(columns)}, unmeasured INTEGER, number INTEGER PRIMARY KEY)"
            )

    def add(self, number: int, result: Result) -> None:
        """Keep a finished combination; it is durable when this returns."""
        with self._connection:
            unmeasured = self._number_of(result.unmeasured)
            self._connection.execute(self._insert, (*cells(result.row), unmeasured, number))
        self._unmeasured[result.unmeasured] = unmeasured

    def _number_of(self, unmeasured: tuple[tuple[str, str], ...]) -> int:
        """The number of a list of unmeasured values, stored on its first use."""
        if unmeasured in self._unmeasured:
            return self._unmeasured[unmeasured]
        insert = "INSERT INTO unmeasured (list) VALUES (?)"
        return int(self._connection.execute(insert, (json.dumps(unmeasured),)).lastrowid or 0)

    def known(self) -> dict[str, str]:
        """What the stored sweep is; empty if it never came to that."""
        try:
            return dict(self._connection.execute("SELECT key, value FROM about").fetchall())
        except sqlite3.OperationalError:
            return {}

    def finished(self) -> set[int]:
        """The numbers of all finished combinations; those that failed are not among them."""
        return {n for (n,) in self._connection.execute("SELECT number FROM rows WHERE status != 'error'")}

    def everything(self) -> list[Result]:
        """All stored combinations in the order of the grid, failed ones included."""
        return [result for _, result in self._stored()]

    def _stored(self) -> Iterator[tuple[int, Result]]:
        axes = len(self.grid.axes)
        truths = [i for i, name in enumerate(COLUMNS) if name == "calibrated"]
        lists = self._connection.execute("SELECT number, list FROM unmeasured").fetchall()
        known = {number: tuple(map(tuple, json.loads(text))) for number, text in lists}
        for line in self._connection.execute("SELECT * FROM rows ORDER BY number"):
            *found, unmeasured, number = line
            values: list[Any] = found[axes:]
            for i in truths:
                values[i] = None if values[i] is None else bool(values[i])
            yield number, Result(Row(tuple(found[:axes]), *values), known[unmeasured])

    def forget_failures(self) -> None:
        """Combinations that failed are tried again."""
        with self._connection:
            self._connection.execute("DELETE FROM rows WHERE status = 'error'")

    def close(self) -> None:
        self._connection.close()


def about(grid: Grid) -> dict[str, str]:
    """What a sweep is and what made it: what must agree for it to be resumed, and what is good to know."""
    return {
        "store": STORE_VERSION,
        "grid": grid.name,
        "grid_hash": grid.hash,
        "offsim": offsim_version(),
        "python": platform.python_version(),
        "simpy": version("simpy"),
    }


@contextmanager
def opened(grid: Grid, out: Path | None, *, resume: bool) -> Iterator[Store]:
    """The store of a new sweep, or of one to be resumed; raises ScenarioError for what stands in the way."""
    try:
        folder = _to_resume(grid, out) if resume else make_folder(grid, out)
        with _locked(folder):
            store = Store(folder, grid)
            try:
                _prepare(store, resume=resume)
                yield store
            finally:
                store.close()
    except (OSError, sqlite3.Error) as error:
        where = getattr(error, "filename", None) or out or DEFAULT_ROOT
        what = getattr(error, "strerror", None) or error
        raise ScenarioError(
            f"{where}: cannot be written: {what}; what was stored is kept: make room and go on with --resume, "
            "or choose another --out"
        ) from None


def _prepare(store: Store, *, resume: bool) -> None:
    """A new store gets its tables; an old one must be of the same sweep."""
    known = store.known()
    if not known:
        store.create()
        _write_bytes(store.folder / GRID, store.grid.source)
    elif resume:
        wanted = about(store.grid)
        for key in ("store", "grid_hash", "offsim"):
            if known.get(key) != wanted[key]:
                raise ScenarioError(
                    f"{store.folder}: cannot be resumed: its {key} is {known.get(key)}, this sweep's {wanted[key]}; "
                    "leave --resume out for a new folder"
                )
        store.forget_failures()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScenarioError(
                f"{folder}: another sweep is writing here; wait for it or choose another --out"
            ) from None
        # The file stays: were it removed, another process might lock the old one and a third a new one.
        yield


def _to_resume(grid: Grid, out: Path | None) -> Path:
    """The folder given, or the latest one of this grid."""
    folder = out or _latest(grid)
    if folder is None or not (folder / DATABASE).is_file():
        where = folder or DEFAULT_ROOT / f"{grid.name}-{grid.hash}"
        raise ScenarioError(
            f"--resume: no sweep to resume in {where}; leave --resume out, or name its folder with --out"
        )
    return folder


def _latest(grid: Grid) -> Path | None:
    first = DEFAULT_ROOT / f"{grid.name}-{grid.hash}"
    numbered = [path for path in first.parent.glob(f"{first.name}*") if (path / DATABASE).is_file()]
    return max(numbered, key=lambda path: int(path.name.removeprefix(first.name).lstrip("-") or 1), default=None)


def make_folder(grid: Grid, out: Path | None) -> Path:
    """A new folder, or `out` if that is empty; raises ScenarioError and OSError."""
    return _numbered(DEFAULT_ROOT / f"{grid.name}-{grid.hash}") if out is None else _given(out)


def _given(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise ScenarioError(f"--out={out}: is a file; choose a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    if (out / DATABASE).exists():
        with _locked(out):
            pass  # Says so if somebody else is writing it now.
        raise ScenarioError(f"--out={out}: folder is not empty, it has a sweep; go on with it with --resume")
    if any(path.name not in (LOCK,) for path in out.iterdir()):
        raise ScenarioError(f"--out={out}: folder is not empty; choose a new one with --out")
    return out


def _numbered(folder: Path) -> Path:
    """The folder itself, or the first of folder-2, folder-3, ... that doesn't exist."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    number, candidate = 1, folder
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            number += 1
            candidate = folder.with_name(f"{folder.name}-{number}")


def write_results(folder: Path, grid: Grid, rows: Sequence[Row], answer: str) -> None:
    """results.csv and the answer, each complete or absent; raises OSError."""
    files: dict[str, Callable[[Path], None]] = {
        "results.csv": lambda path: _write_csv(path, grid.axes, rows),
        "answer.txt": lambda path: _write_bytes(path, answer.encode()),
    }
    for name, write in files.items():
        temporary = folder / f".{name}.part"
        write(temporary)
        temporary.replace(folder / name)


def remove_unused(folder: Path) -> None:
    """Take back a folder in which nothing was finished."""
    if {path.name for path in folder.iterdir()} <= OURS:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _write_bytes(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write_csv(path: Path, axes: Sequence[Axis], rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column_names(axes))
        writer.writerows([plain(value) for value in cells(row)] for row in rows)
        file.flush()
        os.fsync(file.fileno())


def _sql_type(hint: object) -> str:
    """The column type of a field's annotation, optional or not."""
    members = getattr(hint, "__args__", (hint,))
    return next((SQL_TYPES[member] for member in members if member in SQL_TYPES), "TEXT")
