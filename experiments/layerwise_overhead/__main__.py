"""Layerwise over resident, measured and predicted, from the committed replays.

    python -m experiments.layerwise_overhead

One GPU has no collectives: what it shows is the cost of the copies alone. Two GPUs over NVLink and through host memory
(NCCL_P2P_DISABLE=1) are the seeds' two clusters in small.
"""

from collections.abc import Iterator

from calibration.replays.cases import ReplayCase, load_cases
from calibration.validate.errors import CaseError, all_errors
from calibration.validate.records import read_records
from offsim.results.layout import new_table, render

TOKENS = (16384, 32760, 75600)
KINDS = {"x1": "one GPU", "x2-nvlink": "two GPUs, NVLink", "x2-host-memory": "two GPUs, host memory"}


def asked(case: ReplayCase) -> bool:
    """Wan-14B, layerwise with one block ahead, at one of the three lengths."""
    return case.shape == "wan-14b" and case.tokens in TOKENS and case.name.endswith("layerwise-p1")


def main() -> None:
    """Print the table and what follows from it."""
    wanted = [case for case in load_cases() if asked(case)]
    records = [record for record in read_records()[0] if asked(record.case)]
    errors = all_errors(records)
    table = new_table("overhead of layerwise (P = 1) over resident", "case", "node", "measured", "predicted", "noise")
    for case in wanted:
        for row in rows([error for error in errors if error.name == case.name]):
            table.add_row(f"{KINDS[case.kind]}, {case.tokens:,} tokens", *row)
    print(render(table), end="")
    print(verdict(errors))


def rows(errors: list[CaseError]) -> Iterator[tuple[str, str, str, str]]:
    """Node, measured and predicted overhead, and the repetitions' difference."""
    for error in errors:
        noise = "-" if error.noise is None else f"{100 * error.noise:+.1f} %"
        measured, predicted = (f"{100 * (ratio - 1):+.1f} %" for ratio in (error.measured, error.predicted))
        yield error.node, measured, predicted, noise


def verdict(errors: list[CaseError]) -> str:
    """What the measured rows say about the seeds' claim."""
    alone, linked, shared = ([e.measured - 1 for e in errors if e.name.startswith(f"{kind}-")] for kind in KINDS)
    return (
        f"Copies alone cost at most {100 * max(alone, key=abs):+.1f} % where compute hides them (one GPU).\n"
        f"Over NVLink layerwise costs {100 * min(linked):+.1f} to {100 * max(linked):+.1f} %, through host memory "
        f"{100 * min(shared):+.1f} to {100 * max(shared):+.1f} %."
    )


if __name__ == "__main__":
    main()
