"""Calls to the owners of keys before they are sent: whom they are bound to, what they carry, how long they have.

Nothing here waits or sends. A lookup uses the snapshot of the client's own view, so that the owner is one whom the
client can call. It is the same for all families: a request is anything with `url` and `extensions`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from p2plb.balancing.attempts import Wait, first_view
from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Call
from p2plb.calling.core import Core
from p2plb.calling.options import bound, options
from p2plb.discovery.registry import Listener, Watch
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance, check_number
from p2plb.sharding.computed import Computed
from p2plb.sharding.scattering import NotSent
from p2plb.sharding.shardmap import ShardMap

K = TypeVar("K")
_OF_SEND: Final[tuple[str, ...]] = ("auth", "follow_redirects", "stream")  # the others are of `build_request`


@dataclass(frozen=True, slots=True)
class Errand(Generic[K]):
    """One owner's part of a scatter before it is sent."""

    instance: Instance
    keys: tuple[K, ...]
    request: Any


class Errands:
    """What goes to the owners of keys of one service through one client. Any thread may ask."""

    def __init__(self, client: Any, service: str) -> None:
        self.service = service
        self.computed = Computed()
        self._client = client
        self._core: Core = client._core  # noqa: SLF001  owners are looked for as the client looks for instances

    def balancer(self) -> Balancer:
        """Return the client's balancer of the service."""
        return self._core.services.balancer(self.service, secure=False, now=time.monotonic())

    def first_view(self, balancer: Balancer, timeout: float | None) -> Iterator[Wait]:
        """Yield the wait for the registry's first list, as a call with this timeout would wait for it."""
        timeout = self._core.services.policy(self.service).timeout if timeout is None else timeout
        return first_view(balancer, Call(self.service, started=time.monotonic(), timeout=timeout), time.monotonic)

    def snapshot(self, balancer: Balancer) -> Snapshot:
        """Return the snapshot of the view in force, or raise `NoInstances`."""
        if balancer.view is None or not balancer.view.snapshot.instances:
            raise self._core.nobody(balancer)
        return balancer.view.snapshot

    def watch(self, listener: Listener) -> Watch:
        """Have the client's registry tell of each snapshot."""
        return self._core.services.registry.watch(self.service, listener)

    def request(self, method: str, url: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return a request and what of the options given goes to `send` with it."""
        send = {name: given.pop(name) for name in _OF_SEND if name in given}
        return self._checked(self._client.build_request(method, url, **given)), send

    def bind(self, request: Any, owners: Iterable[Instance], timeout: float | None = None) -> None:
        """Have the request go to these instances only."""
        ids = tuple(owner.id for owner in owners)
        request.extensions = bound(request.extensions, self.service, ids, timeout)

    def plan(self, found: ShardMap, keys: Iterable[K], build: Callable[[list[K]], Any]) -> list[Errand[K]]:
        """Return what a scatter sends; nothing is sent before all of it is built."""
        groups = found.group(keys)
        errands = [Errand(one, tuple(mine), self._checked(build(mine))) for one, mine in groups.items()]
        if len({id(errand.request) for errand in errands}) < len(errands):
            raise ValueError("build_request returns a new request for each owner: each goes to one instance")
        return errands

    def set_out(self, errand: Errand[K], ends: float | None) -> None:
        """Bind an errand's request to its owner; `TimeoutError` if its time is over before it is sent."""
        left = None
        if ends is not None:
            asked = options(errand.request.extensions).timeout
            own = self._core.services.policy(self.service).timeout if asked is None else asked
            left = ends - time.monotonic() if own is None else min(ends - time.monotonic(), own)
            if left <= 0:
                raise NotSent("the scatter's time was over before this part of it was sent")
        self.bind(errand.request, (errand.instance,), left)

    def _checked(self, request: Any) -> Any:
        if self._core.route(request) != self.service:
            raise ValueError(f"{request.url} is not for service {self.service!r}, whose owner the call is to go to")
        return request


def ends_at(timeout: float | None, concurrency: int) -> float | None:
    """Check the bounds of a scatter and return its deadline."""
    check_number(concurrency, "scatter(concurrency=)", 1, 10_000)
    if not isinstance(concurrency, int):
        raise TypeError(f"scatter(concurrency=) is a whole number, not {concurrency!r}")
    if timeout is None:
        return None
    check_number(timeout, "scatter(timeout=)", 0, 86_400)
    return time.monotonic() + timeout


def changed_hands(error: Any, request: Any, before: ShardMap, now: ShardMap) -> bool:
    """Whether a request met nobody because its owner has just left, and was never sent.

    After a redirect the error is of another request: the first one has been answered.
    """
    served = getattr(error, "p2plb", None)
    return served is not None and not served.attempts and error.request is request and now is not before


def check_count(replicas: int) -> None:
    """Raise unless it is a number of replicas."""
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise TypeError(f"replicas= is a whole number, not {replicas!r}")
    if replicas < 1:
        raise ValueError(f"replicas= counts the owner: it is 1 or more, not {replicas}")
