"""The arguments of clients and transports that are p2plb's own, the same in each family, and what is refused."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypedDict

from p2plb.balancing.view import Strategy
from p2plb.calling.policy import Policy
from p2plb.calling.routing import Route
from p2plb.instance import Instance
from p2plb.observe.events import Observer
from p2plb.wire.network import SocketOption


class OurOptions(TypedDict, total=False):
    """What p2plb adds to httpx's arguments; the docstring of `Client` explains each."""

    strategy: Strategy | None
    policy: Policy | None
    services: Mapping[str, Policy] | None
    route: Route | str | None
    observers: Collection[Observer]
    inner: Callable[[Instance], Any] | None
    start_timeout: float
    local_address: str | None
    socket_options: Collection[SocketOption] | None


REFUSED: Final = {
    "uds": "instances are reached over TCP: give plain httpx transports that need uds= in mounts=",
    "retries": "use policy=Policy(retry=Retry(attempts=…)), which tries another instance",
}


def refuse(unknown: dict[str, Any]) -> None:
    """Raise `TypeError` for arguments that we don't have, and say what to use instead."""
    for name in unknown:
        raise TypeError(f"{name}= is not an argument here" + (f": {REFUSED[name]}" if name in REFUSED else ""))
