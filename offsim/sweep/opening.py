"""Opening the store of a sweep: a new one, one to go on with, or one in place of what never came to have rows."""

import platform
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from offsim.scenario.faults import ScenarioError
from offsim.scenario.wording import file_name, one_line
from offsim.version import offsim_version

from .column import columns_of
from .database import Contents, connect, contents, create, holds_nothing, reading
from .folder import (
    DATABASE,
    DEFAULT_ROOT,
    OURS,
    check_files,
    folder_to_resume,
    locked,
    make_folder,
    remove_database,
    remove_unused,
)
from .grid import Grid
from .panels import ANSWERED
from .store import NEW_FOLDER, Store, unwritten

NEW_NAME = "choose a new folder with --out"
MUST_AGREE = ("grid_hash", "offsim")
"""What a sweep must have in common with the one that it goes on with."""


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
        empty = _is_free(folder, resume=resume)
        try:
            with closing(_create(folder, grid, resume=resume) if empty else _reopen(folder, grid)) as store:
                try:
                    yield store
                finally:
                    empty = store.is_empty()
        finally:
            if empty:
                remove_unused(folder)


def _folder(grid: Grid, out: Path | None, *, resume: bool) -> Path:
    """Where the sweep is to be; nothing there but what a sweep leaves."""
    try:
        folder = folder_to_resume(grid, out) if resume else make_folder(grid, out)
        check_files(folder, OURS)
        return folder
    except OSError as error:
        where, what = error.filename or out or DEFAULT_ROOT, error.strerror or error
        raise ScenarioError(f"{file_name(where)}: {what}; or choose another --out") from None


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
    raise ScenarioError(f"--out={file_name(folder)}: folder is not empty, it has a sweep; go on with it with --resume")


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
            raise ScenarioError(f"{file_name(folder)}: cannot be resumed: {one_line(difference)}; {NEW_FOLDER}")
        store = Store(folder, grid, connection, known.columns, lacking=_lacking(known, grid))
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

    All rows of a table have the same columns, in any order: those that the folder was written with. It may lack some
    that this offsim writes, as long as the answer is made from none of them.
    """
    wanted = about(grid)
    for key in MUST_AGREE:
        if known.about.get(key) != wanted[key]:
            return f"its {key} is {known.about.get(key)}, this sweep's {wanted[key]}"
    today = columns_of(grid.axes)
    for column in sorted(set(known.columns) - set(today)):
        return f"its column {column.name} ({column.declared}) is none of this offsim's"
    for column in (column for column in today if column not in known.columns):
        if column.name in ANSWERED or not column.optional:
            return f"it lacks the column {column.name} ({column.declared}), which this offsim needs"
    return ""


def _lacking(known: Contents, grid: Grid) -> tuple[str, ...]:
    """The columns that this offsim writes and the folder doesn't have."""
    return tuple(column.name for column in columns_of(grid.axes) if column not in known.columns)
