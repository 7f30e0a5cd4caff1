"""The output folder of a sweep: never an existing one, and every file complete or absent."""

import csv
import io
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_type_hints

from offsim.scenario.scenario import ScenarioError

from .axis import Axis
from .grid import Grid
from .row import COLUMNS, Row, cells, column_names

DEFAULT_ROOT = Path("offsim-results")
SQL_TYPES = {float: "REAL", int: "INTEGER", bool: "INTEGER"}


def make_folder(grid: Grid, out: Path | None) -> Path:
    """A new folder, or `out` if that is empty; raises ScenarioError."""
    try:
        return _numbered(DEFAULT_ROOT / f"{grid.name}-{grid.hash}") if out is None else _given(out)
    except OSError as error:
        where = error.filename or out
        raise ScenarioError(f"{where}: cannot be written: {error.strerror}; choose another --out") from None


def _given(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise ScenarioError(f"--out={out}: is a file; choose a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ScenarioError(f"--out={out}: folder is not empty; choose a new one with --out")
    probe = out / ".writable"
    probe.touch()
    probe.unlink()
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
    """results.csv, results.sqlite, the grid as it was read, and the answer; raises ScenarioError."""
    files: dict[str, Callable[[Path], None]] = {
        "grid.toml": lambda path: _write_bytes(path, grid.source),
        "results.csv": lambda path: _write_bytes(path, _csv(grid.axes, rows).encode()),
        "results.sqlite": lambda path: _write_sqlite(path, grid.axes, rows),
        "answer.txt": lambda path: _write_bytes(path, answer.encode()),
    }
    try:
        for name, write in files.items():
            temporary = folder / f".{name}.part"
            write(temporary)
            temporary.replace(folder / name)
    except (OSError, sqlite3.Error) as error:
        raise ScenarioError(f"{folder}: cannot be written: {error}; choose another --out") from None


def remove_empty(folder: Path) -> None:
    """Take back a folder that nothing was written to."""
    try:
        folder.rmdir()
    except OSError:
        return


def _write_bytes(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _csv(axes: Sequence[Axis], rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column_names(axes))
    writer.writerows([_plain(value) for value in cells(row)] for row in rows)
    return text.getvalue()


def _plain(value: object) -> object:
    """A cell of the CSV: nothing for None, lower-case truth values."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value


def _write_sqlite(path: Path, axes: Sequence[Axis], rows: Sequence[Row]) -> None:
    path.unlink(missing_ok=True)
    hints = get_type_hints(Row)
    columns = [f'"{name}" TEXT NOT NULL' for name in column_names(axes)[: len(axes)]]
    columns += [f'"{name}" {_sql_type(hints[name])}' for name in COLUMNS]
    places = ", ".join("?" * len(columns))
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"CREATE TABLE rows ({', '.join(columns)})")
        connection.executemany(f"INSERT INTO rows VALUES ({places})", [cells(row) for row in rows])
        connection.commit()
    finally:
        connection.close()


def _sql_type(hint: object) -> str:
    """The column type of a field's annotation, optional or not."""
    members = getattr(hint, "__args__", (hint,))
    return next((SQL_TYPES[member] for member in members if member in SQL_TYPES), "TEXT")
