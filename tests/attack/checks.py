"""What every answer must be like, whatever was asked."""

import json
import re
from collections.abc import Iterator
from typing import Any

from .case import Case, is_text
from .execution import LIMIT, Answer

FINE, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 2, 130, 141
MOST_MEMORY = 1e9
LONGEST = 500
ANNOUNCEMENT = re.compile(r"up to about [\d.,]+ (s|min|h) left")
"""How a command says that it will take long."""
PROGRESS = re.compile(r"^offsim: [a-z]+: .* after \d+ s(, up to about [\d.,]+ (s|min|h) left)?$")
RAISED = re.compile(r"^(?:\w+\.)*(\w+)(?=: |$)", re.MULTILINE)
"""The line of a traceback that names its error."""
FRAME = re.compile(r'File "[^"]*?((?:offsim|calibration)/[^"]+)", line \d+, in (\S+)')
SAYS_MORE = {"--version", "--help", "-h"}
"""Options that are answered instead of the question, --json or not."""
NO_NUMBER = re.compile(r"(?<![\w.'\"-])[+-]?(nan|inf|infinity)(?![\w.'\"-])", re.IGNORECASE)
PERCENT = re.compile(r" (\d+\.\d)%")
ABOVE = 1 + 1e-9


def faults(case: Case, answer: Answer) -> Iterator[str]:
    """What is wrong with an answer, each in a few words that are the same for the same fault."""
    out, err = answer.stdout.decode("utf-8", "replace"), answer.stderr.decode("utf-8", "replace")
    yield from _limits(case, answer)
    if "Traceback" in err or "Traceback" in out:
        yield f"traceback: {signature(err or out)}"
    elif answer.code is not None and answer.code not in _codes(case):
        yield f"exit code {answer.code}: {_plain(err)[:80]}"
    if not is_text(out):
        yield "control characters on stdout"
    if answer.code == BAD_INPUT:
        yield from _message(case, err)
    elif answer.code == FINE:
        yield from _success(case, out, err)


def _codes(case: Case) -> tuple[int, ...]:
    return (FINE, BAD_INPUT, INTERRUPTED, *((BROKEN_PIPE,) if case.stdout == "gone" else ()))


def _limits(case: Case, answer: Answer) -> Iterator[str]:
    early = answer.early.decode("utf-8", "replace")
    silenced = "--quiet" in case.arguments
    long = answer.stopped == "takes long" or answer.seconds > LIMIT
    if answer.stopped == "hangs" or (long and not silenced and not ANNOUNCEMENT.search(early)):
        yield f"time: {answer.stopped or 'takes long'}"
    if answer.peak > MOST_MEMORY:
        yield "memory: over 1 GB"


def signature(err: str) -> str:
    """The error of a traceback and the last function of ours that it went through."""
    frames = FRAME.findall(err)
    place = ":".join(frames[-1]) if frames else "?"
    errors = [name for name in RAISED.findall(err.rpartition("  File ")[2]) if name != "offsim"]
    return f"{errors[0] if errors else '?'} in {place}"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _message(case: Case, err: str) -> Iterator[str]:
    """One line that names what is wrong."""
    lines = [line for line in err.split("\n") if line and not PROGRESS.match(line)]
    if len(lines) != 1:
        yield f"{len(lines)} lines for a message"
        return
    if len(lines[0]) > LONGEST:
        yield "message over 500 characters"
    if not lines[0].isprintable():
        yield "control characters in a message"
    missing = [name for name in case.names if name not in lines[0]]
    if missing:
        yield f"message without {missing[0]}"


def _success(case: Case, out: str, err: str) -> Iterator[str]:
    if "Warning" in err:
        yield f"warning: {_plain(err)[:100]}"
    if NO_NUMBER.search(out):
        yield "nan or inf on stdout"
    if "--json" not in case.arguments or SAYS_MORE.intersection(case.arguments) or case.stdout != "pipe":
        if case.entry == "offsim" and "run" in case.arguments and _over_hundred(out):
            yield "law: a share above 100 %"
        return
    try:
        found = json.loads(out, parse_constant=_refuse)
    except ValueError as error:
        yield f"stdout is not JSON: {error}"
        return
    if isinstance(found, dict) and "steps" in found and "lower_bound_s" in found:
        yield from _laws(found)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _over_hundred(out: str) -> bool:
    return any(float(share) > 100 for share in PERCENT.findall(out))


def _laws(found: dict[str, Any]) -> Iterator[str]:
    """What holds for every prediction."""
    durations = [step["step_s"] for step in found["steps"]]
    numbers = [found["total_s"], found["lower_bound_s"], *durations]
    if any(number is None or number < 0 for number in numbers):
        yield "law: a time is negative or none"
        return
    if found["lower_bound_s"] > found["total_s"] * ABOVE:
        yield "law: lower bound above the total"
    if sum(durations) > found["total_s"] * ABOVE + 1e-9:
        yield "law: steps above the total"
    spans = [(found["total_low_s"], found["total_s"], found["total_high_s"])]
    spans += [(step["step_low_s"], step["step_s"], step["step_high_s"]) for step in found["steps"]]
    if any(not low <= value * ABOVE or not value <= high * ABOVE for low, value, high in spans):
        yield "law: a value outside its interval"
    yield from (law for step in found["steps"] for law in _step_laws(step))


LOSSES = ("compute_s", "exposed_copy_s", "exposed_collective_s", "contention_s", "host_bound_s")


def _step_laws(step: dict[str, Any]) -> Iterator[str]:
    """Losses are disjoint: none is negative, and together they are the step."""
    parts = [step[key] for key in LOSSES]
    slack = 1e-6 * step["step_s"] + 1e-9
    if min(parts) < -slack:
        yield "law: a negative loss"
    if abs(sum(parts) - step["step_s"]) > slack:
        yield "law: losses don't sum to the step"
