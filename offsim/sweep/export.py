"""`offsim export`: the rows of a sweep's store as one CSV or Parquet file, finished or not.

Column names carry the units; types are the row's own. What is missing is null in Parquet and empty in CSV.
Parquet keeps what the sweep is (grid, its hash, versions) as metadata of the file.
"""

import csv
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from offsim.scenario.scenario import ScenarioError

from .row import COLUMNS, Row, plain
from .store import DATABASE

BATCH = 10_000
"""Rows in memory at once, and in one row group of Parquet."""


class Rows(NamedTuple):
    """A stored table: its columns, and its rows in the order of the grid."""

    names: list[str]
    kinds: list[type]
    """Of a column's values: str, int, float or bool; any may be None."""
    lines: Iterator[list[Any]]
    about: dict[str, str]


def export_command(folder: Path, to: Path) -> str:
    """Write the rows in `folder` to a new file; returns what was done. Raises ScenarioError and OSError."""
    writer = WRITERS.get(to.suffix)
    if writer is None:
        raise ScenarioError(f"--to {to}: expected a file that ends in {' or '.join(WRITERS)}")
    if to.exists():
        raise ScenarioError(f"--to {to}: exists; choose another name")
    if not to.absolute().parent.is_dir():
        raise ScenarioError(f"--to {to}: no directory {to.absolute().parent}")
    database = folder / DATABASE
    if not database.is_file():
        raise ScenarioError(f"{folder}: has no {DATABASE}; name the folder that `offsim sweep` wrote to")
    with closing(sqlite3.connect(f"file:{database.absolute()}?mode=ro", uri=True)) as connection:
        try:
            count = _write(to, writer, _stored(connection))
        except sqlite3.Error as error:
            raise ScenarioError(f"{database}: not the store of a sweep ({error})") from None
    return f"{count:,} rows written to {to}\n"


def _stored(connection: sqlite3.Connection) -> Rows:
    about = dict(connection.execute("SELECT key, value FROM about"))
    cursor = connection.execute("SELECT * FROM rows ORDER BY number")
    stored = [column[0] for column in cursor.description]
    names = [*(name for name in stored if name.startswith("axis_")), *COLUMNS]
    hints = get_type_hints(Row)
    kinds = [_kind(hints[name]) if name in hints else str for name in names]
    places = [stored.index(name) for name in names]
    lines = ([_value(line[at], kind) for at, kind in zip(places, kinds, strict=True)] for line in cursor)
    return Rows(names, kinds, lines, about)


def _kind(hint: Any) -> type:
    """The type of a field's values, be it optional or a list of words."""
    members = getattr(hint, "__args__", (hint,))
    return next((kind for kind in (bool, int, float) if kind in members), str)


def _value(stored: Any, kind: type) -> Any:
    return bool(stored) if kind is bool and stored is not None else stored


def _write(to: Path, writer: "Writer", rows: Rows) -> int:
    """Complete or absent: written beside and renamed."""
    part = to.with_name(f".{to.name}.part")
    try:
        count = writer(part, rows)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
    return count


Writer = Callable[[Path, Rows], int]


def _csv(path: Path, rows: Rows) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(rows.names)
        for line in rows.lines:
            out.writerow([plain(value) for value in line])
            count += 1
    return count


def _parquet(path: Path, rows: Rows) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ScenarioError("--to *.parquet: pyarrow is not installed; pip install 'offsim[parquet]'") from None
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    fields = [pyarrow.field(name, types[kind]) for name, kind in zip(rows.names, rows.kinds, strict=True)]
    schema = pyarrow.schema(fields, metadata={f"offsim.{key}": value for key, value in rows.about.items()})
    count = 0
    with pyarrow.parquet.ParquetWriter(path, schema) as out:
        for batch in _batches(rows.lines):
            columns = [pyarrow.array([line[i] for line in batch], field.type) for i, field in enumerate(fields)]
            out.write_batch(pyarrow.record_batch(columns, schema=schema))
            count += len(batch)
    return count


def _batches(lines: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    left = iter(lines)
    while batch := list(islice(left, BATCH)):
        yield batch


WRITERS: dict[str, Writer] = {".csv": _csv, ".parquet": _parquet}
