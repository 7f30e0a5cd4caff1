"""The format of results.sqlite, and reading it: by the names of columns, and nothing that isn't as it was written.

Four tables: `about` (what the sweep is), `columns` (those of `rows`, in order), `unmeasured` (lists of values that
were not measured: most rows share one) and `rows`. All four come to be in one transaction, so a database has none of
them or is complete. A checksum per row covers its number, its cells and its list; one in `about` covers the rest.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from msgspec.msgpack import Encoder

from offsim.scenario.faults import ScenarioError
from offsim.scenario.wording import LONGEST_LIST, LONGEST_VALUE, cut, file_name, one_line

from .column import CELL_TYPES, Column

APPLICATION = int.from_bytes(b"ofsm", "big")
"""What SQLite's header says a database is for."""
VERSION = 2
"""The version of the format. Version 1 named neither its columns nor its application, and had no checksums."""
OWN = {
    "about": (Column("key", "TEXT", False), Column("value", "TEXT", False)),
    "columns": (
        Column("position", "INTEGER", False),
        Column("name", "TEXT", False),
        Column("type", "TEXT", False),
        Column("optional", "BOOLEAN", False),
    ),
    "unmeasured": (Column("number", "INTEGER", False), Column("list", "TEXT", False)),
}
"""Columns of all tables but `rows`."""
LEADING = tuple(Column(name, "INTEGER", False) for name in ("number", "unmeasured", "checksum"))
"""Columns of `rows` before the table's own."""
TABLES = {*OWN, "rows"}
COMMIT_PATIENCE = 5.0
"""Seconds to wait for another process that is just committing."""
encode = Encoder().encode


class Unreadable(Exception):
    """What is wrong with a database, without its name."""


class Contents(NamedTuple):
    """What a database says of itself."""

    about: dict[str, str]
    columns: tuple[Column, ...]


class StoredRow(NamedTuple):
    """A stored row: cells in the order of the folder's columns."""

    number: int
    cells: list[Any]
    unmeasured: str
    """JSON of (node.key, provenance) pairs."""


def connect(path: Path, mode: str, patience: float = COMMIT_PATIENCE) -> sqlite3.Connection:
    """A connection in SQLite's own mode: ro, rw, rwc (which creates) or immutable; transactions begin when told."""
    options = "immutable=1" if mode == "immutable" else f"mode={mode}"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=patience, isolation_level=None)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is written meanwhile, or none of it; Python's own would leave CREATE TABLE outside."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends one itself when the disk is full
            connection.execute("ROLLBACK")
        raise


@contextmanager
def reading(database: Path, advice: str) -> Iterator[None]:
    """Raise ScenarioError, which names the file and ends in the advice, for whatever is wrong with a database."""
    try:
        yield
    except (Unreadable, sqlite3.Error, UnicodeDecodeError, MemoryError) as error:
        raise ScenarioError(f"{file_name(database)}: {one_line(_wrong(error))}; {advice}") from None


def _wrong(error: Exception) -> str:
    said = cut(str(error), LONGEST_LIST) or type(error).__name__
    if isinstance(error, Unreadable):
        return said
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return f"not the store of a sweep ({said})"
    damaged = isinstance(error, sqlite3.DatabaseError | UnicodeError) and not isinstance(
        error, sqlite3.OperationalError
    )
    return f"damaged ({said})" if damaged else f"cannot be read ({said})"


def create(connection: sqlite3.Connection, about: Mapping[str, str], columns: Sequence[Column]) -> None:
    """Write everything but rows, at once."""
    entries = {**about, "checksum": _sealed(about, columns)}
    with transaction(connection):
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        for table, own in {**OWN, "rows": (*LEADING, *columns)}.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(map(_declared, own))})")
        connection.executemany("INSERT INTO about (key, value) VALUES (?, ?)", entries.items())
        connection.executemany(
            "INSERT INTO columns (position, name, type, optional) VALUES (?, ?, ?, ?)",
            ((position, *column) for position, column in enumerate(columns)),
        )


def _declared(column: Column) -> str:
    rest = " PRIMARY KEY" if column.name == "number" else "" if column.optional else " NOT NULL"
    return f"{quoted(column.name)} {column.declared}{rest}"


def quoted(name: str) -> str:
    """The name of a column as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def checksum(number: int, cells: Sequence[object], unmeasured: int) -> int:
    """A row's checksum; `unmeasured` is that of its list. Types count: 1, 1.0, "1" and nothing differ."""
    return crc32(encode((number, *cells)), unmeasured)


def _sealed(about: Mapping[str, str], columns: Sequence[Column]) -> str:
    """The checksum of what stands beside the rows."""
    return f"{crc32(encode((sorted(about.items()), [tuple(column) for column in columns]))):08x}"


def holds_nothing(connection: sqlite3.Connection) -> bool:
    """Whether nothing is lost with a database: no row of a sweep, and no table of anything else."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    objects = {name for _, name in _objects(connection)}
    if application not in (0, APPLICATION) or not objects <= TABLES:
        return False
    return "rows" not in objects or connection.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is None


def _objects(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """(type, name) of every table, view, index and trigger that isn't SQLite's own."""
    return connection.execute(
        "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()


def contents(connection: sqlite3.Connection) -> Contents:
    """What a sound database says of itself; raises Unreadable and sqlite3.Error."""
    _check_format(connection)
    for (found,) in connection.execute("PRAGMA integrity_check(1)"):
        if found != "ok":
            raise Unreadable(f"damaged ({found})")
    objects = _objects(connection)
    _check_names("tables", [name for _, name in objects], TABLES)
    for table, own in OWN.items():
        _check_columns(connection, table, own)
    columns = tuple(_own_columns(connection))
    _check_columns(connection, "rows", (*LEADING, *columns))
    entries = dict(_read(connection, "about", OWN["about"]))
    if entries.pop("checksum", None) != _sealed(entries, columns):
        raise Unreadable("damaged: what it says of itself is not what was written")
    return Contents(entries, columns)


def _check_format(connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == 0 and {name for _, name in _objects(connection)} == TABLES - {"columns"}:
        raise Unreadable("written by an older offsim, in a format without checksums that this one doesn't read")
    if application != APPLICATION:
        raise Unreadable("not the store of a sweep")
    if version != VERSION:
        raise Unreadable(f"its format has version {version}, this offsim reads version {VERSION}")


def _own_columns(connection: sqlite3.Connection) -> Iterator[Column]:
    for at, (position, name, declared, optional) in enumerate(
        _read(connection, "columns", OWN["columns"], "ORDER BY position")
    ):
        if position != at or declared not in CELL_TYPES:
            raise Unreadable(f"damaged: entry {at} of its table of columns is not what was written")
        yield Column(name, declared, bool(optional))


def _read(connection: sqlite3.Connection, table: str, own: Sequence[Column], order: str = "") -> Iterator[list[Any]]:
    """A table's lines, each cell of its column's type."""
    fitting: set[tuple[type, ...]] = set()
    for cells in connection.execute(f"SELECT {', '.join(quoted(one.name) for one in own)} FROM {table} {order}"):
        types = tuple(map(type, cells))
        if types not in fitting:
            _check_types(table, own, cells)
            fitting.add(types)
        yield list(cells)


def _check_types(table: str, columns: Sequence[Column], cells: Sequence[object]) -> None:
    for column, value in zip(columns, cells, strict=True):
        if type(value) is not column.stored and not (value is None and column.optional):
            where = f"row {cells[0]}" if columns[0].name == "number" else "an entry"
            found = "nothing" if value is None else f"{type(value).__name__} {cut(repr(value), LONGEST_VALUE // 2)}"
            raise Unreadable(
                f"{where} of its table {table} has {found} as {_short(column.name)}, not {column.declared}"
            )


def _check_columns(connection: sqlite3.Connection, table: str, wanted: Sequence[Column]) -> None:
    """The columns that a table has are those that it should have, whatever their order."""
    found = {name: declared for _, name, declared, *_ in connection.execute(f"PRAGMA table_xinfo({table})")}
    _check_names(f"columns of {table}", found, [column.name for column in wanted])
    for column in wanted:
        if found[column.name] != column.declared:
            raise Unreadable(
                f"not as it was written: {_short(column.name)} of {table} is declared "
                f"{_short(found[column.name])}, not {column.declared}"
            )


def _check_names(what: str, found: Sequence[str] | Mapping[str, str], wanted: Sequence[str] | set[str]) -> None:
    for name in found:
        if name not in wanted:
            raise Unreadable(f"not as it was written: {_short(name)} is none of the {what}")
    for name in sorted(wanted):
        if name not in found:
            raise Unreadable(f"not as it was written: {name} is missing from the {what}")


def _short(name: str) -> str:
    return cut(name, LONGEST_VALUE // 2)


def stored_rows(connection: sqlite3.Connection, columns: Sequence[Column]) -> Iterator[StoredRow]:
    """Every stored row in the order of the grid; raises Unreadable for one that is not what was written."""
    lists = {
        number: (text, crc32(text.encode())) for number, text in _read(connection, "unmeasured", OWN["unmeasured"])
    }
    truths = [i for i, column in enumerate(columns) if column.kind is bool]
    for number, listed, found, *cells in _read(connection, "rows", (*LEADING, *columns), "ORDER BY number"):
        if listed not in lists or checksum(number, cells, lists[listed][1]) != found:
            raise Unreadable(f"row {number} is not what was written: its checksum is wrong")
        for i in truths:
            cells[i] = None if cells[i] is None else bool(cells[i])
        yield StoredRow(number, cells, lists[listed][0])
