"""Types of a node's values: numbers with an origin, each with its dimension or its bounds."""

from typing import Annotated

from msgspec import Meta

from .quantity import Curve, Quantity
from .units import dimension, within

ByteQuantity = Annotated[Quantity, dimension("bytes")]
MemoryQuantity = Annotated[Quantity, dimension("bytes"), within(Meta(gt=0, le=1e18))]
RateQuantity = Annotated[Quantity, dimension("rate")]
TimeQuantity = Annotated[Quantity, dimension("time")]
DuplexQuantity = Annotated[Quantity, within(Meta(ge=1, le=2))]
WeightQuantity = Annotated[Quantity, within(Meta(gt=0, le=1000))]
LinkCostQuantity = Annotated[Quantity, within(Meta(ge=1, le=10))]
SlowdownQuantity = Annotated[Quantity, within(Meta(ge=0, le=1000))]
PowerQuantity = Annotated[Quantity, dimension("power")]
EnergyQuantity = Annotated[Quantity, dimension("energy")]
KneeQuantity = Annotated[Quantity, within(Meta(ge=0.01, le=1))]
ExponentQuantity = Annotated[Quantity, within(Meta(ge=1, le=10))]
RateCurve = Annotated[Curve, dimension("rate")]
FlopsCurve = Annotated[Curve, dimension("flops")]
