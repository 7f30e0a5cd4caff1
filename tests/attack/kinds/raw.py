"""Files that are hardly TOML: flipped, cut, huge, nested, of another encoding."""

from collections.abc import Callable
from random import Random

from tests.attack.case import Case, File, chance
from tests.attack.documents import scenario
from tests.malformed.mutations import GOOD, toml

from .edited import verb

TINY = GOOD.read_bytes()
SPARSE = 3 * 10**9


def raw(random: Random) -> Case:
    """A scenario, model, node or grid file of damaged bytes."""
    content = damaged(random, TINY) if chance(random, 0.6) else File(random.choice(CONSTRUCTIONS)(random))
    if chance(random, 0.02):
        content = File(content.content, SPARSE)
    place = random.choice(("scenario", "scenario", "model", "node", "grid"))
    if place == "scenario":
        return Case(verb(random), (("case.toml", content),), ("case.toml",))
    if place == "grid":
        return Case(("sweep", "case.toml", "--workers", "1"), (("case.toml", content),), ("case.toml",))
    whole = scenario()
    whole[place] = "other.toml"
    files = (("case.toml", File(toml(whole).encode())), ("other.toml", content))
    return Case(verb(random), files, ("other.toml",))


def damaged(random: Random, content: bytes) -> File:
    """Bytes flipped, cut out, doubled or put in."""
    found = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 20))):
        at = random.randrange(len(found) + 1)
        length = random.choice((1, 1, 5, 100))
        action = random.randrange(5)
        if action == 0 and found:
            found[at % len(found)] ^= 1 << random.randrange(8)
        elif action == 1:
            del found[at : at + length]
        elif action == 2:
            found[at:at] = found[at : at + length]
        elif action == 3:
            found[at:at] = random.randbytes(length)
        else:
            found[at:at] = random.choice((b"\xff", b"\xef\xbb\xbf", b"\x00", b"\r", b'"""', b"[[", b"\n\n[", b"}"))
    return File(bytes(found[: random.randrange(len(found) + 1)] if chance(random, 0.1) else found))


def _size(random: Random) -> int:
    """Mostly small; at times more than any honest file has."""
    return random.choice((10, 100, 1000, 3000, 20_000, 100_000))


def _nested(random: Random) -> bytes:
    opening, closing = random.choice(((b"[", b"]"), (b"{a=", b"}"), (b"[{a=", b"}]")))
    count = _size(random)
    return b"model = " + opening * count + b"1" + (closing * count if chance(random, 0.7) else b"")


def _dotted(random: Random) -> bytes:
    key = b".".join([random.choice((b"a", b'""', b"model", b"1"))] * _size(random))
    return random.choice((b"%s = 1\n", b"[%s]\nx = 1\n", b"[[%s]]\nx = 1\n", b"model = {%s = 1}\n")) % key


def _digits(random: Random) -> bytes:
    count = _size(random)
    number = random.choice((b"9" * count, b"0x" + b"f" * count, b"0b" + b"1" * count, b"1." + b"3" * count))
    key = random.choice((b"schema", b"[workload]\ntokens", b"[model]\nsteps", b"[node.gpu]\nmemory_GiB", b"axes.a"))
    return key + b" = " + number + b"\n"


def _long_array(random: Random) -> bytes:
    count = random.choice((1000, 100_000, 3_000_000)) if chance(random, 0.2) else 10_000
    return b"axes.a = [" + random.choice((b"1,", b'"",', b"{},", b"[],")) * count + b"]\n"


def _long_text(random: Random) -> bytes:
    size = random.choice((1000, 10**6, 20 * 10**6)) if chance(random, 0.2) else 10_000
    quotes = random.choice((b'"', b"'", b'"""', b"'''"))
    return b"title = " + quotes + random.choice((b"x", b"\\u0007", b"\\\\", b"\xc3\xa9")) * size + quotes + b"\n"


def _many_keys(random: Random) -> bytes:
    count = _size(random)
    line = random.choice((b"k%d = 1\n", b"[k%d]\n", b"a.k%d = 1\n", b"[[a]]\nx = %d\n"))
    return b"".join(line % i for i in range(count))


def _comment(random: Random) -> bytes:
    return (b"#" * 80 + b"\n") * _size(random) + TINY


def _encoded(random: Random) -> bytes:
    encoding = random.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1", "cp1252"))
    return TINY.replace(b"Two GPUs", b"Zwei Ger\xc3\xa4te").decode().encode(encoding)


def _binary(random: Random) -> bytes:
    return random.choice((b"", b"\x89PNG\r\n", b"PK\x03\x04", b"\x7fELF", b"#!/bin/sh\n")) + random.randbytes(200)


def _repeated(random: Random) -> bytes:
    """Tables and keys that are given twice."""
    lines = TINY.splitlines(keepends=True)
    at = random.randrange(len(lines))
    return b"".join([*lines[:at], *lines[max(0, at - random.choice((1, 3, 30))) :]])


CONSTRUCTIONS: tuple[Callable[[Random], bytes], ...] = (
    _nested,
    _dotted,
    _digits,
    _long_array,
    _long_text,
    _many_keys,
    _comment,
    _encoded,
    _binary,
    _repeated,
)
