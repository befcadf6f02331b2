"""The frozen record of one registered process, validated when it is made.

It knows nothing of etcd or JSON (discovery/etcd/records.py), nor of how the instance is doing (balancing/node.py).
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ORIGIN: Final = re.compile(
    r"(https?)://(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253}))(?::([0-9]{1,5}))?", re.ASCII
)
_USER: Final = re.compile(r"^([A-Za-z]+://)?.*@", re.DOTALL)
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_WEIGHT: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Instance:
    """One registered process of a service: where it is and what it says of itself.

    Only `id`, `service` and `url` are required. `url` is an origin such as `http://10.0.0.7:8001` (no path, no user,
    IPv6 in brackets). `weight` is its share relative to others (0 to 1000), `priority` 0 is served first, `state` is
    "up", "draining" or "down", `keepalive` is how long in seconds its server keeps an idle connection, if it knows.
    `ValueError` or `TypeError` says what is wrong with a field.
    """

    id: str
    service: str
    url: str
    weight: float = 1.0
    zone: str = ""
    priority: int = 0
    state: str = "up"
    keepalive: float | None = None
    http: tuple[str, ...] = ("1.1",)
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    started: float | None = None
    sdk: str = ""
    scheme: str = field(init=False, repr=False, compare=False)
    host: str = field(init=False, repr=False, compare=False)
    port: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.id, "an instance id")
        check_name(self.service, "a service name")
        scheme, host, port = parse_origin(self.url)
        check_number(self.weight, "weight", 0, MAX_WEIGHT)
        if (
            not isinstance(self.priority, int)
            or isinstance(self.priority, bool)
            or not 0 <= self.priority <= MAX_WEIGHT
        ):
            raise ValueError(f"priority is a whole number from 0 to 1000, not {self.priority!r}")
        if not isinstance(self.state, str) or not isinstance(self.zone, str) or not isinstance(self.sdk, str):
            raise TypeError("state, zone and sdk are strings")
        if self.keepalive is not None:
            check_number(self.keepalive, "keepalive", 0, 86_400)
        if self.started is not None:
            check_number(self.started, "started", 0, 1e11)
        if not isinstance(self.http, tuple) or not all(isinstance(version, str) for version in self.http):
            raise TypeError(f'http is a tuple of versions such as ("1.1", "2"), not {self.http!r}')
        if not isinstance(self.metadata, Mapping) or not all(isinstance(name, str) for name in self.metadata):
            raise TypeError("metadata is a mapping with string keys")
        # A frozen dataclass is filled in through object.__setattr__, as the standard library's own __init__ does.
        object.__setattr__(self, "scheme", scheme)
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "port", port)


def check_name(name: object, what: str) -> None:
    """Raise unless `name` may be one segment of a registry key."""
    if not isinstance(name, str):
        raise TypeError(f"{what} is a string, not {name!r}")
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} is 1 to 128 of the letters A-Z a-z 0-9 . _ - and starts with a letter or digit, not {name!r}"
        )


def check_number(value: object, what: str, low: float, high: float) -> None:
    """Raise unless `value` is a finite number (not a bool) from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} is a number, not {value!r}")
    if not low <= value <= high:  # false for NaN too
        raise ValueError(f"{what} is from {low:g} to {high:g}, not {value!r}")


def parse_origin(url: object) -> tuple[str, str, int]:
    """Return scheme, host (IPv6 without brackets) and port of an origin such as `http://10.0.0.7:8001`."""
    if not isinstance(url, str):
        raise TypeError(f"a url is a string, not a {type(url).__name__}")
    match = _ORIGIN.fullmatch(url)
    if match is None:
        shown = _USER.sub(r"\1***@", url)
        raise ValueError(f"a url is an origin such as http://10.0.0.7:8001, without user, path or query, not {shown!r}")
    scheme, v6, name, port_text = match.groups()
    port = int(port_text) if port_text else _DEFAULT_PORTS[scheme]
    if not 0 < port < 65_536:  # noqa: PLR2004  the range of a TCP port
        raise ValueError(f"a port is from 1 to 65535, not {port}: {url!r}")
    return scheme, _check_host(v6, name, url), port


def netloc(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(host: str) -> bool:
    """Say whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine's loopback, by its text alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_host(v6: str | None, name: str | None, url: str) -> str:
    try:
        if v6 is not None:
            return str(ipaddress.IPv6Address(v6))
        if re.fullmatch(r"[0-9.]+", name or ""):
            return str(ipaddress.IPv4Address(name or ""))
    except ValueError as error:
        raise ValueError(f"{error}: {url!r}") from None
    if name is None or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f"a host is an IP address or a DNS name: {url!r}")
    return name.lower()
