"""Being called: how a program says which instance of which service it is.

    with p2plb.register("users", port=8001, registry="etcd://…"):
        serve()

Arguments are checked here and made into a record; what then happens to it is in `lifetime.py`.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from p2plb.discovery.etcd import records
from p2plb.discovery.registry import MIN_TTL, Registry
from p2plb.instance import Instance, check_number
from p2plb.serving import address
from p2plb.serving.lifetime import Registration
from p2plb.version import __version__

__all__ = ["Registration", "register"]

SDK: Final = f"p2plb/{__version__}"
MAX_TTL: Final = 3600
MAX_WAIT: Final = 86_400


def register(
    service: str,
    *,
    url: str | None = None,
    host: str | None = None,
    port: int | None = None,
    scheme: str = "http",
    registry: Registry | str | None = None,
    id: str | None = None,  # noqa: A002  the word of the record
    weight: float = 1.0,
    zone: str = "",
    priority: int = 0,
    metadata: Mapping[str, Any] | None = None,
    keepalive: float | None = None,
    http: Iterable[str] = ("1.1",),
    ttl: float = 10,
    ready: Callable[[], bool] | None = None,
    required: float | None = None,
    drain_on: Iterable[int] = (),
    drain_grace: float = 1.0,
) -> Registration:
    """Return a registration of this process as an instance of `service`; nothing happens before it is entered.

    The address is `url`, an origin such as `http://10.0.0.7:8001`, or `host` and `port`; without a host it is guessed
    from the way to the registry. `registry` is a URL or a `Registry`, by default what P2PLB_REGISTRY names. The id is
    random unless given. `weight`, `zone`, `priority`, `metadata`, `keepalive` (seconds for which the server keeps idle
    connections) and `http` are stored for callers to see.

    The record is put once `ready` says yes, by default when the announced address accepts connections, and lives for
    `ttl` seconds after the last sign of life. With `required`, entering waits up to so many seconds until it stands.
    Leaving tells clients first, goes on serving for `drain_grace` seconds, then takes the record out; a signal in
    `drain_on` does so too and is then handed on. `ValueError` or `TypeError` says which argument is wrong.
    """
    if isinstance(http, str):
        raise TypeError(f"http is a collection of versions: write http=({http!r},)")
    draft = Instance(
        id="unnamed" if id is None else id,
        service=service,
        url=_draft_url(url, scheme, host, port),
        weight=weight,
        zone=zone,
        priority=priority,
        keepalive=keepalive,
        http=tuple(http),
        metadata=dict(metadata or {}),
        sdk=SDK,
    )
    records.encode(draft)
    check_number(ttl, "ttl", MIN_TTL, MAX_TTL)
    check_number(drain_grace, "drain_grace", 0, MAX_TTL)
    check_number(0 if required is None else required, "required", 0, MAX_WAIT)
    if ready is not None and not callable(ready):
        raise TypeError(f"ready is a function without arguments, not {ready!r}")
    if isinstance(drain_on, int):
        raise TypeError("drain_on is a collection of signals: write drain_on=(signal.SIGTERM,)")
    return Registration(
        partial(_complete, draft, named=id is not None, located=bool(url or host)),
        registry=registry,
        ttl=ttl,
        ready=ready,
        required=required,
        drain_on=drain_on,
        drain_grace=drain_grace,
    )


def _draft_url(url: str | None, scheme: str, host: str | None, port: int | None) -> str:
    """Return the url to store, or one that differs from it in the host alone if that is still to be guessed."""
    if url is not None:
        if host is not None or port is not None:
            raise ValueError("give url, or host and port, not both")
        return url
    if port is None:
        raise ValueError("give port, the one on which the server listens, or url")
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port is a whole number, not {port!r}")
    if port == 0:
        raise ValueError("port 0 lets the system choose: start the server first and give the port that it got")
    return address.origin(scheme, host or address.LOOPBACK, port)


def _complete(draft: Instance, registry: Registry, *, named: bool, located: bool) -> Instance:
    """Return the record that is announced: what could not be known before is filled in.

    `ValueError` if it is none, such as for a POD_IP that is no address.
    """
    host = draft.host if located else address.guess_host(registry.url)
    instance = replace(
        draft,
        id=draft.id if named else secrets.token_hex(8),
        url=draft.url if located else address.origin(draft.scheme, host, draft.port),
        started=round(time.time(), 3),
    )
    records.encode(instance)
    return instance
