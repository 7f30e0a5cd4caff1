"""What the parameters of all policies have in common; each one's own are on its page in `offsim.program.systems`."""

from typing import Literal

from msgspec import Struct

Placement = Literal["resident", "swap", "sharded"]
"""resident: always on the device. swap: moved in for its phase and out again. sharded: streamed by layer."""


class Policy(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", kw_only=True):
    """How weights are placed and moved: the parameters of one system's policy."""

    # SGLang's defaults; a page of a system that places them otherwise has its own.
    text_encoder: Placement = "sharded"
    vae: Placement = "swap"

    @property
    def tag(self) -> str:
        """The policy's name, as scenario files give it."""
        return policy_name(type(self))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its fields: its own first, then those that every policy has."""
        common = Policy.__struct_fields__
        own = (field for field in self.__struct_fields__ if field not in common)
        return (*own, *common)


def policy_name(kind: type[Policy]) -> str:
    """The name under which scenario files ask for a policy of this type."""
    return str(kind.__struct_config__.tag)
