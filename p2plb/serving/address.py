"""Under which address an instance announces itself: the one given, or the one that the way to the registry shows.

Never the host name's: what `gethostbyname(gethostname())` returns is 127.0.1.1 on one machine and a bridge on another.
It knows registries only by the text of their URL, and nothing of servers.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import Final

from p2plb.errors import RegistrationError

POD_IP: Final = "POD_IP"
LOOPBACK: Final = "127.0.0.1"
_ETCD_PORT: Final = 2379
_URL: Final = re.compile(r"etcds?(?:\+grpc)?://(?:[^@/]*@)?([^/?\s]*)")
_HOST: Final = re.compile(r"(?:\[([^\]]+)\]|([^:]+))(?::([0-9]+))?")
# An address that nobody has (RFC 5737): the way there is the default route. Nothing is ever sent.
_ELSEWHERE: Final = ("192.0.2.1", 9)

Route = Callable[[str, int], str]


def guess_host(registry: str, *, environ: Mapping[str, str] = os.environ, route: Route | None = None) -> str:
    """Return the address of this machine that callers who know the registry can reach.

    That is POD_IP if it is set; 127.0.0.1 if the registry is on this machine's loopback; else the address from which
    this machine would speak to the registry. May ask DNS for the registry's name. Raises `RegistrationError`.
    """
    if pod := environ.get(POD_IP):
        return pod
    away = [endpoint for endpoint in endpoints(registry) if not is_loopback(endpoint[0])]
    return _first_route([*away[:1], _ELSEWHERE], route or route_towards) if away else LOOPBACK


def endpoints(registry: str) -> list[tuple[str, int]]:
    """Return host and port of each endpoint in a registry's URL, none for a registry inside the process."""
    match = _URL.match(registry)
    hosts = match[1].split(",") if match else []
    found = filter(None, (_HOST.fullmatch(host) for host in hosts))
    return [(host[1] or host[2], int(host[3] or _ETCD_PORT)) for host in found]


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine's loopback, by its text alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def route_towards(host: str, port: int) -> str:
    """Return the local address of the way to a host. Connecting a UDP socket looks up the route and sends nothing."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0]).partition("%")[0]


def origin(scheme: str, host: str, port: int) -> str:
    """Return the origin of a host and a port, an IPv6 address in brackets."""
    bare = host.strip("[]")
    return f"{scheme}://[{bare}]:{port}" if ":" in bare else f"{scheme}://{host}:{port}"


def _first_route(targets: list[tuple[str, int]], route: Route) -> str:
    for target in targets:
        try:
            found = route(*target)
        except OSError:
            continue
        if not is_loopback(found):
            return found
    raise RegistrationError(f"this machine's address can't be told: give host= or url=, or set {POD_IP}")
