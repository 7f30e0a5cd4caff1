"""Pages of documentation as tests read them: fenced blocks, what marks them, and whether an output is the one shown.

A mark is a comment on the line before a block: `<!-- not run: why -->` keeps it from being run, `<!-- from: FILE -->`
says which file of the project it is a part of.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"<!-- (not run|from): (.+) -->")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:\.ci|calibration|docs|experiments|offsim|tests)/[^`\s]*)`")
MODULE = re.compile(r"python -m ((?:calibration|experiments|offsim|tests)[\w.]*)")
FILE = re.compile(r"# ([\w.-]+\.toml)\n")
ANY_LINES, ANY_NUMBER = "...", r"<\d[\d.,]*>"


class Block(NamedTuple):
    """A fenced block of a page."""

    line: int
    """Of the page, where its text begins."""
    language: str
    text: str
    not_run: str
    """Why it is not run; empty if it is."""
    source: str
    """The file of the project that it is a part of; empty if it is none's."""

    @property
    def file(self) -> str:
        """The name that a TOML block gives itself in its first line; empty if it gives none."""
        found = FILE.match(self.text) if self.language == "toml" else None
        return found[1] if found else ""


class DocPage(NamedTuple):
    """One file of documentation."""

    path: Path
    blocks: tuple[Block, ...]
    prose: str
    """All that stands outside its blocks."""


class ConsoleCommand(NamedTuple):
    """A command and the output that a page shows."""

    line: str
    shown: str


def doc_pages() -> list[Path]:
    """Every page: the front page, docs, and the READMEs of folders."""
    folders = (*ROOT.glob("calibration/README.md"), *sorted(ROOT.glob("experiments/**/README.md")))
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *folders]


def read_page(path: Path) -> DocPage:
    """A page's blocks and prose."""
    blocks: list[Block] = []
    prose: list[str] = []
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if not line.startswith("```"):
            prose.append(line)
            continue
        inside = _until_fence(lines)
        mark = MARK.fullmatch(prose[-1]) if prose else None
        kind, words = mark.groups() if mark else ("", "")
        text = "".join(f"{text}\n" for text in inside)
        not_run, source = (words if kind == wanted else "" for wanted in ("not run", "from"))
        blocks.append(Block(number + 1, line[3:].strip(), text, not_run, source))
    return DocPage(path, tuple(blocks), "\n".join(prose))


def _until_fence(lines: Iterator[tuple[int, str]]) -> list[str]:
    found = []
    for _, line in lines:
        if line.startswith("```"):
            return found
        found.append(line)
    raise ValueError("a fenced block that does not end")


def console_commands(text: str) -> list[ConsoleCommand]:
    r"""The commands of a console block, each with the lines that it shows.

    >>> console_commands("$ offsim run \\\n    a.toml\nfine\n$ offsim models\n")
    [ConsoleCommand(line='offsim run     a.toml', shown='fine\n'), ConsoleCommand(line='offsim models', shown='')]
    >>> console_commands("$ offsim best a\n--flag \\\n  --other\n")
    [ConsoleCommand(line='offsim best a', shown='--flag \\\n  --other\n')]
    """
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"output before the first command: {parts[0]}"
    found = [re.findall(r"\A((?:.*\\\n)*.*)\n((?:.*\n)*)\Z", part) for part in parts[1:]]
    return [ConsoleCommand(command.replace("\\\n", ""), shown) for ((command, shown),) in found]


def is_shown(shown: str, output: str) -> bool:
    """Whether a page shows this output: `...` lines stand for any lines, ` ...` at an end for any rest of a line.

    `<1.5>` stands for any number.

    >>> is_shown("a\\n...\\nd in <1.5> s\\n", "a\\nb\\nc\\nd in 22 s\\n"), is_shown("a ...\\n", "a b\\nc\\n")
    (True, False)
    """
    return re.fullmatch("".join(map(_pattern, shown.splitlines())), _trimmed(output)) is not None


def not_printed(shown: str, output: str) -> str:
    """The lines of a page that no line of an output is, for messages."""
    there = _trimmed(output).splitlines(keepends=True)
    lines = (line for line in shown.splitlines() if line.strip() != ANY_LINES)
    return "\n".join(line for line in lines if not any(re.fullmatch(_pattern(line), other) for other in there))


def _pattern(line: str) -> str:
    """What a shown line stands for."""
    if line.strip() == ANY_LINES:
        return r"(?:.*\n)*?"
    whole = line.rstrip().removesuffix(f" {ANY_LINES}")
    words = [re.escape(part) for part in re.split(ANY_NUMBER, whole)]
    rest = "" if whole == line.rstrip() else r".*"
    return r"\d[\d.,]*".join(words) + rest + r"\n"


def _trimmed(output: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in output.splitlines())


def anchors(page: str) -> set[str]:
    """What links can point to within a page: its headings, as GitHub names them.

    >>> sorted(anchors("# One `two`\\n## 3: four-five"))
    ['3-four-five', 'one-two']
    """
    headings = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
