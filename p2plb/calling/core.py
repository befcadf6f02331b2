"""What every transport has, whichever family and sync or async: policies, services, options, and the call they make.

It knows nothing of httpx: a request is anything with `method`, `url`, `headers` and `extensions`.
"""

import random
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p2plb.balancing.attempts import Step, attempts
from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Call, Ending, GiveUp, Outcome, Via
from p2plb.balancing.slots import Slots
from p2plb.balancing.strategies.sticky import signer
from p2plb.balancing.view import Strategy
from p2plb.calling.fallback import Bypass, falls_back, first_way, host_of, usable
from p2plb.calling.options import options, record
from p2plb.calling.policy import Policy
from p2plb.calling.retry_after import parse_retry_after
from p2plb.calling.routing import Route, make_route
from p2plb.calling.services import CLOSED, Services
from p2plb.discovery.registry import Registry
from p2plb.errors import NoInstances
from p2plb.instance import check_name, check_number
from p2plb.load import HEADER as LOAD_HEADER
from p2plb.load import parse_load
from p2plb.observe.events import AttemptEnded, CallEnded, Observer, emit
from p2plb.repeatable import may_repeat
from p2plb.wire.lane import Wire

Headers = list[tuple[bytes, bytes]]

RESTING = frozenset({429, 503})
"""Answers whose `Retry-After` keeps calls away from the node (RFC 9110, RFC 6585)."""


@dataclass(frozen=True, slots=True, repr=False)  # headers hold credentials, and what reports errors shows variables
class Exchange:
    """One call on its way: its state, the balancer that it asks and the policy that it follows.

    A call that goes past the instances from the start has no balancer: the registry is not asked for it.
    """

    call: Call
    balancer: Balancer | None
    policy: Policy
    target: bytes
    headers: Headers
    tls_name: str
    fallback: str | None

    def steps(self) -> Iterator[Step]:
        """Yield the steps to carry out."""
        if self.balancer is None:
            return
        try:
            yield from attempts(self.balancer, self.call, self.policy.retry)
        except NoInstances as nobody:  # the strategy's own word
            if self.call.outcome is None:
                self.call.give_up = GiveUp(Ending.NO_INSTANCES, str(nobody))

    def peers(self) -> Balancer:
        """Return the balancer of a call that asked for instances."""
        if self.balancer is None:
            raise AssertionError("a call that goes past the instances ends with an outcome")
        return self.balancer

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

    def outside(self) -> tuple[str, Wire]:
        """Return the origin past the instances and what plain httpx sends there, bounded by the call's deadline."""
        request, fallback = self.call.request, self.fallback
        sent = {**request.extensions, "timeout": request.extensions.get("timeout") or {}}
        if self.call.via is Via.FALLBACK and fallback is not None:
            return fallback, Wire(self.target, self._fallback_headers(fallback), sent, self.call.deadline)
        url = request.url
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        return origin, Wire(url.raw_path, request.headers.raw, sent, self.call.deadline)

    def _fallback_headers(self, fallback: str) -> Headers:
        """Return the headers with the fallback's own Host, unless the caller or the policy has chosen one."""
        request = self.call.request
        chosen = request.headers.get("host") != request.url.netloc.decode("ascii")  # httpx takes it from the URL
        keep = chosen or self.policy.host is not None
        return self.headers if keep else with_host(self.headers, host_of(fallback))


def with_host(headers: Headers, host: str) -> Headers:
    """Return headers with this Host."""
    return [(b"Host", host.encode("ascii")), *(item for item in headers if item[0].lower() != b"host")]


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
        no_instances: Callable[..., Exception],
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
        self.bypassed = Bypass().covers
        self._no_instances = no_instances
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
        among = asked.ids(service)  # none but these will do: no fallback either
        fallback = usable(policy.fallback, secure=secure) if among is None else None
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
            among=asked.where if among is None else among,
        )
        call.via = first_way(
            fallback, policy.share, random.random, bypassed=among is None and self.bypassed(service, now)
        )
        headers: Headers = request.headers.raw
        if policy.host is not None:
            headers = with_host(headers, policy.host)
        target = url.raw_path if self._target is None else self._target(request)
        name = request.extensions.get("sni_hostname") or policy.tls_name or url.host
        balancer = self.services.balancer(service, secure=secure, now=now) if call.via is Via.PEER else None
        return Exchange(call, balancer, policy, target, headers, name, fallback)

    def goes_out(self, exchange: Exchange) -> bool:
        """Whether a call goes past the instances now: to the fallback, or out as plain httpx would send it."""
        call = exchange.call
        can = exchange.fallback is not None and not self.services.final  # else the client has been closed meanwhile
        if can and call.via is Via.PEER and falls_back(call, time.monotonic()):
            call.via = Via.FALLBACK
        return call.via is not Via.PEER

    def nobody(self, balancer: Balancer, why: str = "", **context: Any) -> Exception:
        """Return the family's error that says why nobody can serve, `why` first if the strategy has said something."""
        if self.services.final and balancer.view is None:
            return RuntimeError(CLOSED)
        facts = self.services.explain(balancer)
        return self._no_instances(f"{why}; {facts}" if why else facts, **context)

    def answered(self, status: int, response: Any, *, reused: bool) -> Outcome:
        """Return the outcome of an attempt that has the head of its answer."""
        rest, headers = None, response.headers
        if status in RESTING:
            rest = parse_retry_after(headers.get("retry-after"), time.time())
        said = headers.get(LOAD_HEADER)
        report = None if said is None else parse_load(said, time.monotonic())
        if said is not None and report is None:
            self.services.bad_reports += 1
        return Outcome(status, response, reused=reused, retry_after=rest, report=report)

    def history(self, exchange: Exchange) -> Iterator[str]:
        """Yield what an error says of the attempts before it, and of whom it is if that is the fallback."""
        call = exchange.call
        for number, one in enumerate(call.history, 1):
            where = f"{call.service}/{one.instance.id} at {one.instance.url}"
            yield f"p2plb attempt {number}: {where}: {one.reason} ({one.fault})"
        if call.via is Via.FALLBACK:
            why = "" if call.give_up is None else f": {self.services.explain(exchange.peers())}"
            yield f"p2plb: it is the fallback {exchange.fallback} that has failed{why}"

    def ended(self, call: Call, error: BaseException | None) -> None:
        """Release what a call holds if it has no answer, and tell observers and `call()` blocks how it ended."""
        now = time.monotonic()
        cut_off = None if error is None else call.abandon(now)
        if error is None:
            self._sign(call)
        record(lambda: getattr(error, "p2plb", None) or call.served())
        if not self.observers:
            return
        if cut_off is not None:
            event = AttemptEnded(call.service, cut_off.instance, call.attempt, cut_off.seconds, None, error)
            emit(self.observers, event)
        status = call.outcome.status if error is None and call.outcome is not None else None
        emit(self.observers, CallEnded(call.service, len(call.history), now - call.started, status, error, call.via))

    def _sign(self, call: Call) -> None:
        """Have a sticky session's cookie set on its answer; a call that was bound elsewhere says nothing of it."""
        strategy = signer(self.services.policy(call.service).strategy)
        if strategy is None or call.outcome is None or call.among is not None:
            return
        if (instance := call.served().instance) is not None:
            strategy.sign(call, instance.id, call.outcome.response)

    def after_fork(self) -> None:
        """In a forked child: begin anew."""
        self.slots = None if self._max_connections is None else Slots(self._max_connections)
        self.services.after_fork()


def _may_repeat(request: Any, policy: Policy) -> bool:
    return may_repeat(request, () if policy.retry is None else policy.retry.repeatable)
