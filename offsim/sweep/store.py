"""The store of a sweep: every finished row is in its database at once, all else is written from there at the end.

A row counts as finished when its transaction is in the write-ahead log on disk: neither a kill nor a power failure
loses any of those, and nothing is ever half there. What has no rows yet is started anew, in whatever state it is.
"""

import json
import platform
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from offsim.scenario.files import replacing
from offsim.scenario.scenario import ScenarioError
from offsim.scenario.wording import one_line

from .column import Column, columns_of
from .csv_file import write_csv
from .database import (
    Contents,
    checksum,
    connect,
    contents,
    create,
    holds_nothing,
    lines,
    quoted,
    reading,
    transaction,
)
from .folder import (
    ANSWER,
    DATABASE,
    GRID,
    OURS,
    TABLE,
    check_files,
    folder_to_resume,
    locked,
    make_folder,
    remove_database,
    remove_unused,
)
from .grid import Grid
from .row import Result, Row, offsim_version

NEW_FOLDER = "leave --resume out for a new folder"
NEW_NAME = "choose a new folder with --out"
MUST_AGREE = ("grid_hash", "offsim")
"""What a sweep must have in common with the one that it goes on with."""
Unmeasured = tuple[tuple[str, str], ...]


class Store:
    """The rows of one sweep on disk."""

    def __init__(
        self, folder: Path, grid: Grid, connection: sqlite3.Connection, columns: Sequence[Column], *, anew: bool = False
    ) -> None:
        self.folder, self.grid = folder, grid
        self.anew = anew
        """Whether it took the place of what held nothing."""
        self.count = 0
        """Rows that are stored."""
        self._connection, self._columns = connection, columns
        written = [column.name for column in columns_of(grid.axes)]
        self._places = [written.index(column.name) for column in columns]
        """Of the folder's columns among those that a row has."""
        self._kinds = [column.stored for column in columns]
        names = ", ".join(quoted(column.name) for column in columns)
        places = ", ".join("?" * len(columns))
        self._insert = f"INSERT INTO rows (number, unmeasured, checksum, {names}) VALUES (?, ?, ?, {places})"
        self._lists: dict[Unmeasured, tuple[int, int]] = {}
        """Numbers and checksums of the lists of unmeasured values that are stored: most rows share one."""

    def add(self, number: int, result: Result) -> None:
        """Keep a finished combination; it is durable when this returns."""
        found = zip(self._kinds, self._cells(result.row), strict=True)
        # Of exactly the type that SQLite will give back; it has no NaN, and keeps it as nothing.
        cells = [None if value is None or value != value else kind(value) for kind, value in found]
        with self._writing(DATABASE), transaction(self._connection):
            listed, start = self._list(result.unmeasured)
            self._connection.execute(self._insert, (number, listed, checksum(number, cells, start), *cells))
        self._lists[result.unmeasured] = listed, start
        self.count += 1

    def _cells(self, row: Row) -> list[Any]:
        """A row's values in the order of the folder's columns."""
        values = (*row.labels, *row[1:])
        return [values[at] for at in self._places]

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
        axes, known = len(self.grid.axes), dict[str, Unmeasured]()
        order = sorted(range(len(self._places)), key=self._places.__getitem__)
        for _, cells, text in lines(self._connection, self._columns):
            if text not in known:
                known[text] = tuple(map(tuple, json.loads(text)))
            values: list[Any] = [cells[at] for at in order]
            yield Result(Row(tuple(values[:axes]), *values[axes:]), known[text])

    def write_results(self, rows: Sequence[Row], answer: str) -> None:
        """results.csv and the answer, each complete or absent."""
        names = [column.name for column in self._columns]
        self._replace(TABLE, lambda file: write_csv(file, names, map(self._cells, rows)))
        self._replace(ANSWER, lambda file: file.write(answer.encode()))

    def write_grid(self) -> None:
        """The grid's file as it was read."""
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

    def close(self) -> None:
        """Give the database back."""
        self._connection.close()

    def begin(self) -> None:
        """Count what is stored, every row of it as it was written; combinations that failed are tried again."""
        with reading(self.folder / DATABASE, NEW_FOLDER):
            self.count = sum(1 for _ in lines(self._connection, self._columns))
        with self._writing(DATABASE), transaction(self._connection):
            self.count -= self._connection.execute("DELETE FROM rows WHERE status = 'error'").rowcount


def unwritten(path: Path, error: OSError | sqlite3.Error, count: int) -> str:
    """The message that something cannot be written, and how many rows are safe."""
    what = getattr(error, "strerror", None) or error
    if count:
        kept = f"what was stored is kept ({count:,} rows): make room and go on with --resume, or choose another --out"
    else:
        kept = "nothing was stored: make room, or choose another --out"
    return one_line(f"{path}: cannot be written: {what}; {kept}")


def about(grid: Grid) -> dict[str, str]:
    """What a sweep is and what made it: what must agree for it to be resumed, and what is good to know."""
    return {
        "grid": grid.name,
        "grid_hash": grid.hash,
        "combinations": str(len(grid.combinations)),
        "offsim": offsim_version(),
        "python": platform.python_version(),
        "simpy": version("simpy"),
    }


@contextmanager
def opened(grid: Grid, out: Path | None, *, resume: bool) -> Iterator[Store]:
    """The store of a new sweep, or of one to be resumed; raises ScenarioError for what stands in the way.

    A folder in which nothing was stored in the end is taken back.
    """
    folder = _folder(grid, out, resume=resume)
    with locked(folder):
        free = _is_free(folder, resume=resume)
        store = None
        try:
            with closing(_create(folder, grid, resume=resume) if free else _reopen(folder, grid)) as store:
                yield store
        finally:
            if store.count == 0 if store else free:
                remove_unused(folder)


def _folder(grid: Grid, out: Path | None, *, resume: bool) -> Path:
    """Where the sweep is to be; nothing there but what a sweep leaves."""
    try:
        folder = folder_to_resume(grid, out) if resume else make_folder(grid, out)
        check_files(folder, OURS)
        return folder
    except OSError as error:
        where, what = error.filename or out, error.strerror or error
        raise ScenarioError(one_line(f"{where}: {what}; or choose another --out")) from None


def _is_free(folder: Path, *, resume: bool) -> bool:
    """Whether nothing is stored there; raises ScenarioError for what is neither that nor to be resumed."""
    database = folder / DATABASE
    if not database.exists():
        return True
    with reading(database, NEW_FOLDER if resume else NEW_NAME), closing(connect(database, "rw")) as connection:
        if holds_nothing(connection):
            return True
        if resume:
            return False
        contents(connection)
    raise ScenarioError(f"--out={folder}: folder is not empty, it has a sweep; go on with it with --resume")


def _create(folder: Path, grid: Grid, *, resume: bool) -> Store:
    """A store without rows, in place of what held nothing."""
    database, columns = folder / DATABASE, columns_of(grid.axes)
    try:
        anew = resume or database.exists()
        remove_database(folder)
        with _closed_if_it_fails(connect(database, "rwc")) as connection:
            _make_durable(connection)
            create(connection, about(grid), columns)
            store = Store(folder, grid, connection, columns, anew=anew)
            store.write_grid()
            return store
    except (OSError, sqlite3.Error) as error:
        raise ScenarioError(unwritten(database, error, 0)) from None


def _reopen(folder: Path, grid: Grid) -> Store:
    """The store of a sweep that this one can go on with, as it was written."""
    database = folder / DATABASE
    with reading(database, NEW_FOLDER), _closed_if_it_fails(connect(database, "rw")) as connection:
        _make_durable(connection)
        known = contents(connection)
        difference = _difference(known, grid)
        if difference:
            raise ScenarioError(one_line(f"{folder}: cannot be resumed: {difference}; {NEW_FOLDER}"))
        store = Store(folder, grid, connection, known.columns)
        store.begin()
        return store


@contextmanager
def _closed_if_it_fails(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _make_durable(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _difference(known: Contents, grid: Grid) -> str:
    """Why the rows of a folder don't go together with those of this sweep; empty if they do.

    The same columns, in any order: a table in which some rows lack what others have would answer nothing rightly.
    """
    wanted = about(grid)
    for key in MUST_AGREE:
        if known.about.get(key) != wanted[key]:
            return f"its {key} is {known.about.get(key)}, this sweep's {wanted[key]}"
    written, today = set(known.columns), set(columns_of(grid.axes))
    for column in sorted(written - today):
        return f"its column {column.name} ({column.declared}) is none of this offsim's"
    for column in sorted(today - written):
        return f"it lacks the column {column.name} ({column.declared}), which this offsim writes"
    return ""
