"""An input: what stands in its folder, the command line, and what is known of the right answer."""

import os
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

WORK, ELSEWHERE = "work", "elsewhere"
"""Folders of a case: where the command runs, and what it must not touch."""
PRECIOUS = b"precious\n"


class Content(Protocol):
    """Something that can be made at a path."""

    def make(self, path: Path) -> None: ...


class File(NamedTuple):
    """A file of these bytes, followed by a hole up to `size`."""

    content: bytes
    size: int = 0

    def make(self, path: Path) -> None:
        path.write_bytes(self.content)
        if self.size:
            os.truncate(path, self.size)


class Link(NamedTuple):
    """A symbolic link."""

    target: str

    def make(self, path: Path) -> None:
        path.symlink_to(self.target)


class Pipe(NamedTuple):
    """A named pipe that nobody writes to or reads from."""

    def make(self, path: Path) -> None:
        os.mkfifo(path)


class Folder(NamedTuple):
    """An empty folder, with rights."""

    mode: int = 0o755

    def make(self, path: Path) -> None:
        path.mkdir()
        path.chmod(self.mode)


class Case(NamedTuple):
    """One input."""

    arguments: tuple[str, ...]
    contents: tuple[tuple[str, Content], ...] = ()
    """By path in the folder in which the command runs, in the order in which they are made."""
    names: tuple[str, ...] = ()
    """What the message must contain if the input is refused: a file, a key."""
    outputs: tuple[str, ...] = ("offsim-results",)
    """What may be new or changed in the folder afterwards."""
    entry: str = "offsim"
    """A key of `execution.ENTRIES`."""
    environment: tuple[tuple[str, str], ...] = ()
    """Only for processes."""
    table: str = ""
    """A file that must have the rows of the stored sweep, if the command succeeds."""
    stdout: str = "pipe"
    """Only for processes: pipe, closed, full, or gone (a reader that leaves at once)."""


class Generator(Protocol):
    """Makes a case from random numbers and nothing else."""

    def __call__(self, random: Random) -> Case: ...


def is_text(content: str) -> bool:
    """Whether nothing in it can move a terminal's cursor or change its colours."""
    return all(c.isprintable() or c == "\n" for c in content)


def text(content: str) -> File:
    """A file of text."""
    return File(content.encode("utf-8", "surrogateescape"))


def chance(random: Random, share: float) -> bool:
    """True in a share of all calls."""
    return random.random() < share
