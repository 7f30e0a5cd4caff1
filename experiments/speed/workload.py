"""wan27: the workload on which engines are compared, as a node and a stream program.

27 steps of 2 forwards of 40 layers; a layer is a kernel, an all-to-all, a kernel (attention), an all-to-all and a kernel;
while it runs the next layer's 702 MB are copied over host memory, root, switch uplink and x16 link, the first layer's
while the last one runs. An all-to-all is N (N - 1) flows through host memory. Before the first layer its copy runs
beside a kernel. Nothing here is measured: the numbers only have to be the same in all engines, so hosts cost nothing,
transfers have no latency, every flow has weight 1 and none a cap of its own.
"""

from offsim.program.commands import (
    COMPUTE,
    Collective,
    Command,
    Compute,
    Copy,
    Kernel,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from offsim.program.groups import sequence_groups
from offsim.program.passages import Part, Passage, Template, Written
from offsim.program.systems.resident import Resident
from offsim.program.uses import LOADING, Use
from offsim.scenario.gpu import GPU
from offsim.scenario.host import Host, Overheads, Socket
from offsim.scenario.load import load_model
from offsim.scenario.node import Node
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import Scenario
from offsim.scenario.wiring import CollectiveKind, Collectives, PCIe, Switch, Wiring
from offsim.scenario.workload import Workload

LAYERS, FORWARDS, STEPS = 40, 2, 27
LAYER_BYTES = 702_788_608.0
EXCHANGED = 96.8e6
"""Bytes that a rank sends in one all-to-all: 86,400 tokens x 5120 over 8 ranks; about, see pair_bytes."""
KERNELS = {"pre-attention": 4e-3, "attention": 12e-3, "post": 9e-3}
"""Seconds of a layer's kernels."""
LINK, UPLINK, MEMORY = 55e9, 52e9, 400e9
"""Bytes/s of each GPU's link, of the uplink that two GPUs share, and of host memory."""
PLENTY = 1e15
COPY = "copy"


def _quantity(value: float) -> Quantity:
    return Quantity(value=value, provenance="guess", source="workload of a speed comparison")


def _curve(value: float) -> Curve:
    return Curve(points=((1.0, value), (1e12, value)), provenance="guess", source="workload of a speed comparison")


def uplink_rate(switch: int, *, distinct: bool) -> float:
    """Bytes/s of a switch's uplink; `distinct`: no two are alike."""
    return UPLINK * (1 - 0.001 * switch if distinct else 1)


def pair_bytes(gpus: int) -> float:
    """Bytes from one rank to another in an all-to-all: whole ones, since other engines count in these."""
    return float(round(EXCHANGED / max(1, gpus - 1)))


def gpus_per_switch(*, distinct: bool) -> int:
    """Two GPUs share an uplink; where ranks must differ each has its own."""
    return 1 if distinct else 2


def node(gpus: int, *, distinct: bool = False) -> Node:
    """GPUs behind switches below one socket."""
    size = gpus_per_switch(distinct=distinct)
    numbers = range((gpus + size - 1) // size)
    switches = [
        Switch(
            gpus=tuple(range(i * size, min(gpus, (i + 1) * size))),
            h2d=_quantity(uplink_rate(i, distinct=distinct)),
            d2h=_quantity(uplink_rate(i, distinct=distinct)),
        )
        for i in numbers
    ]
    memory = _quantity(MEMORY)
    socket = Socket(read=memory, write=memory, total=_quantity(PLENTY))
    # The weight is a rank's, over all its peers.
    nothing, weight = _quantity(0.0), _quantity(max(1.0, gpus - 1.0))
    kind = CollectiveKind(rate=_curve(PLENTY), latency=nothing, weight=weight)
    return Node(
        name=f"{gpus} GPUs",
        title="for comparing engines",
        gpu=GPU(
            name="GPU",
            memory=_quantity(80e9),
            context=_quantity(1e9),
            gemm=_curve(1e15),
            attention={"default": _curve(1e15)},
            memory_bandwidth=_quantity(1.0),
        ),
        host=_host(socket),
        wiring=Wiring(
            gpus=gpus,
            sockets=(tuple(range(gpus)),),
            # Duplex 2: both directions of a link are independent.
            pcie=PCIe(h2d=_quantity(LINK), d2h=_quantity(LINK), duplex=_quantity(2.0), latency=nothing),
            switches=tuple(switches),
            collectives=Collectives(transport="host-memory", all_to_all=kind, all_gather=kind),
        ),
    )


def _host(socket: Socket) -> Host:
    """A host whose thread issues for nothing."""
    memory, nothing = _quantity(MEMORY), _quantity(0.0)
    return Host(
        memory=_quantity(1e15),
        sockets=(socket,),
        pageable_h2d=memory,
        pageable_d2h=memory,
        fresh_d2h=memory,
        overheads=Overheads(
            launch=nothing,
            copy=nothing,
            event=nothing,
            collective=nothing,
            allocation=nothing,
            synchronize=nothing,
            queue_depth=1000,
        ),
    )


def _kernel(name: str) -> Compute:
    # Device memory moves 1 byte/s on this node, so that bytes are seconds.
    return Compute(COMPUTE, name, (Kernel("elementwise", 0.0, KERNELS[name], 1.0),))


def _layer(template: Template, number: int) -> Part:
    """When a layer has its weights and the one before is done, it begins, and with it the next one's copy."""
    ahead = (number + 1) % LAYERS
    hooks: list[Command] = [
        Wait(COMPUTE, f"layer {number} ready"),
        Record(COMPUTE, f"layer {number} begins"),
        Wait(COPY, f"layer {number} begins"),
        Copy(COPY, f"layer {ahead}", "H2D", LAYER_BYTES, "pinned", "weights"),
        Record(COPY, f"layer {ahead} ready"),
    ]
    return Part(tuple(hooks), template, f"layer {number} ")


def program(gpus: int, steps: int = STEPS) -> StreamProgram:
    """The stream program of every rank."""
    kernels = [_kernel(name) for name in KERNELS]
    exchange = Collective(COMPUTE, "all-to-all", "all-to-all", pair_bytes(gpus) * (gpus - 1))
    own = (kernels[0], exchange, kernels[1], exchange, kernels[2]) if gpus > 1 else tuple(kernels)
    template = Template(own)
    forward: Passage = tuple(_layer(template, number) for number in range(LAYERS))
    end: Passage = (Part((Synchronize("stream", COMPUTE),)),)
    commands = Written([*([forward] * FORWARDS), end])
    first_copy = Copy(COPY, "layer 0", "H2D", LAYER_BYTES, "pinned", "weights")
    load = Section("load", LOADING, (kernels[2], first_copy, Record(COPY, "layer 0 ready")))
    sections = tuple(Section(f"step {i}", Use("denoise", step=i), commands) for i in range(steps))
    return StreamProgram("wan27", (load, *sections), sequence_groups(tuple(range(gpus))))


def scenario(gpus: int, *, distinct: bool = False) -> Scenario:
    """What the engine wants besides the program."""
    return Scenario(
        model=load_model("wan2.2-t2v-a14b"),
        workload=Workload(gpus=gpus, tokens=64),
        node=node(gpus, distinct=distinct),
        policy=Resident(),
    )
