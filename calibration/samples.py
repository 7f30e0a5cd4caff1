"""Samples on disk: one JSON object a line, the first one says on what and how they were measured.

Every line is flushed and synced, so nothing measured is lost when the process or the machine goes; a torn last line is
dropped on reading. Values are raw readings in SI units, in the order in which they were taken.
"""

import json
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from offsim.scenario.scenario import ScenarioError

from .inventory import Inventory

Config = dict[str, str | float | int]


class Header(Struct):
    """The machine and the software that the samples come from."""

    mode: str
    fingerprint: str
    inventory: Inventory
    date: str
    transport: str
    schema: int = 1


class Sample(Struct):
    """One configuration of one probe."""

    probe: str
    config: Config
    readings: dict[str, list[float]]
    held_out: bool
    order: int
    state: dict[str, float]
    time: str
    transport: str

    @property
    def key(self) -> tuple[str, str]:
        return sample_key(self.probe, self.config)


def sample_key(probe: str, config: Config) -> tuple[str, str]:
    """What tells configurations apart."""
    return probe, json.dumps(config, sort_keys=True)


class SampleFile:
    """An append-only file of samples."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, header: Header) -> None:
        """Write the header of a new file, or check that an old one is of the same machine."""
        if not self.path.exists() or not self._lines():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write(msgspec.json.encode(header), "w")
            return
        old = self.header()
        if old.fingerprint != header.fingerprint or old.transport != header.transport:
            found, wanted = f"{old.fingerprint} ({old.transport})", f"{header.fingerprint} ({header.transport})"
            raise ScenarioError(f"{self.path}: holds samples of node {found}, this is {wanted}; give another --out")
        self._mend()

    def header(self) -> Header:
        """The first line; ScenarioError if it is no sample file."""
        lines = self._lines()
        try:
            return msgspec.json.decode(lines[0], type=Header)
        except (IndexError, msgspec.MsgspecError) as error:
            raise ScenarioError(f"{self.path}: not a file of samples ({error})") from None

    def samples(self) -> list[Sample]:
        """All samples, in the order in which they were measured."""
        try:
            return [msgspec.json.decode(line, type=Sample) for line in self._lines()[1:]]
        except msgspec.MsgspecError as error:
            raise ScenarioError(f"{self.path}: not a file of samples ({error})") from None

    def done(self) -> set[tuple[str, str]]:
        """Keys of what is measured already."""
        return {sample.key for sample in self.samples()}

    def append(self, sample: Sample) -> None:
        """Add one sample; on the disk when this returns."""
        self._write(msgspec.json.encode(sample), "a")

    def _write(self, line: bytes, mode: str) -> None:
        with self.path.open(mode + "b") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[bytes]:
        """Whole lines only."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ScenarioError(f"{self.path}: {error.strerror}") from None
        return content.split(b"\n")[:-1]

    def _mend(self) -> None:
        """Cut a torn last line off, so that the next one begins at its start."""
        whole = sum(len(line) + 1 for line in self._lines())
        if self.path.stat().st_size > whole:
            with self.path.open("r+b") as file:
                file.truncate(whole)


def read_samples(paths: list[Path]) -> tuple[list[Header], list[Sample]]:
    """Headers and samples of several files of one node."""
    files = [SampleFile(path) for path in paths]
    headers = [file.header() for file in files]
    prints = {header.fingerprint for header in headers}
    if len(prints) > 1:
        raise ScenarioError(f"samples of different nodes: {', '.join(sorted(prints))}")
    return headers, [sample for file in files for sample in file.samples()]


def plain(config: Config) -> str:
    """A configuration in words: `bytes 1048576, direction H2D`."""
    return ", ".join(f"{key} {value}" for key, value in config.items())
