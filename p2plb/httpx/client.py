"""The clients of the httpx family: httpx's own, with one switch in front of the transports that httpx made itself.

httpx wires itself first (proxies of the environment, mounts, `transport=`). Then each transport that it made itself
gives its place to one that lets the route decide between an instance and what was there; what a user or a mock puts
there wins. Standing where httpx looks, ours are also what others find who wrap a client's transports (OpenTelemetry).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Unpack

import httpx

from p2plb.calling.arguments import REFUSED, OurOptions
from p2plb.calling.peers import AsyncPeers, Peers
from p2plb.discovery.registry import Registry
from p2plb.httpx.arguments import AsyncClientOptions, ClientOptions, CommonOptions
from p2plb.httpx.transport import AsyncTransport, Transport

OURS: Final = frozenset(OurOptions.__annotations__) | frozenset(REFUSED)
COMMON: Final = frozenset(CommonOptions.__annotations__)


class Client(Peers, httpx.Client):
    """An `httpx.Client` whose calls to services go straight to an instance: `client.get("http://users/42")`.

    `registry` is a URL (`etcd://h1:2379,h2:2379/prefix`, `memory://`, `static://users=10.0.0.7:80,10.0.0.8:80`) or a
    Registry; without one `P2PLB_REGISTRY` names it, and without that it is `etcd://127.0.0.1:2379`. `policy` says how
    calls go, `services` gives single services policies of their own, `strategy` is the short form of
    `policy=Policy(strategy=…)`. `route` says which requests are for a service (by default: hosts of one label without a
    port, and the names in `services`). `observers` get events, `inner` makes another transport for each instance.
    The first call waits up to `start_timeout` seconds for the registry. `limits` count over all instances; without
    them idle connections are bounded by age. All other arguments are httpx's and are really used; `proxy` concerns
    plain hosts only. Any thread may use it.

    Calls raise httpx's own errors, and `NoInstances` (also a `ConnectError`) if nobody can serve one.
    """

    def __init__(self, registry: Registry | str | None = None, **options: Unpack[ClientOptions]) -> None:
        ours, httpx_options = _split(options)
        self._peers = Transport(registry, **ours)
        self._core = self._peers._core  # noqa: SLF001  a client looks at instances as its transport does
        super().__init__(**httpx_options, **self._peers.client_arguments())
        self._peers.outlets = _outlets(self._peers.fallbacks(), self._mounts, httpx_options.get("transport"))
        given = httpx_options.get("mounts") or {}
        for pattern, proxy in _made_by_httpx(self._mounts, given).items():
            self._mounts[pattern] = _Switch(self._peers, proxy)
        if httpx_options.get("transport") is None:
            self._transport = self._peers  # it sends to plain hosts as well

    def close(self) -> None:
        """Close the client and give the registry up."""
        self._peers.finish()
        super().close()
        self._peers.close()

    def __exit__(self, *exc_info: Any) -> None:  # noqa: PYI036  the types are httpx's matter
        self._peers.finish()
        super().__exit__(*exc_info)
        self._peers.close()


class AsyncClient(AsyncPeers, httpx.AsyncClient):
    """The same as `Client` for asyncio and trio: an `httpx.AsyncClient`."""

    def __init__(self, registry: Registry | str | None = None, **options: Unpack[AsyncClientOptions]) -> None:
        ours, httpx_options = _split(options)
        self._peers = AsyncTransport(registry, **ours)
        self._core = self._peers._core  # noqa: SLF001  a client looks at instances as its transport does
        super().__init__(**httpx_options, **self._peers.client_arguments())
        self._peers.outlets = _outlets(self._peers.fallbacks(), self._mounts, httpx_options.get("transport"))
        given = httpx_options.get("mounts") or {}
        for pattern, proxy in _made_by_httpx(self._mounts, given).items():
            self._mounts[pattern] = _AsyncSwitch(self._peers, proxy)
        if httpx_options.get("transport") is None:
            self._transport = self._peers  # it sends to plain hosts as well

    async def aclose(self) -> None:
        """Close the client and give the registry up."""
        self._peers.finish()
        await super().aclose()
        await self._peers.aclose()

    async def __aexit__(self, *exc_info: Any) -> None:  # noqa: PYI036  the types are httpx's matter
        self._peers.finish()
        await super().__aexit__(*exc_info)
        await self._peers.aclose()


class _Switch(httpx.BaseTransport):
    """Instances for what is routed, a proxy of httpx's own for the rest."""

    def __init__(self, peers: Transport, plain: httpx.BaseTransport) -> None:
        self._peers = peers
        self._plain = plain

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._peers.carry(request, lambda: self._plain)

    def close(self) -> None:
        self._plain.close()


class _AsyncSwitch(httpx.AsyncBaseTransport):
    """Instances for what is routed, a proxy of httpx's own for the rest."""

    def __init__(self, peers: AsyncTransport, plain: httpx.AsyncBaseTransport) -> None:
        self._peers = peers
        self._plain = plain

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._peers.carry(request, lambda: self._plain)

    async def aclose(self) -> None:
        await self._plain.aclose()


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of the transport and those of httpx's client."""
    mine = OURS | COMMON
    return {n: options[n] for n in options if n in mine}, {n: options[n] for n in options if n not in mine}


def _made_by_httpx(mounts: Mapping[Any, Any], given: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the mounted transports that httpx made for proxies."""
    users = {id(one) for one in given.values()}
    return {pattern: one for pattern, one in mounts.items() if one is not None and id(one) not in users}


def _outlets(fallbacks: Iterable[str], mounts: Mapping[Any, Any], default: Any) -> dict[str, Any]:
    """Return the transports that httpx takes for fallbacks where that is none that it made for plain hosts."""
    found = {}
    for origin in fallbacks:
        url = httpx.URL(origin)
        mounted = next((transport for pattern, transport in mounts.items() if pattern.matches(url)), None)
        found[origin] = default if mounted is None else mounted
    return {origin: transport for origin, transport in found.items() if transport is not None}
