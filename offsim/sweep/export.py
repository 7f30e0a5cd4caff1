"""`offsim export`: the rows of a sweep's store as one CSV or Parquet file, finished or not.

Column names carry the units; types are the row's own. What is missing is null in Parquet and empty in CSV.
Parquet keeps what the sweep is (grid, its hash, versions) as metadata of the file.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from offsim.scenario.faults import ScenarioError
from offsim.scenario.files import check_replaceable, replacing
from offsim.scenario.wording import file_name, one_line

from .column import Column
from .csv_file import write_csv
from .database import connect, contents, reading, stored_rows
from .folder import DATABASE, DATABASES, JOURNALS, check_files, check_folder

BATCH = 10_000
"""Rows in memory at once, and in one row group of Parquet."""
ADVICE = "name the folder of a sweep, as `offsim sweep` wrote it"


class StoredTable(NamedTuple):
    """A stored table: its own columns, and its rows in the order of the grid."""

    columns: tuple[Column, ...]
    lines: Iterator[list[Any]]
    about: dict[str, str]


def export_command(folder: Path, to: Path) -> str:
    """Write the rows in `folder` to a new file; returns what was done. Raises ScenarioError."""
    writer = WRITERS.get(to.suffix)
    if writer is None:
        raise ScenarioError(f"--to {file_name(to)}: expected a file that ends in {' or '.join(WRITERS)}")
    _check_new(to)
    database = _database(folder)
    with reading(database, ADVICE), closing(_read_only(database)) as connection:
        connection.execute("BEGIN")  # one state of a sweep that may still be running
        about, columns = contents(connection)
        rows = StoredTable(columns, (line.cells for line in stored_rows(connection, columns)), about)
        count = _write(to, writer, rows)
    wanted = about.get("combinations", str(count))
    return f"{count:,} rows{'' if wanted == str(count) else f' of {wanted}'} written to {one_line(str(to))}\n"


def _check_new(to: Path) -> None:
    """Say before the work that a file cannot be written, or that there is one."""
    try:
        if os.path.lexists(to):
            raise ScenarioError(f"--to {file_name(to)}: exists; choose another name")
        check_replaceable(to)
    except OSError as error:
        raise ScenarioError(f"--to {file_name(to)}: {error.strerror}") from None


def _database(folder: Path) -> Path:
    """The database of a sweep's folder, where nothing but files has its names."""
    database = folder / DATABASE
    try:
        check_folder(folder)
        check_files(folder, DATABASES)
        if database.is_file():
            return database
    except OSError as error:
        raise ScenarioError(f"{file_name(error.filename or folder)}: {error.strerror}; {ADVICE}") from None
    raise ScenarioError(f"{file_name(folder)}: has no {DATABASE}; {ADVICE}")


def _read_only(database: Path) -> sqlite3.Connection:
    """A connection that creates and changes no file.

    To share a database with a writer SQLite needs files beside it. Where those are not and cannot be made, there is
    no writer, and the database alone is all.
    """
    journals = [Path(f"{database}{journal}") for journal in JOURNALS]
    alone = not os.access(database.parent, os.W_OK) and not any(path.exists() for path in journals)
    return connect(database, "immutable" if alone else "ro")


Writer = Callable[[BinaryIO, StoredTable], int]


def _write(to: Path, writer: Writer, rows: StoredTable) -> int:
    """Complete or absent."""
    try:
        with replacing(to) as file:
            return writer(file, rows)
    except OSError as error:
        raise ScenarioError(f"--to {file_name(to)}: cannot be written: {error.strerror or error}") from None


def _csv(file: BinaryIO, rows: StoredTable) -> int:
    return write_csv(file, [column.name for column in rows.columns], rows.lines)


def _parquet(file: BinaryIO, rows: StoredTable) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ScenarioError("--to *.parquet: pyarrow is not installed; pip install 'offsim[parquet]'") from None
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    fields = [pyarrow.field(column.name, types[column.kind]) for column in rows.columns]
    schema = pyarrow.schema(fields, metadata={f"offsim.{key}": value for key, value in rows.about.items()})
    count = 0
    with pyarrow.parquet.ParquetWriter(file, schema) as out:
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
