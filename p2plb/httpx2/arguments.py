# Written by `python -m tests.generate` from p2plb/httpx/arguments.py: change that file, not this one.
"""The arguments of clients and transports that are httpx2's: their types, TLS contexts and limits."""

import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import httpx2

from p2plb.calling.arguments import OurOptions


class CommonOptions(TypedDict, total=False):
    """What is used for instances and for plain hosts alike."""

    verify: ssl.SSLContext | str | bool
    cert: Any
    trust_env: bool
    http1: bool
    http2: bool
    limits: httpx2.Limits | None


class TransportOptions(OurOptions, CommonOptions, total=False):
    """The arguments of a transport beside the registry."""


class _HttpxOptions(TypedDict, total=False):
    """What goes to httpx2's client as it is."""

    auth: Any
    params: Any
    headers: Any
    cookies: Any
    timeout: Any
    proxy: Any
    follow_redirects: bool
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., Any]]] | None
    base_url: httpx2.URL | str
    default_encoding: str | Callable[[bytes], str]


class ClientOptions(TransportOptions, _HttpxOptions, total=False):
    """The arguments of a `Client` beside the registry."""

    transport: httpx2.BaseTransport | None
    mounts: Mapping[str, httpx2.BaseTransport | None] | None


class AsyncClientOptions(TransportOptions, _HttpxOptions, total=False):
    """The arguments of an `AsyncClient` beside the registry."""

    transport: httpx2.AsyncBaseTransport | None
    mounts: Mapping[str, httpx2.AsyncBaseTransport | None] | None


_default_contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}


class Context:
    """The TLS context of a client, made when it is first needed.

    One for each (verify, cert, http1, http2): httpcore2 writes the protocols to offer into it at each connection. The
    default one is shared by the process, because making one takes longer than many a call.
    """

    def __init__(
        self, verify: ssl.SSLContext | str | bool, cert: Any, *, trust_env: bool, http: tuple[bool, bool]
    ) -> None:
        self._arguments = {"verify": verify, "cert": cert, "trust_env": trust_env}
        self._http = http
        self._made: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """Return the context."""
        if self._made is None:
            self._made = self._shared() if self._is_default() else httpx2.create_ssl_context(**self._arguments)
        return self._made

    def _is_default(self) -> bool:
        return self._arguments["verify"] is True and self._arguments["cert"] is None

    def _shared(self) -> ssl.SSLContext:
        trust_env = self._arguments["trust_env"]
        files = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")) if trust_env else ()
        key = (self._http, trust_env, files)
        if key not in _default_contexts:
            _default_contexts[key] = httpx2.create_ssl_context(**self._arguments)
        return _default_contexts[key]


def bounds(limits: httpx2.Limits | None) -> dict[str, Any]:
    """Return what limits say of idle lanes."""
    if limits is None:
        return {}
    return {"expiry": limits.keepalive_expiry, "keep": limits.max_keepalive_connections}
