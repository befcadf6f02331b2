"""Being called: how a program says which instance of which service it is.

    with p2plb.register("users", port=8001, registry="etcd://…"):
        serve()

Arguments are checked here and made into a record; what then happens to it is in `lifetime.py`.
"""

import inspect
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypedDict, TypeVar

from p2plb.discovery.etcd import records
from p2plb.discovery.registry import MIN_TTL, Registry
from p2plb.instance import Instance, check_number
from p2plb.serving import address, environment
from p2plb.serving.environment import BY_ADDRESS
from p2plb.serving.lifetime import Registration
from p2plb.serving.record import Terms
from p2plb.version import __version__

__all__ = ["Registration", "register"]

SDK: Final = f"p2plb/{__version__}"
MAX_TTL: Final = 3600
MAX_WAIT: Final = 86_400
MIN_INTERVAL: Final = 0.01
DEFAULT_TIMEOUT: Final = 10.0
UNNAMED: Final = "unnamed"

F = TypeVar("F", bound=Callable[[], object] | None)


class RegisterOptions(TypedDict, total=False):
    """The keyword arguments of `register`, for those who pass them on."""

    url: str | None
    host: str | None
    port: int | None
    scheme: str
    registry: Registry | str | None
    id: str | None
    weight: float
    zone: str
    priority: int
    metadata: Mapping[str, Any] | None
    keepalive: float | None
    http: Iterable[str]
    ttl: float
    ready: Callable[[], bool] | None
    healthy: Callable[[], object] | None
    healthy_interval: float
    required: bool
    timeout: float
    drain_on: Iterable[int]
    drain_grace: float


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
    healthy: Callable[[], object] | None = None,
    healthy_interval: float = 5.0,
    required: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    drain_on: Iterable[int] = (),
    drain_grace: float = 1.0,
) -> Registration:
    """Return a registration of this process as an instance of `service`; nothing happens before it is entered.

    The address is `url`, an origin such as `http://10.0.0.7:8001`, else P2PLB_URL, else `host` (P2PLB_HOST, POD_IP, or
    a guess from the way to the registry) and `port` (P2PLB_PORT, PORT). The `id` is P2PLB_ID or POD_NAME, else random;
    "@address" makes it from the address. `registry` is a URL or a `Registry`, by default what P2PLB_REGISTRY names.
    `weight`, `zone`, `priority`, `metadata`, `keepalive` (seconds for which the server keeps idle connections) and
    `http` are stored for callers to see. With P2PLB_REGISTER=0 nothing is registered.

    The record is put once `ready` says yes, by default when the announced address accepts connections, and lives for
    `ttl` seconds after the last sign of life. `healthy` is asked each `healthy_interval` seconds; while
    it says no, raises or does not answer, the record is marked down. Entering returns at once, or with `required` waits
    up to `timeout` seconds until the record stands and raises `RegistrationError` if it does not. Leaving tells clients
    first, goes on serving for `drain_grace` seconds, then takes the record out; a signal in `drain_on` does so
    too and is then handed on. `ValueError` or `TypeError` says which argument or variable is wrong.
    """
    if isinstance(http, str):
        raise TypeError(f"http is a collection of versions: write http=({http!r},)")
    if isinstance(drain_on, int):
        raise TypeError("drain_on is a collection of signals: write drain_on=(signal.SIGTERM,)")
    if not isinstance(required, bool):
        raise TypeError(f"required is True or False, not {required!r}: timeout= takes the seconds")
    named = environment.identity() if id is None else id
    draft = Instance(
        id=UNNAMED if named in (None, BY_ADDRESS) else named,
        service=service,
        url=environment.url_of(url, scheme, host, port),
        weight=weight,
        zone=zone,
        priority=priority,
        keepalive=keepalive,
        http=tuple(http),
        metadata=dict(metadata or {}),
        sdk=SDK,
    )
    records.encode(draft)
    terms = Terms(
        draft=draft,
        complete=partial(_complete, named=named),
        located=draft.host != address.UNKNOWN_HOST,
        enabled=environment.enabled(),
        registry=registry,
        ttl=_number("ttl", ttl, MIN_TTL, MAX_TTL),
        ready=_function("ready", ready),
        healthy=_function("healthy", healthy),
        interval=_number("healthy_interval", healthy_interval, MIN_INTERVAL, MAX_TTL),
    )
    return Registration(
        terms,
        required=required,
        timeout=_number("timeout", timeout, 0, MAX_WAIT),
        drain_on=drain_on,
        drain_grace=_number("drain_grace", drain_grace, 0, MAX_TTL),
    )


def _complete(draft: Instance, host: str | None, *, named: str | None) -> Instance:
    """Return the record that is announced: what could not be known before is filled in.

    `ValueError` if it is none that readers believe, such as for a guessed host that is link-local.
    """
    url = draft.url if host is None else address.origin(draft.scheme, host, draft.port)
    name = address.id_of(url) if named == BY_ADDRESS else named or secrets.token_hex(8)
    instance = replace(draft, id=name, url=url, started=round(time.time(), 3))
    records.encode(instance)
    return instance


def _number(name: str, value: float, low: float, high: float) -> float:
    check_number(value, name, low, high)
    return value


def _function(name: str, value: F) -> F:
    if value is not None and not callable(value):
        raise TypeError(f"{name} is a function without arguments, not {value!r}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} is called on a thread of p2plb: give a plain function, not one made by async def")
    return value
