"""Values that break things: numbers, texts and file names."""

import datetime
from random import Random
from typing import Any

ESCAPES = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://x\x1b\\link",
    "\x07\x08\x7f",
    "\x9b31m",
    "a\rb",
    "a\nb",
    "a\tb",
    "\u202eright to left",
    "\u2028line",
    "\u200b",
    "\ufeff",
    "e\u0301\U0001f600\u4e2d\u6587",
    "\x00",
    "\x85",
)
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "'=1")
MARKUP = ("[red]x[/red]", "[/]", "[bold", "{x}", "%s%n", "${HOME}", "`id`", '"', "'", "\\", "a;b,c", "<b>&")
PLAIN = ("", " ", "x", "X" * 61, "none", "null", "true", "0", "1e3", "resident", "h100-pcie", "..", ".", "/")
INTEGERS = (0, 1, -1, 2, 3, 7, 255, 1000, 1001, 10**6, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**18, 10**30, 10**400)
FLOATS = (0.0, -0.0, 0.5, 1.0, 1e-300, 5e-324, 1e-9, 1.5, 1e9, 1e18, 1e30, 1e308, float("inf"), float("nan"))
DATES = (
    datetime.date(2026, 1, 31),
    datetime.datetime(2026, 1, 31, 12, 0, tzinfo=datetime.UTC),
    datetime.time(12, 30),
)
NUMBER_TEXTS = (
    "nan",
    "-nan",
    "inf",
    "-inf",
    "Infinity",
    "1e400",
    "-1",
    "0",
    "-0",
    "0.0",
    "1e-320",
    "1_000",
    "0x10",
    "1.5",
    " 2",
    "2 ",
    "٣",
    "",
    "1e",
    "--",
    "9" * 400,
    "9" * 5000,
    "0." + "0" * 5000 + "1",
)
"""As somebody may write them on a command line."""


def hostile_text(random: Random) -> str:
    """Text that a terminal, a table, a CSV reader or a shell could take for something else."""
    pool = random.choice((ESCAPES, FORMULAS, MARKUP, PLAIN, ("long",)))
    chosen = random.choice(pool)
    if chosen == "long":
        return random.choice(("x", "\x1b[1m", "ab ", "é")) * random.choice((100, 600, 5000, 100_000))
    return random.choice(("", "a ", "name")) + chosen + random.choice(("", " b", "\x1b[0m"))


def any_number(random: Random) -> int | float:
    """A number that is likely to stand at or beyond a bound."""
    if random.random() < 0.3:
        return random.choice((1, -1)) * 10 ** random.uniform(-12, 32)
    return random.choice((*INTEGERS, *FLOATS))


def any_value(random: Random, depth: int = 0) -> Any:
    """Whatever TOML can say."""
    kind = random.randrange(9 if depth < 3 else 6)
    if kind < 3:
        return any_number(random)
    if kind == 3:
        return hostile_text(random)
    if kind == 4:
        return random.choice((True, False))
    if kind == 5:
        return random.choice(DATES)
    if kind < 8:
        return [any_value(random, depth + 1) for _ in range(random.randrange(4))]
    return {any_key(random): any_value(random, depth + 1) for _ in range(random.randrange(3))}


def any_key(random: Random) -> str:
    """A key of a table."""
    known = ("name", "value", "points", "gpus", "extends", "source", "schema", "blocks", "memory_GiB", "label")
    return random.choice(known) if random.random() < 0.6 else hostile_text(random)[:2000]
