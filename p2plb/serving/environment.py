"""What a program may leave to its environment: under which address and id it is known, and whether at all.

Arguments win over the environment, and an empty variable counts as none. A wrong value is a `ValueError` that names its
variable. It asks no registry and no network.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from p2plb.discovery.etcd import records
from p2plb.instance import Instance, check_name
from p2plb.serving.address import UNKNOWN_HOST, origin

REGISTER: Final = "P2PLB_REGISTER"
BY_ADDRESS: Final = "@address"
"""In place of an id: make it from the address, so that processes behind one port share one record."""
_URLS: Final = ("P2PLB_URL",)
_HOSTS: Final = ("P2PLB_HOST", "POD_IP")
_PORTS: Final = ("P2PLB_PORT", "PORT")
_IDS: Final = ("P2PLB_ID", "POD_NAME")

Environ = Mapping[str, str]


class NoPort(ValueError):
    """Neither arguments nor environment say on which port the server listens."""


def enabled(environ: Environ = os.environ) -> bool:
    """Say whether to register at all: P2PLB_REGISTER=0 says no."""
    value = environ.get(REGISTER, "")
    if value not in ("", "0", "1"):
        raise ValueError(f"{REGISTER} is 0 or 1, not {value!r}")
    return value != "0"


def identity(environ: Environ = os.environ) -> str | None:
    """Return the id that the environment gives, None if it gives none."""
    with _found(_IDS, environ) as value:
        if value not in (None, BY_ADDRESS):
            check_name(value, "an instance id")
        return value


def url_of(url: str | None, scheme: str, host: str | None, port: int | None, environ: Environ = os.environ) -> str:
    """Return the origin to announce; its host is `UNKNOWN_HOST` if neither arguments nor environment give one."""
    if url is not None:
        if host is not None or port is not None:
            raise ValueError("give url, or host and port, not both")
        return url
    if host is None and port is None and (found := _url(environ)):
        return found
    number = _port(environ) if port is None else _check_port(port)
    return _url_of_host(scheme, number, environ) if host is None else origin(scheme, host, number)


def _url(environ: Environ) -> str | None:
    with _found(_URLS, environ) as value:
        return value and _check_url(value)


def _url_of_host(scheme: str, port: int, environ: Environ) -> str:
    with _found(_HOSTS, environ) as value:
        return _check_url(origin(scheme, value or UNKNOWN_HOST, port))


def _port(environ: Environ) -> int:
    with _found(_PORTS, environ) as value:
        if value is None:
            raise NoPort("give port, the one on which the server listens, or url; or set P2PLB_PORT or P2PLB_URL")
        if not (value.isascii() and value.isdigit()):
            raise ValueError(f"a port is a whole number, not {value!r}")
        return _check_port(int(value))


def _check_port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port is a whole number, not {port!r}")
    if port == 0:
        raise ValueError("port 0 lets the system choose: start the server first and give the port that it got")
    return port


def _check_url(url: str) -> str:
    """Raise `ValueError` for an origin that readers of the registry would pass over."""
    records.encode(Instance(id="any", service="any", url=url))
    return url


@contextmanager
def _found(variables: tuple[str, ...], environ: Environ) -> Iterator[str | None]:
    """Lend the value of the first variable that is set; what is found wrong with it is told with its name."""
    name = next((name for name in variables if environ.get(name)), None)
    try:
        yield environ[name] if name else None
    except ValueError as error:
        if name is None:
            raise
        raise ValueError(f"{name}: {error}") from None
