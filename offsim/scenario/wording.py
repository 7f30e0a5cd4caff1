"""How messages and tables show what files say: nothing of it moves a terminal's cursor, messages are never long."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

LONGEST_VALUE = 60
LONGEST_LIST = 120
LONGEST_PATH = 200
LONGEST_MESSAGE = 480
"""Characters of a whole message, before the program's name is put in front of it."""
MOST_NAMES = 12


def one_line(text: str) -> str:
    r"""`text` with everything escaped that could break a line or a terminal, or that shows nothing.

    >>> print(one_line("\x1b[31mred\u202e caf\xe9\n"))
    \x1b[31mred\u202e café\n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible(text: str) -> str:
    """A text whose lines each are as `one_line` has them, tabs as spaces."""
    return "\n".join(map(one_line, text.expandtabs(4).split("\n")))


def cut(text: str, longest: int) -> str:
    """`text`, or its start and an ellipsis."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def file_name(path: Path | str) -> str:
    """A path as messages name it; of a long one its start, and its end, which tells more."""
    text = one_line(str(path))
    if len(text) <= LONGEST_PATH:
        return text
    start = LONGEST_PATH // 4
    return f"{text[:start]}...{text[start + 3 - LONGEST_PATH :]}"


def first_lower(text: str) -> str:
    """A sentence as it goes on after a colon."""
    return f"{text[:1].lower()}{text[1:]}"


def shown(value: Any) -> str:
    """A value about as TOML writes it, cut where it is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    if isinstance(value, int) and value.bit_length() > 4 * LONGEST_VALUE:
        return f"(an integer of {value.bit_length()} bits)"
    if isinstance(value, list):
        few = ", ".join(shown(entry) for entry in value[:MOST_NAMES])
        return cut(f"[{few}{', ...' if len(value) > MOST_NAMES else ''}]", LONGEST_VALUE)
    if isinstance(value, str):
        return cut(repr(cut(value, LONGEST_VALUE)), 2 * LONGEST_VALUE)
    return cut(str(value), LONGEST_VALUE)


def choices(names: Iterable[str], wrong: Any = None) -> str:
    """The allowed names, those close to the wrong one first; long lists end in how many more there are.

    >>> choices(["v0", "v1"], 2), choices(["gpus", "width"], "gpu")
    ('allowed are v0, v1', 'did you mean gpus? allowed are gpus, width')
    """
    known = sorted(names)
    close = _close(wrong, known) if isinstance(wrong, str) else []
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    listed: list[str] = []
    for name in known:
        if len(listed) == MOST_NAMES or sum(map(len, [hint, name, *listed])) > LONGEST_LIST:
            break
        listed.append(name)
    more = f" and {len(known) - len(listed)} more" if len(listed) < len(known) else ""
    return f"{hint}allowed are {', '.join(listed)}{more}"


def _close(wrong: str, known: list[str]) -> list[str]:
    """Up to two names that may have been meant: those that go on like the wrong one, then similar ones."""
    longer = [name for name in known if len(wrong) > 2 and name.startswith(wrong)]
    similar = get_close_matches(wrong[:LONGEST_VALUE], known, n=2, cutoff=0.6)
    return list(dict.fromkeys([*longer, *similar]))[:2]
