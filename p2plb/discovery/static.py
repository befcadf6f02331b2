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

Address = str | Mapping[str, Any]

_PARAMETERS: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "weight": (float, "a number"),
    "priority": (int, "a whole number"),
    "zone": (str, "a name"),
}
_FIELDS: Final = ("url", *_PARAMETERS, "keepalive", "metadata")


def static(services: Mapping[str, Iterable[Address]]) -> "StaticRegistry":
    """Return a registry of fixed lists: `static({"users": ["10.0.0.7:80", {"url": "https://b:443", "weight": 2}]})`.

    An address is a text as in a `static://` URL, or a mapping with `url` and any of `weight`, `priority`, `zone`,
    `keepalive` and `metadata`. `ValueError` or `TypeError` says which address is wrong, and why. Close it after use.
    """
    if not isinstance(services, Mapping):
        raise TypeError(f"static() takes a mapping from names to addresses, not a {type(services).__name__}")
    return StaticRegistry(services)


class StaticRegistry(Registry):
    """Services with fixed addresses: `StaticRegistry({"users": ["10.0.0.7:80", "https://b.example;weight=2"]})`.

    An address is `[scheme://]host[:port]`, a host a DNS name, an IPv4 address or an IPv6 address in brackets; after it
    may stand `;weight=2`, `;priority=1` and `;zone=a`. Without a scheme it is http. Ids are made of the addresses, so
    the same address has the same id in every process.
    """

    def __init__(self, services: Mapping[str, Iterable[Address]], *, url: str = "static://") -> None:
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


def _snapshot(service: str, addresses: Iterable[Address]) -> Snapshot:
    check_name(service, "a service name")
    if isinstance(addresses, str | Mapping) or not isinstance(addresses, Iterable):
        kind = type(addresses).__name__  # what it holds is not repeated: it may be a password
        raise TypeError(f"service {service}: its addresses are a list such as ['10.0.0.7:80'], not one {kind}")
    instances: dict[str, Instance] = {}
    for address in addresses:
        one = _instance(service, address)
        if one.id in instances:
            raise ValueError(f"service {service}: {one.url} stands twice; weight=2 gives it twice the calls")
        instances[one.id] = one
    return Snapshot(service, tuple(instances[id_] for id_ in sorted(instances)))


def _instance(service: str, address: Address) -> Instance:
    try:
        fields = _from_text(address) if isinstance(address, str) else _from_mapping(address)
        return Instance(id=_id(fields["url"]), service=service, **fields)
    except (TypeError, ValueError) as error:
        raise type(error)(f"service {service}: {error}") from None


def _from_text(address: str) -> dict[str, Any]:
    if "@" in address:  # it is not repeated: what stands before may be a password
        raise ValueError("an address has no user and no password")
    origin, *parameters = (part.strip() for part in address.split(";"))
    return {"url": _url(origin), **dict(map(_parameter, parameters))}


def _from_mapping(address: object) -> dict[str, Any]:
    if not isinstance(address, Mapping) or "url" not in address:
        raise TypeError("an address is a string such as '10.0.0.7:80', or a mapping with a url")
    if unknown := [name for name in address if name not in _FIELDS]:
        raise ValueError(f"an address has {', '.join(_FIELDS)}, not {unknown[0]!r}")
    return {**address, "url": _url(address["url"])}


def _url(origin: object) -> Any:
    return f"http://{origin}" if isinstance(origin, str) and "://" not in origin else origin


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
