"""Errors in scenario files: one line that names the file, the key, the value and what is allowed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .wording import LONGEST_MESSAGE, cut, file_name, first_lower, one_line, shown

LONGEST_KEY = 80
ABSENT: Any = object()


class ScenarioError(Exception):
    """Bad input: one line that names the file, the key, the value and what is allowed."""


def one_message(error: Exception) -> str:
    """What went wrong as one printable line, however long the names and values are that it quotes."""
    text = str(error)
    if isinstance(error, OSError):
        text = f"{file_name(error.filename)}: {reason(error)}" if error.filename else reason(error)
    return cut(one_line(" ".join(text.split())), LONGEST_MESSAGE)


def reason(error: Exception) -> str:
    """Why a file could not be read, without its name: `no such file or directory`."""
    return first_lower(getattr(error, "strerror", None) or str(error))


@dataclass(frozen=True)
class Place:
    """A key of a file; without a path it is an argument of the command line."""

    path: Path | None
    key: str = ""

    def child(self, name: str) -> "Place":
        """A key of the table at this place."""
        step = name if name.isprintable() and name.strip() == name != "" else repr(name)
        return Place(self.path, f"{self.key}.{cut(step, LONGEST_KEY // 2)}".lstrip("."))

    def item(self, index: int) -> "Place":
        """An entry of the array at this place."""
        return Place(self.path, f"{self.key}[{index}]")

    def fault(self, what: str, value: Any = ABSENT) -> ScenarioError:
        """The error to raise here about the value that the file gives."""
        key = cut(self.key, LONGEST_KEY)
        given = "" if value is ABSENT else f"={shown(value)}"
        parts = (file_name(self.path) if self.path else "", f"{key}{given}", what)
        return ScenarioError(cut(one_line(": ".join(part for part in parts if part)), LONGEST_MESSAGE))
