"""How messages about scenario files show values and allowed names: on one line, and never long."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

LONGEST_VALUE = 60
LONGEST_LIST = 120
MOST_NAMES = 12


def one_line(text: str) -> str:
    """`text` with everything escaped that could break a line or a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(text: str, longest: int) -> str:
    """`text`, or its start and an ellipsis."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


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
        return repr(cut(value, LONGEST_VALUE))
    return cut(str(value), LONGEST_VALUE)


def choices(names: Iterable[str], wrong: Any = None) -> str:
    """The allowed names, those close to the wrong one first; long lists end in how many more there are.

    >>> choices(["v0", "v1"], "v9"), choices(["gpus", "width"], "gpu")
    ('did you mean v1 or v0? allowed are v0, v1', 'did you mean gpus? allowed are gpus, width')
    """
    known = sorted(names)
    close = get_close_matches(wrong[:LONGEST_VALUE], known, n=3, cutoff=0.5) if isinstance(wrong, str) else []
    listed: list[str] = []
    for name in known:
        if len(listed) == MOST_NAMES or sum(map(len, listed)) + len(name) > LONGEST_LIST:
            break
        listed.append(name)
    more = f" and {len(known) - len(listed)} more" if len(listed) < len(known) else ""
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}allowed are {', '.join(listed)}{more}"
