"""The folder of a sweep: its name, what may stand in it, and that one sweep at a time writes there.

The lock is SQLite's own, on an empty file beside the database: where the database works it does too, on any system. It
ends with its process, however that ends, and no worker inherits it.
"""

import errno
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from offsim.scenario.faults import ScenarioError
from offsim.scenario.files import PART, check_own, check_possible
from offsim.scenario.wording import file_name

from .database import connect
from .grid import Grid

DEFAULT_ROOT = Path("offsim-results")
DATABASE, LOCK, GRID = "results.sqlite", ".lock", "grid.toml"
TABLE, ANSWER = "results.csv", "answer.txt"
JOURNALS = ("-wal", "-shm", "-journal")
DATABASES = {DATABASE, *(f"{DATABASE}{journal}" for journal in JOURNALS)}
LONGEST_DATABASE_PATH = 504
"""Bytes of a database's absolute path: SQLite has 512 for it and what it puts behind."""
OURS = {*DATABASES, LOCK, *(f"{LOCK}{journal}" for journal in JOURNALS), GRID, TABLE, ANSWER}


def check_folder(folder: Path) -> None:
    """Raise OSError for a folder that cannot have a database, before anything is made there."""
    check_possible(folder)
    length = len(os.fsencode((folder / DATABASE).absolute()))
    if length > LONGEST_DATABASE_PATH:
        reason = (
            f"a path of {length} bytes with its {DATABASE}, and SQLite opens none of more than {LONGEST_DATABASE_PATH}"
        )
        raise OSError(errno.ENAMETOOLONG, reason, str(folder))


def make_folder(grid: Grid, out: Path | None) -> Path:
    """A new folder, or `out` if no one else has anything there; raises ScenarioError and OSError."""
    check_folder(out or _first(grid))
    return _numbered(_first(grid)) if out is None else _given(out)


def _first(grid: Grid) -> Path:
    return DEFAULT_ROOT / f"{grid.name}-{grid.hash}"


def _given(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise ScenarioError(f"--out={file_name(out)}: is a file; choose a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    if not _has_database(out) and not _only_ours(out):
        raise ScenarioError(f"--out={file_name(out)}: folder is not empty; choose a new one with --out")
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


def folder_to_resume(grid: Grid, out: Path | None) -> Path:
    """The folder given, or the latest one of this grid; raises ScenarioError and OSError."""
    check_folder(out or _first(grid))
    folder = _latest(_first(grid)) if out is None else out
    if folder is None or not _resumable(folder):
        raise ScenarioError(
            f"--resume: no sweep to resume in {file_name(folder or _first(grid))}; leave --resume out, "
            "or name its folder with --out"
        )
    return folder


def _resumable(folder: Path) -> bool:
    """Whether there is a sweep, or what is left of one that was stopped before it had a database."""
    return folder.is_dir() and (_has_database(folder) or _only_ours(folder))


def _has_database(folder: Path) -> bool:
    return os.path.lexists(folder / DATABASE)


def _only_ours(folder: Path) -> bool:
    return all(is_ours(path.name) for path in folder.iterdir())


def is_ours(name: str) -> bool:
    """Whether a sweep writes a file of this name."""
    return name in OURS or bool(PART.fullmatch(name))


def _latest(first: Path) -> Path | None:
    """The one of the highest number; a name that only begins like theirs isn't one of them."""
    ours = re.compile(rf"{re.escape(first.name)}(?:-([2-9]|[1-9][0-9]+))?")
    found = [(match, path) for path in _entries(first.parent) if (match := ours.fullmatch(path.name))]
    numbered = {int(match[1] or 1): path for match, path in found if _resumable(path)}
    return numbered[max(numbered)] if numbered else None


def _entries(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Raise OSError if anything but a file has one of these names: a link would be followed, a pipe hang."""
    for name in names:
        check_own(folder / name)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone; raises ScenarioError at once if it is another's."""
    path = folder / LOCK
    try:
        with closing(connect(path, "rwc", patience=0)) as connection:
            _lock(connection, folder)
            # The file stays: were it removed, another process might lock the old one and a third a new one.
            yield
    except sqlite3.Error as error:
        raise ScenarioError(f"{file_name(path)}: cannot be locked ({error}); choose another --out") from None


def _lock(connection: sqlite3.Connection, folder: Path) -> None:
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        raise ScenarioError(
            f"{file_name(folder)}: another sweep is writing here; wait for it or choose another --out"
        ) from None


def remove_database(folder: Path) -> None:
    """Take away a database that holds nothing, and what SQLite had beside it; raises OSError."""
    for name in sorted(DATABASES):
        (folder / name).unlink(missing_ok=True)


def remove_unused(folder: Path) -> None:
    """Take back a folder in which nothing was finished, if nobody else has anything there."""
    with suppress(OSError):
        if _only_ours(folder):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
