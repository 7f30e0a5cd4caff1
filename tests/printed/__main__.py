"""Compares what offsim prints now with what was kept: python -m tests.printed [--keep] [--only WORDS]

Lines that differ are shown; those that differ in numbers count. `--keep` writes the present output instead: do so in
the commit that changes it, and say there why.
"""

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from offsim.program.pages import pages
from offsim.scenario import catalogue

HERE = Path(__file__).parent
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
SEARCHED = ("wan2.2-4xh100-pcie-layerwise", "qwen-image-rtx5090-layerwise", "flux.1-dev-rtx4090-layerwise")
VERSION = re.compile(r"\b\d+\.\d+\.dev\S+")


def commands() -> dict[str, list[str]]:
    """The kept file's name -> the arguments of the command whose output it has."""
    found = {name: [name] for name in ("models", "nodes", "policies", "scenarios")}
    found["sweep"] = ["sweep", "--quiet", "--out", "OUT"]
    for name in catalogue.names("scenarios"):
        found[f"run {name}"] = ["run", name]
        found[f"show {name}"] = ["show", name]
    for name in (*pages(), *catalogue.names("nodes"), *catalogue.names("models")):
        found[f"show {name}"] = ["show", name]
    for name in SEARCHED:
        found[f"best {name}"] = ["best", name]
    return found


def printed(arguments: list[str]) -> str:
    """What a command prints on its standard output, as if it went to a file."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(Path(folder) / "sweep") if word == "OUT" else word for word in arguments]
        environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
        done = subprocess.run(
            [sys.executable, "-m", "offsim", *words], capture_output=True, text=True, env=environment, check=False
        )
        return VERSION.sub("VERSION", done.stdout.replace(folder, "FOLDER"))


def changes(before: str, now: str) -> Iterator[str]:
    """Lines that differ, as a unified difference without its headings."""
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=0)
    yield from (line for line in lines if not line.startswith(("---", "+++", "@@")))


def numbers(text: str) -> list[str]:
    """All numbers of a text, in order."""
    return NUMBER.findall(text)


def main() -> int:
    """Compare or keep; 1 if any number is not as it was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.printed", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="write what is printed now")
    parser.add_argument("--only", default="", help="commands that begin with these words")
    asked = parser.parse_args()
    other = 0
    for name, arguments in commands().items():
        if not name.startswith(asked.only):
            continue
        path, now = HERE / f"{name.replace(' ', '-')}.txt", printed(arguments)
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        if asked.keep:
            path.write_text(now, encoding="utf-8")
        elif now != before:
            kind = "words" if numbers(now) == numbers(before) else "NUMBERS"
            other += kind == "NUMBERS"
            print(f"{name}: {kind} differ", *list(changes(before, now))[:20], sep="\n  ", flush=True)
    print(f"{other} outputs with other numbers" if not asked.keep else "kept")
    return int(other > 0)


if __name__ == "__main__":
    sys.exit(main())
