"""The node profile: every fitted value with its origin, as TOML that offsim loads as any node.

What was not measured is a usual value of other nodes, marked guess or published. Several ranks were measured by the
slowest of them, so the profile is the node's slower GPU.
"""

from pathlib import Path

from msgspec import structs

from calibration.samples.sample_file import Header, ProbeSample, read_samples
from offsim.scenario.faults import ScenarioError
from offsim.scenario.node import Node
from offsim.scenario.wiring import Wiring
from offsim.scenario.wording import LONGEST_VALUE, cut

from .fitting import Fit, Fitted
from .gpu import fit_gpu
from .links import fit_links
from .node_toml import node_toml
from .sharing import fit_collectives, fit_interference, nvlink_of

__all__ = ["Fitted", "fit_profile", "fit_samples"]

NEEDED = ("h2d", "d2h", "gemm", "attention", "elementwise")
"""Probes without whose samples there is no profile."""


def fit_profile(paths: list[Path], name: str) -> Fitted:
    """Fit the samples of one node; raises ScenarioError where too little was measured."""
    return fit_samples(*read_samples(paths), name)


def fit_samples(headers: list[Header], samples: list[ProbeSample], name: str) -> Fitted:
    """Fit samples at hand; the last header's machine is the node. Raises ScenarioError where there are too few."""
    fit = Fit(headers, samples)
    missing = [probe for probe in NEEDED if not fit.of(probe)]
    if missing:
        raise ScenarioError(f"too little measured for a profile: no samples of {', '.join(missing)}")
    try:
        node = _node(fit, name)
    except ValueError as error:  # a part of a node refuses what no machine has
        raise ScenarioError(f"samples that no node has: {error}") from error
    except KeyError as error:  # a sample's configuration or its readings are not those of its probe
        raise ScenarioError(f"a sample lacks {cut(str(error), LONGEST_VALUE)}; measure it again") from None
    return Fitted(node_toml(node), fit.rows)


def _node(fit: Fit, name: str) -> Node:
    """The fitted node, put together part by part in the order of the summary."""
    gpu = fit_gpu(fit)
    pcie, host = fit_links(fit)
    collectives, beside = fit_collectives(fit), fit_interference(fit)
    gpus = fit.inventory.gpus
    wiring = Wiring(gpus, (tuple(range(gpus)),), pcie, nvlink=nvlink_of(fit), collectives=beside.of_kinds(collectives))
    return Node(
        name=name,
        title=_title(fit),
        gpu=structs.replace(gpu, interference=beside.of_kernels()),
        host=host,
        wiring=wiring,
        fingerprint=fit.header.fingerprint,
        notes=f"Calibrated {fit.header.date[:10]}: driver {fit.inventory.driver}, {fit.inventory.cpu}.",
    )


def _title(fit: Fit) -> str:
    through = {"host-memory": ", collectives through host memory", "nvlink": ", NVLink"}.get(
        fit.inventory.transport, ""
    )
    return f"{fit.inventory.gpus} x {fit.inventory.gpu_name}{through}"
