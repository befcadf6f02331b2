"""What every transport has, whichever family and sync or async: policies, services, options, and the call they make.

It knows nothing of httpx: a request is anything with `method`, `url`, `headers` and `extensions`.
"""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from p2plb.balancing.attempts import Step, attempts
from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Call, Outcome
from p2plb.balancing.policy import Policy
from p2plb.balancing.slots import Slots
from p2plb.balancing.view import Strategy
from p2plb.discovery.registry import Registry
from p2plb.instance import check_name, check_number
from p2plb.observe.events import AttemptEnded, CallEnded, Observer, emit
from p2plb.options import options, record
from p2plb.repeatable import may_repeat
from p2plb.retry_after import parse_retry_after
from p2plb.routing import Route, make_route
from p2plb.services import Services
from p2plb.wire.lane import Wire

RESTING = frozenset({429, 503})
"""Answers whose `Retry-After` keeps calls away from the node (RFC 9110, RFC 6585)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call on its way: its state, the balancer that it asks and the policy that it follows."""

    call: Call
    balancer: Balancer
    policy: Policy
    target: bytes
    headers: list[tuple[bytes, bytes]]
    tls_name: str

    def steps(self) -> Iterable[Step]:
        """Return the steps to carry out."""
        return attempts(self.balancer, self.call, self.policy.retry)

    @property
    def repeats(self) -> bool:
        """Whether the request will be sent again if a kept connection turns out to be closed."""
        retry = self.policy.retry
        return self.call.repeatable and self.call.replayable and retry is not None and retry.attempts > 1

    def wire(self, now: float) -> Wire:
        """Return what one attempt sends, with its time limits."""
        policy, extensions = self.policy, self.call.request.extensions
        timeout = extensions.get("timeout") or {}
        connect = timeout.get("connect")
        if policy.connect_timeout is not None:
            connect = policy.connect_timeout if connect is None else min(connect, policy.connect_timeout)
        deadline = self.call.deadline
        if policy.attempt_timeout is not None:
            head = now + policy.attempt_timeout
            deadline = head if deadline is None else min(deadline, head)
        sent = {**extensions, "timeout": {**timeout, "connect": connect}, "sni_hostname": self.tls_name}
        return Wire(self.target, self.headers, sent, deadline)


class Core:
    """The frozen configuration of a transport and the services that it calls.

    Transports with the same `reach` come to an instance the same way, so what one has learned of it helps the other.
    """

    def __init__(
        self,
        registry: Registry | str | None,
        *,
        strategy: Strategy | None,
        policy: Policy | None,
        services: Mapping[str, Policy] | None,
        route: Route | str | None,
        observers: Iterable[Observer],
        start_timeout: float,
        max_connections: int | None,
        on_gone: Callable[[], object],
        reach: Hashable = (),
    ) -> None:
        if policy is not None and strategy is not None:
            raise TypeError("strategy= is the short form of policy=Policy(strategy=…): give one of the two")
        if policy is None:
            policy = Policy() if strategy is None else Policy(strategy=strategy)
        if not isinstance(policy, Policy):
            raise TypeError(f"policy= is a Policy, not {policy!r}")
        policies = dict(services or {})
        for name, one in policies.items():
            check_name(name, "a service name in services=")
            if not isinstance(one, Policy):
                raise TypeError(f"services= maps names to policies, but {name!r} to {one!r}")
        check_number(start_timeout, "start_timeout=", 0, 3600)
        self.observers = tuple(observers)
        if not all(callable(observer) for observer in self.observers):
            raise TypeError("observers= is a collection of functions that take an event")
        self.route = make_route(route, policies)
        self._target: Callable[[Any], bytes] | None = getattr(self.route, "target", None)
        self._max_connections = max_connections
        self.slots = None if max_connections is None else Slots(max_connections)
        self.services = Services(
            registry,
            policy,
            policies,
            start_timeout=start_timeout,
            observers=self.observers,
            on_gone=on_gone,
            reach=reach,
        )

    def exchange(self, request: Any, *, replayable: bool) -> Exchange | None:
        """Return the call that a request makes, None if it is not for a service."""
        service = self.route(request)
        if service is None:
            return None
        now = time.monotonic()
        url = request.url
        policy = self.services.policy(service)
        asked = options(request.extensions)
        secure = url.scheme in {"https", "wss"}
        call = Call(
            service,
            request,
            key=asked.key,
            started=now,
            timeout=policy.timeout if asked.timeout is None else asked.timeout,
            repeatable=_may_repeat(request, policy) if asked.repeatable is None else asked.repeatable,
            replayable=replayable,
            observers=self.observers,
            slots=self.slots,
            pool_timeout=(request.extensions.get("timeout") or {}).get("pool"),
        )
        headers: list[tuple[bytes, bytes]] = request.headers.raw
        if policy.host is not None:
            host = (b"Host", policy.host.encode("ascii"))
            headers = [host, *(item for item in headers if item[0].lower() != b"host")]
        target = url.raw_path if self._target is None else self._target(request)
        name = request.extensions.get("sni_hostname") or policy.tls_name or url.host
        return Exchange(call, self.services.balancer(service, secure=secure, now=now), policy, target, headers, name)

    def answered(self, status: int, response: Any, *, reused: bool) -> Outcome:
        """Return the outcome of an attempt that has the head of its answer."""
        rest = None
        if status in RESTING:
            rest = parse_retry_after(response.headers.get("retry-after"), time.time())
        return Outcome(status=status, response=response, reused=reused, retry_after=rest)

    def ended(self, call: Call, error: BaseException | None) -> None:
        """Release what a call holds if it has no answer, and tell observers and `call()` blocks how it ended."""
        now = time.monotonic()
        cut_off = None if error is None else call.abandon(now)
        record(call.served)
        if not self.observers:
            return
        if cut_off is not None:
            event = AttemptEnded(call.service, cut_off.instance, call.attempt, cut_off.seconds, None, error)
            emit(self.observers, event)
        status = call.outcome.status if error is None and call.outcome is not None else None
        emit(self.observers, CallEnded(call.service, len(call.history), now - call.started, status, error))

    def after_fork(self) -> None:
        """In a forked child: begin anew."""
        self.slots = None if self._max_connections is None else Slots(self._max_connections)
        self.services.after_fork()


def _may_repeat(request: Any, policy: Policy) -> bool:
    return may_repeat(request, () if policy.retry is None else policy.retry.repeatable)
