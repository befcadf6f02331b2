"""What is decided where nothing is sent: which instance a `pick` gets and what its end says of it, and who is ready.

Nothing here waits: the steps are carried out as those of a call are.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from p2plb.balancing.attempts import Wait, first_view
from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.calling.core import Core
from p2plb.calling.options import call, options
from p2plb.errors import DiscoveryError, NoInstances
from p2plb.instance import Instance, check_name, check_number

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Picked:
    """The instance that `pick` has chosen: where to connect to."""

    instance: Instance

    @property
    def url(self) -> str:
        """Its origin, such as `http://10.0.0.7:8001`."""
        return self.instance.url

    @property
    def host(self) -> str:
        """Its host, IPv6 without brackets."""
        return self.instance.host

    @property
    def port(self) -> int:
        """Its port."""
        return self.instance.port

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What it says of itself."""
        return self.instance.metadata


class Picking:
    """One `pick` on its way: the claim that it holds, and what the end of its block says of the node."""

    def __init__(self, core: Core, service: str, key: Any, clock: Clock = time.monotonic) -> None:
        check_name(service, "the service to pick from")
        self._core = core
        self._clock = clock
        self._node: Node | None = None
        asked, policy, now = options(call(key=key)), core.services.policy(service), clock()
        timeout = policy.timeout if asked.timeout is None else asked.timeout
        self._call = Call(service, key=asked.key, started=now, timeout=timeout, among=asked.where)
        self._balancer = core.services.balancer(service, secure=False, now=now)

    def steps(self) -> Iterator[Wait]:
        """Return the steps before `claim`."""
        return first_view(self._balancer, self._call, self._clock)

    def claim(self) -> Picked:
        """Choose and claim a node; raise `NoInstances` if there is none."""
        try:
            self._node = self._balancer.claim(self._call, self._clock())
        except NoInstances as nobody:
            raise self._core.nobody(self._balancer, str(nobody)) from None
        if self._node is None:
            raise self._core.nobody(self._balancer)
        return Picked(self._node.instance)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._call.release()
        node, ejections = self._node, self._balancer.ejections
        if node is None:
            return
        if isinstance(error, Exception):  # not if it was cancelled or interrupted
            ejections.refused(node, self._clock(), f"left by {type(error).__name__}")  # its text may hold a secret
        elif error is None and node.health.refusals:
            ejections.answered(node, self._clock())


def until_ready(core: Core, services: Sequence[str], timeout: float, clock: Clock = time.monotonic) -> Iterator[Wait]:
    """Yield steps until each service has an instance that calls may go to, or raise at the end of the time.

    What is bypassed needs none; what has a fallback is waited for, but never a reason to raise.
    """
    check_number(timeout, "wait_ready(timeout=)", 0, 3600)
    ends = clock() + timeout
    names = services or core.services.named
    if not names:
        raise ValueError("name the services to wait for, wait_ready('users'), or give the client services=")
    for name in names:
        check_name(name, "a service to wait for")
    waited = [name for name in names if not core.bypassed(name, clock())]
    for name in waited:
        core.services.balancer(name, secure=False, now=clock())  # all are watched from now on
    for name in waited:
        yield from _until_usable(core, name, ends, clock)


def _until_usable(core: Core, name: str, ends: float, clock: Clock) -> Iterator[Wait]:
    while True:
        now = clock()
        balancer = core.services.balancer(name, secure=False, now=now)  # another one if the transport has been closed
        if balancer.usable():
            return
        if now >= ends or balancer.abandoned:
            if core.services.policy(name).fallback is not None and not core.services.final:
                return
            answered = balancer.view is not None or core.services.final
            raise core.nobody(balancer) if answered else DiscoveryError(core.services.explain(balancer))
        yield Wait(balancer.gate, partial(_news, balancer), ends - now)


def _news(balancer: Balancer) -> bool:
    return balancer.usable() or balancer.abandoned
