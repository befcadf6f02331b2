"""The services that a client calls: where the control plane's registry and the data plane's balancers are joined.

Each service has a balancer and a watch, made at its first call and dropped after an idle time (the registry keeps the
last snapshot). The hot way in, `balancer()`, is a look into a dict.
"""

import dataclasses
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping

from cachetools import LRUCache

from p2plb.balancing.balancer import Balancer
from p2plb.calling import shared_health
from p2plb.calling.explain import explain
from p2plb.calling.policy import Policy
from p2plb.discovery import shared
from p2plb.discovery.registry import Registry
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError
from p2plb.observe.events import Observer
from p2plb.observe.stats import ServiceStats, Stats, service_stats

MAX_SERVICES = 1024
IDLE = 300.0
"""Seconds after the last call after which a service's view and watch are dropped."""

CLOSED = "Cannot send a request, as the client has been closed."
"""What httpx itself says in this case."""

ServiceKey = tuple[str, bool]
"""Name, and whether https was asked: a call that asked for it must never meet a node that is recorded without."""


class _Service(Balancer):
    """A balancer with its watch; `end()` ends the watch, once.

    The registry must not keep a client alive that its owner has dropped without closing it, so the watch ends with this
    object at the latest. A call holds it for as long as it waits.
    """

    end: "weakref.finalize[..., _Service]"

    def watch(self, registry: Registry, used: float, on_gone: Callable[[], object]) -> None:
        """Have each snapshot put in force."""
        self.used = used
        self.on_gone = on_gone
        self.end = weakref.finalize(self, registry.watch(self.service, _listener(weakref.ref(self))).close)
        self.end.atexit = False


class Services:
    """Balancers by service, over one registry. Any thread may call."""

    def __init__(
        self,
        source: Registry | str | None,
        default: Policy,
        policies: Mapping[str, Policy],
        *,
        start_timeout: float,
        observers: Iterable[Observer] = (),
        on_gone: Callable[[], object] = lambda: None,
        reach: Hashable = (),
        idle: float = IDLE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._source = source
        self._default = default
        self._policies = dict(policies)
        self._start_timeout = start_timeout
        self._observers = observers
        self._on_gone = on_gone
        self._reach = reach
        self._idle = idle
        self._hold = self._take_hold()  # a wrong URL is an error here, at construction
        self._closed = False
        self.final = False
        """Whether a `close` holds for ever."""
        self._services: dict[ServiceKey, _Service] = {}
        self._fallbacks: LRUCache[str, int] = LRUCache(MAX_SERVICES)
        self.bad_reports = 0
        """How many load reports of instances were garbage."""
        self._lock = threading.Lock()
        self._sweep_at = clock() + idle

    @property
    def registry(self) -> Registry:
        """The registry in use, or after `close` the one that was."""
        return self._hold.registry

    @property
    def named(self) -> tuple[str, ...]:
        """The services that have policies of their own."""
        return tuple(self._policies)

    def policy(self, service: str) -> Policy:
        """Return the policy of a service."""
        return self._policies.get(service, self._default)

    def balancer(self, service: str, *, secure: bool, now: float) -> Balancer:
        """Return the balancer of a service, watching it from now on."""
        found = self._services.get((service, secure))
        if found is None:
            found = self._add((service, secure), now)
        found.used = now
        if now >= self._sweep_at:
            self._sweep(now)
        return found

    def explain(self, balancer: Balancer) -> str:
        """Say why nobody can serve a call: what was looked for, where, how old, who was passed over and why."""
        registry = self.registry
        status = dataclasses.replace(registry.status(), age=registry.age(balancer.service))  # this service's own age
        return explain(balancer, status, self.clock(), self.policy(balancer.service).fallback)

    def fallbacks(self) -> frozenset[str]:
        """Return the fallbacks of all policies."""
        policies = (self._default, *self._policies.values())
        return frozenset(policy.fallback for policy in policies if policy.fallback is not None)

    def falls_back(self, service: str) -> None:
        """Count a call that goes to its service's fallback."""
        with self._lock:
            self._fallbacks[service] = self._fallbacks.get(service, 0) + 1

    def stats(self) -> Stats:
        """Return the statistics of all services that were called lately."""
        now = self.clock()
        found: dict[str, ServiceStats] = {}
        for (name, secure), service in list(self._services.items()):
            shown = f"https://{name}" if secure and (name, False) in self._services else name
            found[shown] = service_stats(service, now)
        for name, count in list(self._fallbacks.items()):
            found[name] = dataclasses.replace(found.get(name, ServiceStats(0, (), {})), fallbacks=count)
        return Stats(self.registry.status(), found, self.bad_reports)

    def close(self) -> None:
        """End all watches and give the registry up; idempotent.

        Unless it is `final` a later call begins anew, and calls that wait for their first view go on: the transport may
        have other users.
        """
        with self._lock:
            services, self._services = self._services, {}
            hold, self._closed = self._hold, True
        for service in services.values():
            if self.final or service.view is not None:
                service.end()
                service.abandon()
        hold.close()

    def after_fork(self) -> None:
        """In a forked child: begin anew, with the registry's last snapshots."""
        self._lock = threading.Lock()
        for service in self._services.values():
            service.end.detach()  # the watch is the parent's, and so may be the locks around it
        self._services = {}
        self._fallbacks = LRUCache(MAX_SERVICES)

    def _take_hold(self) -> shared.Hold:
        hold = shared.hold(self._source)
        weakref.finalize(self, hold.close).atexit = False
        return hold

    def _add(self, key: ServiceKey, now: float) -> _Service:
        with self._lock:
            found = self._services.get(key)
            if found is not None:
                return found
            if self._closed and self.final:
                raise RuntimeError(CLOSED)
            if self._closed:
                self._hold, self._closed = self._take_hold(), False
            service = self._service(key)
            try:
                service.watch(self.registry, now, self._on_gone)
            except DiscoveryError:  # whoever made the registry has closed it
                service.abandon()
                return service
            self._services = {**self._services, key: service}
        if len(self._services) > MAX_SERVICES:
            self._sweep(now)
        return service

    def _service(self, key: ServiceKey) -> _Service:
        name, secure = key
        policy = self.policy(name)
        return _Service(
            name,
            policy.strategy,
            secure=secure,
            only=policy.only,
            start_timeout=self._start_timeout,
            observers=self._observers,
            known=shared_health.recall(self.registry, (key, policy.tls_name, policy.connect_timeout, self._reach)),
        )

    def _sweep(self, now: float) -> None:
        with self._lock:
            by_use = sorted(self._services.items(), key=lambda item: item[1].used, reverse=True)
            kept = {key: one for key, one in by_use[:MAX_SERVICES] if now - one.used < self._idle}
            dropped = [one for key, one in by_use if key not in kept]
            self._services = kept
            self._sweep_at = now + self._idle / 4
        for service in dropped:
            service.end()


def _listener(service: "weakref.ref[_Service]") -> Callable[[Snapshot], None]:
    def listen(snapshot: Snapshot) -> None:
        found = service()
        if found is not None and found.update(snapshot):
            found.on_gone()

    return listen
