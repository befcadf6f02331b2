"""The one value in which control plane and data plane meet: who serves a service, at one revision, frozen."""

from dataclasses import dataclass

from p2plb.instance import Instance


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All instances of one service at one revision of the registry, sorted by id.

    `ghosts` names the ids that the registry has lost in an unclean mass loss and that are kept for a while; they are
    among `instances`. A snapshot without instances says that the registry has answered and knows nobody.
    """

    service: str
    instances: tuple[Instance, ...]
    revision: int = 0
    ghosts: frozenset[str] = frozenset()
