"""A registry of fixed lists: for addresses that never change, or that something else keeps right.

It learns nothing and takes no registrations; who of the list is alive is the balancer's to find out.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Never

from p2plb import forks
from p2plb.discovery.notifier import Notifier
from p2plb.discovery.registry import AnnouncementState, Listener, Registry, RegistryStatus, Watch
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import RegistrationError
from p2plb.instance import NAME, Instance, check_name, parse_origin

_PARAMETERS: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "weight": (float, "a number"),
    "priority": (int, "a whole number"),
    "zone": (str, "a name"),
}


class StaticRegistry(Registry):
    """Services with fixed addresses: `StaticRegistry({"users": ["10.0.0.7:80", "https://b.example;weight=2"]})`.

    An address is `[scheme://]host[:port]`, a host a DNS name, an IPv4 address or an IPv6 address in brackets; after it
    may stand `;weight=2`, `;priority=1` and `;zone=a`. Without a scheme it is http. Ids are made of the addresses, so
    the same address has the same id in every process. `ValueError` says which address is wrong, and why.
    """

    def __init__(self, services: Mapping[str, Iterable[str]], *, url: str = "static://") -> None:
        self.url = url
        self._notifier = Notifier(url)
        self._snapshots = {name: _snapshot(name, addresses) for name, addresses in services.items()}
        forks.watch(self)

    def watch(self, service: str, listener: Listener) -> Watch:
        """Tell `listener` the list of `service` once; an empty one if it is not among the services."""
        check_name(service, "a service name")
        if self._notifier.snapshot(service) is None:
            self._notifier.publish(self._snapshots.get(service) or Snapshot(service, ()))
        return self._notifier.subscribe(service, listener)

    def snapshot(self, service: str) -> Snapshot | None:
        """Return the list of a service."""
        return self._snapshots.get(service) or self._notifier.snapshot(service)

    def list(self, timeout: float = 5.0) -> tuple[Snapshot, ...]:  # noqa: ARG002  nothing here takes time
        """Return all lists, sorted by name."""
        return tuple(self._snapshots[name] for name in sorted(self._snapshots))

    def announce(
        self,
        instance: Instance,
        *,
        ttl: float,  # noqa: ARG002  nobody can register here
        ready: Callable[[], bool] = lambda: True,  # noqa: ARG002  the same
        on_state: Callable[[AnnouncementState, Exception | None], None] = lambda _state, _error: None,  # noqa: ARG002  the same
    ) -> Never:
        """Raise `RegistrationError`."""
        raise RegistrationError(
            f"{self.url} is a fixed list in which {instance.service} can't be registered; use etcd:// or memory://"
        )

    def status(self) -> RegistryStatus:
        """Say that all is well: a fixed list is as fresh as it can be."""
        return RegistryStatus(self.url, True, 0.0, None, 0, 0, tuple(sorted(self._snapshots)))

    def close(self) -> None:
        """Stop the notifier's thread; idempotent."""
        self._notifier.close()

    def after_fork(self) -> None:
        """In a forked child: the lists stay, the parent's listeners are gone."""
        self._notifier.after_fork()


def _snapshot(service: str, addresses: Iterable[str]) -> Snapshot:
    check_name(service, "a service name")
    if isinstance(addresses, str):
        raise TypeError(f"the addresses of {service} are a list of strings, not one string")
    instances = {instance.id: instance for instance in (_instance(service, address) for address in addresses)}
    return Snapshot(service, tuple(instances[id_] for id_ in sorted(instances)))


def _instance(service: str, address: str) -> Instance:
    if "@" in address:  # it is not repeated: what stands before may be a password
        raise ValueError(f"service {service}: an address has no user and no password")
    origin, *parameters = (part.strip() for part in address.split(";"))
    url = origin if "://" in origin else f"http://{origin}"
    try:
        return Instance(id=_id(url), service=service, url=url, **dict(map(_parameter, parameters)))
    except ValueError as error:
        raise ValueError(f"service {service}: {error}") from None


def _parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name not in _PARAMETERS:
        raise ValueError(f"after an address may stand ;weight=2, ;priority=1 or ;zone=a, not ;{text}")
    make, what = _PARAMETERS[name]
    try:
        return name, make(value)
    except ValueError:
        raise ValueError(f"{name} is {what}, not {value!r}") from None


def _id(url: str) -> str:
    """Return an id that is the same for the same address everywhere, readable where the address allows it."""
    scheme, host, port = parse_origin(url)
    name = f"{'https-' if scheme == 'https' else ''}{host}-{port}".replace(":", "-")
    return name if NAME.fullmatch(name) else hashlib.sha256(url.encode()).hexdigest()[:32]
