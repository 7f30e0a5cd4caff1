"""The verbs of the command line that measure or compare with measurements.

They are loaded when called: `offsim run` and the like know nothing of calibration. Each returns its exit code.
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from offsim.cli_arguments import Patience
from offsim.scenario.faults import ScenarioError

FlagOption = Annotated[bool, Parameter(negative="")]


def calibrate(
    *,
    quick: FlagOption = False,
    full: FlagOption = False,
    out: Path | None = None,
    dry_run: FlagOption = False,
    no_kernels: FlagOption = False,
    transport: Literal["default", "host-memory"] = "default",
    limit_s: Patience = 120.0,
) -> int:
    """Measure this machine's GPUs, links and host costs, and write a node profile that every scenario can name.

    For example:
      offsim calibrate --dry-run
      offsim calibrate --quick --out my-node
      offsim run my-scenario.toml      # with node = "my-node/profile.toml"

    Parameters
    ----------
    quick
        Fewer configurations and repeats: about a minute.
    full
        Everything (the default): five to eight minutes.
    out
        Directory of samples and profile, where an interrupted calibration goes on. One each for quick and full.
    dry_run
        List the probes, what each identifies, and which this machine cannot run.
    no_kernels
        Don't build the CUDA kernels; what only they measure stays unmeasured.
    transport
        How collectives go: as NCCL chooses, or through host memory (as with NCCL_P2P_DISABLE=1 in the environment).
    limit_s
        A configuration that shows nothing for so long is given up.
    """
    from calibration.calibrate.command import CalibrateOptions, calibrate_command, dry_run_command

    if quick and full:
        raise ScenarioError("--quick and --full: choose one")
    order = CalibrateOptions("quick" if quick else "full", out, not no_kernels, transport == "host-memory", limit_s)
    return dry_run_command(order) if dry_run else calibrate_command(order)


def replay(scenario: str, /, *, node: str, out: Path | None = None, cpu: FlagOption = False) -> int:
    """Run a scenario's stream program on live GPUs, and print predicted beside measured.

    For example:
      offsim replay my-scenario.toml --node my-node/profile.toml
      torchrun --nproc_per_node 2 -m offsim replay my-scenario.toml --node my-node/profile.toml
      offsim replay tiny.toml --node h200-x1 --cpu

    Parameters
    ----------
    scenario
        A .toml file or a name that `offsim scenarios` lists.
    node
        The profile of this machine, as `offsim calibrate` wrote it.
    out
        Directory of the results.
    cpu
        Imitate the device: tiny scenarios only, to see that a program runs.
    """
    try:
        from .live.command import replay_command
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ScenarioError("replay needs torch: pip install 'offsim[live]'") from None
    return replay_command(scenario, node, out, cpu=cpu)


def validate(*, json: FlagOption = False) -> int:
    """Predict every committed measurement again and print the errors; exit 1 if a threshold is broken.

    For example:
      offsim validate
      offsim validate --json

    Parameters
    ----------
    json
        Print one JSON object instead of tables.
    """
    from .validate.command import validate_command

    return validate_command(json=json)
