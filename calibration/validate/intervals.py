"""How wide predictions' intervals are: the errors of all scored replays and library forwards, by what runs how.

    python -m calibration.validate.intervals            # writes offsim/results/errors.toml
    python -m calibration.validate.intervals --check    # exits 1 if that is not what comes out

One number per kind of run, the 95th percentile of its absolute errors: what differs by less is not told apart.
"""

import sys
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from calibration.samples.script import run_script
from offsim.program.build import build
from offsim.results.errors import ERRORS, kind_of
from offsim.scenario.faults import ScenarioError

from .diffusers_prediction import ForwardError, forward_error
from .diffusers_records import ForwardRecord, read_forwards
from .errors import CaseError, ErrorSummary, all_errors, summary_of
from .records import ReplayRecord, read_records

INTERVAL_TOLERANCE = 0.003
"""How much a kept number may differ from what comes out."""
KEPT_ERRORS = Path(str(files("offsim.results") / ERRORS))
HEAD = """# How far predictions were from replays on calibrated nodes: what 95 % of the steady steps, relative to a
# resident run beside them, did not exceed.
# Written by `python -m calibration.validate.intervals` from all scored replays and forwards of the diffusers library.
"""


def by_kind(records: Sequence[ReplayRecord], forwards: Sequence[ForwardRecord] = ()) -> dict[str, ErrorSummary]:
    """The errors of each kind of run."""
    return errors_by_kind(records, all_errors(list(records)), forwards, [forward_error(record) for record in forwards])


def errors_by_kind(
    records: Sequence[ReplayRecord],
    errors: Sequence[CaseError],
    forwards: Sequence[ForwardRecord],
    forward_errors: Sequence[ForwardError],
) -> dict[str, ErrorSummary]:
    """The errors of each kind of run, from those of each record and each forward, in order."""
    scenarios = [record.case.scenario(str(record.profile)) for record in records]
    named = [
        (kind_of(scenario, build(scenario)), error.error, error.name)
        for scenario, error in zip(scenarios, errors, strict=True)
    ]
    for record, forward in zip(forwards, forward_errors, strict=True):
        kind = kind_of(forward.prediction.scenario, forward.prediction.program)
        named.append((kind, forward.error, record.name))
    found = {}
    for kind in sorted({kind for kind, _, _ in named}):
        one = summary_of([(error, name) for other, error, name in named if other == kind])
        assert one is not None
        found[kind] = one
    return found


def as_toml(found: dict[str, ErrorSummary]) -> str:
    """The text of errors.toml."""
    tables = [f'\n["{kind}"]\ncases = {one.n}\np95 = {one.p95:.4f}\n' for kind, one in found.items()]
    return HEAD + "".join(tables)


def differences(found: dict[str, ErrorSummary], kept: dict[str, dict[str, float]]) -> list[str]:
    """Sentences on the errors that are kept otherwise than they come out."""
    said = []
    for kind in sorted(found.keys() | kept.keys()):
        now = found[kind].p95 if kind in found else None
        then = kept.get(kind, {}).get("p95")
        if now is None or then is None or abs(now - then) > INTERVAL_TOLERANCE:
            said.append(f"{kind}: kept {_percent(then)}, comes out as {_percent(now)}")
    return said


def not_as_kept(found: dict[str, ErrorSummary]) -> list[str]:
    """What is kept otherwise than it comes out, and how to keep that; empty if all is as kept."""
    said = differences(found, tomllib.loads(KEPT_ERRORS.read_text(encoding="utf-8")))
    return [*said, "python -m calibration.validate.intervals writes what comes out"] if said else []


def _percent(share: float | None) -> str:
    return "nothing" if share is None else f"{100 * share:.2f} %"


def main(arguments: Sequence[str]) -> int:
    """Write errors.toml, or compare with it; returns 1 where they differ."""
    if list(arguments) not in ([], ["--check"]):
        raise ScenarioError(f"{' '.join(arguments)}: expected nothing or --check")
    found = by_kind(read_records()[0], read_forwards()[0])
    if not arguments:
        KEPT_ERRORS.write_text(as_toml(found), encoding="utf-8")
        print(as_toml(found), end="")
        return 0
    said = not_as_kept(found)
    print("\n".join(said) if said else f"{ERRORS}: as it comes out")
    return int(bool(said))


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
