"""The store of a sweep: every finished row is in its database at once, all else is written from there at the end.

A row counts as finished when its transaction is in the write-ahead log on disk: neither a kill nor a power failure
loses any of those, and nothing is ever half there.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from offsim.scenario.faults import ScenarioError
from offsim.scenario.files import replacing
from offsim.scenario.wording import file_name

from .column import Column, columns_of
from .csv_file import write_csv
from .database import checksum, quoted, reading, stored_rows, transaction
from .folder import ANSWER, DATABASE, GRID, TABLE
from .grid import Grid
from .row import COLUMNS, Result, Row

NEW_FOLDER = "leave --resume out for a new folder"
Unmeasured = tuple[tuple[str, str], ...]


class Store:
    """The rows of one sweep on disk."""

    def __init__(
        self,
        folder: Path,
        grid: Grid,
        connection: sqlite3.Connection,
        columns: Sequence[Column],
        *,
        anew: bool = False,
        lacking: Sequence[str] = (),
    ) -> None:
        self.folder, self.grid = folder, grid
        self.anew = anew
        """Whether it took the place of what held nothing."""
        self.lacking = lacking
        """Columns that this version writes and the folder was made without: no row of it has them."""
        self.count = 0
        """Rows that are stored."""
        self.columns = tuple(columns)
        """Those of the folder."""
        self._connection = connection
        written = [column.name for column in columns_of(grid.axes)]
        self.places = tuple(written.index(column.name) for column in columns)
        """The places of the folder's columns among those that a row has."""
        self._exact = [_real if column.stored is float else column.stored for column in columns]
        """What makes a value exactly the one that SQLite will give back: it knows neither -0.0 nor NaN."""
        names = ", ".join(quoted(column.name) for column in columns)
        places = ", ".join("?" * len(columns))
        self._insert = f"INSERT INTO rows (number, unmeasured, checksum, {names}) VALUES (?, ?, ?, {places})"
        self._lists: dict[Unmeasured, tuple[int, int]] = {}
        """Numbers and checksums of the lists of unmeasured values that are stored: most rows share one."""

    def add(self, number: int, result: Result) -> None:
        """Keep a finished combination; it is durable when this returns."""
        found = zip(self._exact, self._cells(result.row), strict=True)
        cells = [None if value is None or value != value else exact(value) for exact, value in found]
        with self._writing(DATABASE), transaction(self._connection):
            listed, start = self._list(result.unmeasured)
            self._connection.execute(self._insert, (number, listed, checksum(number, cells, start), *cells))
        self._lists[result.unmeasured] = listed, start
        self.count += 1

    def _cells(self, row: Row) -> list[Any]:
        """A row's values in the order of the folder's columns."""
        values = (*row.labels, *row.cells)
        return [values[at] for at in self.places]

    def _list(self, unmeasured: Unmeasured) -> tuple[int, int]:
        """The number and checksum of a list of unmeasured values, stored on its first use."""
        if unmeasured in self._lists:
            return self._lists[unmeasured]
        text = json.dumps(unmeasured)
        added = self._connection.execute("INSERT INTO unmeasured (list) VALUES (?)", (text,))
        return int(added.lastrowid or 0), crc32(text.encode())

    def finished(self) -> set[int]:
        """The numbers of all finished combinations; those that failed are not among them."""
        with reading(self.folder / DATABASE, NEW_FOLDER):
            return {n for (n,) in self._connection.execute("SELECT number FROM rows WHERE status != 'error'")}

    def everything(self) -> list[Result]:
        """All stored combinations in the order of the grid, failed ones included."""
        with reading(self.folder / DATABASE, NEW_FOLDER):
            return list(self._results())

    def _results(self) -> Iterator[Result]:
        known = dict[str, Unmeasured]()
        for _, cells, text in stored_rows(self._connection, self.columns):
            if text not in known:
                known[text] = tuple(map(tuple, json.loads(text)))
            yield Result(self._row(cells), known[text])

    def _row(self, cells: Sequence[Any]) -> Row:
        """The row of what the folder's columns have; nothing in those that it lacks."""
        axes = len(self.grid.axes)
        values: list[Any] = [None] * (axes + len(COLUMNS))
        for at, value in zip(self.places, cells, strict=True):
            values[at] = value
        return Row(tuple(values[:axes]), tuple(values[axes:]))

    def write_results(self, rows: Sequence[Row], answer: str) -> None:
        """Write results.csv and the answer, each complete or absent."""
        names = [column.name for column in self.columns]
        self._replace(TABLE, lambda file: write_csv(file, names, map(self._cells, rows)))
        self._replace(ANSWER, lambda file: file.write(answer.encode()))

    def write_grid(self) -> None:
        """Write the grid's file as it was read."""
        self._replace(GRID, lambda file: file.write(self.grid.source))

    def _replace(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        with self._writing(name), replacing(self.folder / name) as file:
            write(file)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Raise ScenarioError for what cannot be written; it says what is kept."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise ScenarioError(unwritten(self.folder / name, error, self.count)) from None

    def is_empty(self) -> bool:
        """Whether nothing is stored: asked of the database, since an interrupt may come between a row and its count."""
        with suppress(sqlite3.Error):
            return self._connection.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is None
        return False

    def close(self) -> None:
        """Give the database back."""
        self._connection.close()

    def begin(self) -> None:
        """Count what is stored, every row of it as it was written; combinations that failed are tried again."""
        with reading(self.folder / DATABASE, NEW_FOLDER):
            self.count = sum(1 for _ in stored_rows(self._connection, self.columns))
        with self._writing(DATABASE), transaction(self._connection):
            self.count -= self._connection.execute("DELETE FROM rows WHERE status = 'error'").rowcount


def _real(value: float) -> float:
    return float(value) + 0.0  # -0.0 becomes 0.0


def unwritten(path: Path, error: OSError | sqlite3.Error, count: int) -> str:
    """The message that something cannot be written, and how many rows are safe."""
    what = getattr(error, "strerror", None) or error
    if count:
        kept = f"what was stored is kept ({count:,} rows): make room and go on with --resume, or choose another --out"
    else:
        kept = "nothing was stored: make room, or choose another --out"
    return f"{file_name(path)}: cannot be written: {what}; {kept}"
