"""Under which address an instance announces itself: the one given, or the one that the way to the registry shows.

Never the host name's: what `gethostbyname(gethostname())` returns is 127.0.1.1 on one machine and a bridge on another.
It knows registries only by the text of their URL, and nothing of servers.
"""

import hashlib
import ipaddress
import socket
from collections.abc import Callable
from typing import Final

from p2plb.discovery import urls
from p2plb.discovery.etcd.address import EtcdURL
from p2plb.errors import RegistrationError
from p2plb.instance import is_loopback, netloc

LOOPBACK: Final = "127.0.0.1"
UNKNOWN_HOST: Final = "unknown.invalid"
"""Stands for the host that is still to be guessed; nobody has this name (RFC 2606)."""
# An address that nobody has (RFC 5737): the way there is the default route. Nothing is ever sent.
_ELSEWHERE: Final = ("192.0.2.1", 9)

Route = Callable[[str, int], str]


def guess_host(registry: str, *, route: Route | None = None) -> str:
    """Return the address of this machine that callers who know the registry can reach.

    That is 127.0.0.1 if the registry is on this machine's loopback, else the address from which this machine would
    speak to the registry. Asks DNS if `needs_dns` says so. Raises `RegistrationError`.
    """
    away = _away(registry)
    return _first_route([*away[:1], _ELSEWHERE], route or route_towards) if away else LOOPBACK


def needs_dns(registry: str) -> bool:
    """Say whether guessing the host means to ask DNS for the registry, which may take seconds."""
    return any(not _is_literal(host) for host, _ in _away(registry)[:1])


def endpoints(registry: str) -> list[tuple[str, int]]:
    """Return host and port of each endpoint in a registry's URL, none for one that is no etcd."""
    try:
        url = urls.parse(registry, environ={})  # the text of a registry, which names no user
    except ValueError:
        return []
    split = [host.rpartition(":") for host in url.hosts] if isinstance(url, EtcdURL) else []
    return [(name.strip("[]"), int(port)) for name, _, port in split]


def route_towards(host: str, port: int) -> str:
    """Return the local address of the way to a host. Connecting a UDP socket looks up the route and sends nothing."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0]).partition("%")[0]


def origin(scheme: str, host: str, port: int) -> str:
    """Return the origin of a host and a port, an IPv6 address in brackets."""
    bare = host.strip("[]")
    return f"{scheme}://{netloc(bare if ':' in bare else host, port)}"


def id_of(url: str) -> str:
    """Return an id made from an address: the same for all processes that are announced there."""
    return hashlib.blake2b(url.encode(), digest_size=8).hexdigest()


def _away(registry: str) -> list[tuple[str, int]]:
    return [endpoint for endpoint in endpoints(registry) if not is_loopback(endpoint[0])]


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _first_route(targets: list[tuple[str, int]], route: Route) -> str:
    for target in targets:
        try:
            found = route(*target)
        except OSError:
            continue
        if not is_loopback(found):
            return found
    raise RegistrationError("this machine's address can't be told: give host= or url=, or set P2PLB_HOST")
