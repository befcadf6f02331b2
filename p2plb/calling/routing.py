"""Routes: which service a request is for.

A route is a name (every request goes there) or a function from a request to a name or None; None sends the request out
as plain httpx would. A route may also have a method `target(request) -> bytes` that says what path the instance sees.
Routes only read what every httpx family's request has.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from p2plb.instance import check_name

Route = Callable[[Any], "str | None"]

LABEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
PREFIX: Final = re.compile(r"/|(?:/[!-.0->@-~]+)+")  # printable ASCII without ? between slashes
SUFFIX: Final = re.compile(r"(?:\.[a-z0-9-]+)*")
HOST: Final = re.compile(r"[^/:@?#\[\]\sA-Z]+|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*")  # a name, or an IPv6 address
SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})


def by_host(*, only: Collection[str] | None = None, suffix: str = "") -> Route:
    """Return a route that takes the host of the URL as the service: `http://users/42` is for `users`.

    Without `only` any one-label host without a port is a service, except localhost. `only` names the services, and a
    port is then ignored. With `suffix=".p2p"` services are called as `http://users.p2p/42`.
    """
    if isinstance(only, str):
        raise TypeError(f"by_host(only=) is a collection of names: write only={{{only!r}}}")
    names = None if only is None else frozenset(only)
    for name in names or ():
        check_name(name, "a service name that is a host")
        if name != name.lower():
            raise ValueError(f"a host in a URL is lower case, so no URL can name {name!r}: write {name.lower()!r}")
    if not isinstance(suffix, str):
        raise TypeError(f"by_host(suffix=) is a string such as '.p2p', not {suffix!r}")
    if not SUFFIX.fullmatch(suffix):
        raise ValueError(f"by_host(suffix=) starts with a dot and is lower case, such as '.p2p', not {suffix!r}")

    def route(request: Any) -> str | None:
        url = request.url
        host: str = url.host
        if url.scheme not in SCHEMES or not host.endswith(suffix):
            return None
        name = host.removesuffix(suffix)
        if names is not None:
            return name if name in names else None
        return name if url.port is None and name != "localhost" and LABEL.fullmatch(name) else None

    return route


def default_route(services: Collection[str]) -> Route:
    """Return the route of a client without one: a key of `services=`, or one label without a port."""
    named, labels = by_host(only=services), by_host()
    if not services:
        return labels
    return lambda request: named(request) or labels(request)


class by_path:  # noqa: N801  reads as the function that it is to users, beside by_host
    """A route by the first matching path prefix: `by_path({"/users": "users"}, host="gateway")`.

    `host` limits it to URLs with that host. With `strip=True` the instance sees the path without the prefix. The
    longest prefix wins; a prefix matches whole segments.
    """

    def __init__(self, prefixes: Mapping[str, str], *, host: str | None = None, strip: bool = False) -> None:
        for prefix, service in prefixes.items():
            if not isinstance(prefix, str) or not PREFIX.fullmatch(prefix):
                raise ValueError(f"a path prefix is like /users, percent-encoded and without / at its end: {prefix!r}")
            check_name(service, f"the service that by_path() maps {prefix} to")
        if host is not None and not (isinstance(host, str) and HOST.fullmatch(host)):
            raise ValueError(f"by_path(host=) is a host such as 'gateway', in lower case and without a port: {host!r}")
        by_length = sorted(prefixes.items(), key=lambda item: -len(item[0]))
        self._prefixes = [(prefix.rstrip("/").encode("ascii"), service) for prefix, service in by_length]
        self._host = host
        self._strip = strip

    def __call__(self, request: Any) -> str | None:
        """Return the service of a request, None if no prefix matches."""
        found = self._match(request)
        return None if found is None else found[1]

    def target(self, request: Any) -> bytes:
        """Return the path and query that the instance sees."""
        raw: bytes = request.url.raw_path
        found = self._match(request)
        if not self._strip or found is None:
            return raw
        rest = raw[len(found[0]) :]
        return rest if rest.startswith(b"/") else b"/" + rest

    def _match(self, request: Any) -> tuple[bytes, str] | None:
        url = request.url
        if url.scheme not in SCHEMES or (self._host is not None and url.host != self._host):
            return None
        path: bytes = url.raw_path.partition(b"?")[0]
        for prefix, service in self._prefixes:
            if path == prefix or path.startswith(prefix + b"/"):
                return prefix, service
        return None


def make_route(route: "Route | str | None", services: Collection[str]) -> Route:
    """Return the route that a client's `route=` argument means."""
    if route is None:
        return default_route(services)
    if isinstance(route, str):
        check_name(route, "route=, if it is the name of a service,")
        return lambda _request: route
    if not callable(route):
        raise TypeError(f"route= is the name of a service or a function from a request to a name, not {route!r}")
    return route
