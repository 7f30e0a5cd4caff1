"""Samples on disk: one JSON object a line, the first one says on what and how they were measured.

Every line is flushed and synced, so nothing measured is lost when the process or the machine goes; a torn last line is
dropped on reading. Values are raw readings in SI units, in the order in which they were taken.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from offsim.scenario.faults import ScenarioError
from offsim.scenario.files import check_own, check_replaceable, read_within
from offsim.sweep.database import connect

from .inventory import Inventory

Configuration = dict[str, str | float | int]
SAMPLES_SCHEMA = 1
LARGEST_MEASUREMENT_FILE = 20_000_000
"""Most bytes of a file that is read; a full calibration of two GPUs leaves 1.1 MB."""
UNREADABLE = (msgspec.MsgspecError, RecursionError)
HEADER_PREFIX = b'{"mode":'
"""Bytes that a header begins with."""


class Header(Struct):
    """The machine and the software that the samples come from."""

    mode: str
    fingerprint: str
    inventory: Inventory
    date: str
    transport: str
    schema: int = SAMPLES_SCHEMA


class ProbeSample(Struct):
    """One configuration of one probe, with everything that was read."""

    probe: str
    config: Configuration
    readings: dict[str, list[float]]
    held_out: bool
    order: int
    state: dict[str, float]
    time: str
    transport: str

    @property
    def key(self) -> tuple[str, str]:
        return sample_key(self.probe, self.config)


def sample_key(probe: str, config: Configuration) -> tuple[str, str]:
    """A key that tells configurations of probes apart."""
    return probe, json.dumps(config, sort_keys=True)


class SampleFile:
    """An append-only file of samples."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The file for this process alone while the body runs; raises ScenarioError at once if it is another's.

        The lock is SQLite's own, on an empty file beside this one, as that of a sweep's folder: it works on any system,
        ends with its process, however that ends, and no worker inherits it.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            check_replaceable(self.path)
            check_own(lock)
        except OSError as error:
            raise ScenarioError(f"{error.filename}: {error.strerror}; give another --out") from None
        try:
            with closing(connect(lock, "rwc", patience=0)) as connection:
                self._lock(connection)
                # The lock's file stays: were it removed, another process might hold the old one and a third a new one.
                yield
        except sqlite3.Error as error:
            raise ScenarioError(f"{lock}: cannot be locked ({error}); give another --out") from None

    def _lock(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            message = f"{self.path}: another calibration writes here; wait for its end or give another --out"
            raise ScenarioError(message) from None

    def begin(self, header: Header) -> None:
        """Write the header of a new file, or check that an old one goes on with the same machine and mode."""
        if self._is_new():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write(msgspec.json.encode(header), "w")
            return
        old = self.header()
        for found, wanted in zip(_told(old), _told(header), strict=True):
            if found != wanted:
                raise ScenarioError(f"{self.path}: holds samples of {found}, this is {wanted}; give another --out")
        self._mend()

    def _is_new(self) -> bool:
        """Whether the file is not there, empty, or has a header that was torn before anything was measured."""
        if not self.path.exists():
            return True
        content = self._content()
        if b"\n" in content or not content:
            return not content
        if not content.startswith(HEADER_PREFIX) and not HEADER_PREFIX.startswith(content):
            raise ScenarioError(f"{self.path}: not a file of samples; give another --out")
        return True

    def header(self) -> Header:
        """The file's first line; raises ScenarioError if it is no file of samples."""
        lines = self._lines()
        try:
            found = msgspec.json.decode(lines[0], type=Header)
        except (IndexError, *UNREADABLE) as error:
            raise ScenarioError(f"{self.path}: not a file of samples ({error})") from None
        if found.schema != SAMPLES_SCHEMA:
            raise ScenarioError(f"{self.path}: schema {found.schema}; this version reads {SAMPLES_SCHEMA}")
        return found

    def samples(self) -> list[ProbeSample]:
        """All samples, in the order in which they were measured."""
        try:
            return [msgspec.json.decode(line, type=ProbeSample) for line in self._lines()[1:]]
        except UNREADABLE as error:
            raise ScenarioError(f"{self.path}: not a file of samples ({error})") from None

    def done(self) -> set[tuple[str, str]]:
        """Keys of the configurations that are measured already."""
        return {sample.key for sample in self.samples()}

    def append(self, sample: ProbeSample) -> None:
        """Add one sample to the file; it is on the disk when this returns."""
        self._write(msgspec.json.encode(sample), "a")

    def _write(self, line: bytes, mode: str) -> None:
        with self.path.open(mode + "b") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[bytes]:
        """Whole lines only."""
        return self._content().split(b"\n")[:-1]

    def _content(self) -> bytes:
        try:
            return read_within(self.path, LARGEST_MEASUREMENT_FILE)
        except OSError as error:
            raise ScenarioError(f"{self.path}: {error.strerror}") from None

    def _mend(self) -> None:
        """Cut a torn last line off, so that the next one begins at its start."""
        whole = sum(len(line) + 1 for line in self._lines())
        if self.path.stat().st_size > whole:
            with self.path.open("r+b") as file:
                file.truncate(whole)


def _told(header: Header) -> tuple[str, str, str]:
    """What must stay the same in one file, in words."""
    node = f"node {header.fingerprint} ({header.transport})"
    gpus = header.inventory.gpus
    return node, f"{gpus} GPU{'s' if gpus > 1 else ''}", f"a {header.mode} calibration"


def read_samples(paths: list[Path]) -> tuple[list[Header], list[ProbeSample]]:
    """Headers and samples of several files of one node."""
    files = [SampleFile(path) for path in paths]
    headers = [file.header() for file in files]
    prints = {header.fingerprint for header in headers}
    if len(prints) > 1:
        raise ScenarioError(f"samples of different nodes: {', '.join(sorted(prints))}")
    return headers, [sample for file in files for sample in file.samples()]


def configuration_words(config: Configuration) -> str:
    """A configuration in words: `bytes 1048576, direction H2D`."""
    return ", ".join(f"{key} {value}" for key, value in config.items())
