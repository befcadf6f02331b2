"""Where an etcd is and how to reach it: the value behind `p2plb.etcd(…)` and etcd URLs, completed by the environment.

    P2PLB_ETCD_USER, and P2PLB_ETCD_PASSWORD or P2PLB_ETCD_PASSWORD_FILE
    P2PLB_ETCD_CA, P2PLB_ETCD_CERT, P2PLB_ETCD_KEY      PEM files, for TLS only

What a URL or an argument says wins. No text that is made here repeats a credential.
"""

import functools
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from p2plb.discovery.registry import Registry
from p2plb.instance import is_loopback

if TYPE_CHECKING:
    from p2plb.discovery.etcd.driver import Driver

logger = logging.getLogger("p2plb")

DEFAULT_PORT: Final = 2379
DEFAULT_PREFIX: Final = "/p2plb"
USER: Final = "P2PLB_ETCD_USER"
PASSWORD: Final = "P2PLB_ETCD_PASSWORD"  # noqa: S105  the name of a variable
PASSWORD_FILE: Final = "P2PLB_ETCD_PASSWORD_FILE"  # noqa: S105  the same
FILES: Final = ("P2PLB_ETCD_CA", "P2PLB_ETCD_CERT", "P2PLB_ETCD_KEY")
_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>.*))?", re.DOTALL)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._-]{1,128}){1,8}")

DriverName = Literal["gateway", "grpc"]


@dataclass(frozen=True, slots=True)
class EtcdURL:
    """What an etcd URL says; equal URLs reach the same registry."""

    hosts: tuple[str, ...]  # `host:port`, sorted
    prefix: str = DEFAULT_PREFIX
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    password_file: str | None = None
    driver: DriverName = "gateway"

    def build(self, note: str = "", rest: Callable[[], None] = lambda: None) -> Registry:
        """Return the registry; nothing is connected yet. `ImportError` if the driver needs what is not installed."""
        # httpx is loaded when a registry is needed, not when p2plb is imported.
        from p2plb.discovery.etcd.registry import EtcdRegistry  # noqa: PLC0415  see above

        if self.user and not self.tls:
            _warn_of_plain_password(tuple(host for host in self.hosts if not is_loopback(_name(host))))
        scheme = "https" if self.tls else "http"
        driver = _driver(self.driver)(
            [f"{scheme}://{host}" for host in self.hosts],
            user=self.user,
            password=self.password,
            password_file=self.password_file,
            ca=self.ca,
            cert=self.cert,
            key=self.key,
        )
        return EtcdRegistry(driver, prefix=self.prefix, note=note, rest=rest)


def etcd(
    *hosts: str,
    user: str | None = None,
    password: str | None = None,
    password_file: str | os.PathLike[str] | None = None,
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    tls: bool | None = None,
    prefix: str = DEFAULT_PREFIX,
    driver: DriverName = "gateway",
) -> Registry:
    """Return a registry on the etcd at `hosts`, such as "10.0.0.1:2379"; it is yours to close, and shared with nobody.

    `user` logs in with `password` or what `password_file` holds at the time. `ca`, `cert` and `key` are PEM files, read
    again for each new connection; they are for etcd, as a client's `verify=` and `cert=` are for instances. TLS is used
    if there is one of them, or as `tls` says. What is not given the environment may say: P2PLB_ETCD_USER, _PASSWORD,
    _PASSWORD_FILE, _CA, _CERT, _KEY. `driver="grpc"` goes by python-etcd3. `ValueError` and `TypeError` say what is
    wrong with an argument, `ImportError` what is not installed; nothing is connected before the registry is used.
    """
    login = _texts(user=user, password=password, password_file=password_file)
    files = _texts(ca=ca, cert=cert, key=key)
    if driver not in ("gateway", "grpc"):
        raise ValueError(f'driver is "gateway" or "grpc", not {driver!r}')
    if tls is None:
        tls = any(files.values()) or any(map(os.environ.get, FILES))
    if any(files.values()) and not tls:
        raise ValueError("ca, cert and key are for TLS; leave tls=False away")
    if not hosts or any(not isinstance(host, str) or re.search("[/@]", host) for host in hosts):
        raise ValueError(
            'endpoints are strings and no URLs; write p2plb.etcd("10.0.0.1:2379", "10.0.0.2:2379", user=…)'
        )
    names = tuple(sorted({parse_host(host) for host in hosts}))
    said = EtcdURL(names, parse_prefix(prefix), tls, **login, **files, driver=driver)
    return completed(said, os.environ).build()


def completed(said: EtcdURL, environ: Mapping[str, str]) -> EtcdURL:
    """Return what was said with what the environment adds; `ValueError` if that leaves a user without a password."""
    said = _with_files(said, environ) if said.tls else said
    user = said.user or environ.get(USER) or None
    if user is None or said.password or said.password_file:
        return replace(said, user=user)
    password, file = _password(environ)
    return replace(said, user=user, password=password, password_file=file)


def parse_host(text: str) -> str:
    """Return an endpoint as `host:port`; `ValueError` says what to write instead."""
    match = _HOST.fullmatch(text.strip())
    if match is None:
        raise ValueError("an endpoint of etcd is host or host:2379, IPv6 addresses in brackets")
    port = match["port"] if match["port"] is not None else str(DEFAULT_PORT)
    # The port is not repeated: without an @ it may be a password.
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65_536:  # noqa: PLR2004  the range of a TCP port
        raise ValueError("the port of an etcd is a number from 1 to 65535; write host:2379")
    return f"{match['name'].lower()}:{int(port)}"


def parse_prefix(text: str) -> str:
    """Return the prefix below which everything stands; `ValueError` says what it is made of."""
    prefix = text.rstrip("/")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError("the prefix in etcd begins with '/' and is made of letters, digits, '.', '_', '-' and '/'")
    return prefix or DEFAULT_PREFIX


def _texts(**said: object) -> dict[str, Any]:
    """Return arguments as the strings that they should be, paths among them; a `TypeError` names, but repeats none."""
    texts = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in said.items()}
    for name, text in texts.items():
        if not isinstance(text, str | None):
            raise TypeError(f"{name} is a string, not a {type(text).__name__}")
    return texts


def _with_files(said: EtcdURL, environ: Mapping[str, str]) -> EtcdURL:
    ca, cert, key = (environ.get(name) or None for name in FILES)
    if said.cert or said.key:
        return replace(said, ca=said.ca or ca)
    return replace(said, ca=said.ca or ca, cert=cert, key=key)


def _password(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    password, file = environ.get(PASSWORD) or None, environ.get(PASSWORD_FILE) or None
    if password and file:
        raise ValueError(f"{PASSWORD} and {PASSWORD_FILE} are both set; keep one of them")
    if not (password or file):
        raise ValueError(
            f"an etcd user needs a password: write user:password@host, or set {PASSWORD} or {PASSWORD_FILE}"
        )
    return password, file


def _driver(name: DriverName) -> Callable[..., "Driver"]:
    if name == "grpc":
        from p2plb.discovery.etcd.grpc import Grpc  # noqa: PLC0415  only what is used is loaded

        return Grpc
    from p2plb.discovery.etcd.gateway import Gateway  # noqa: PLC0415  the same

    return Gateway


def _name(host: str) -> str:
    return host.rpartition(":")[0].strip("[]")


@functools.cache
def _warn_of_plain_password(hosts: tuple[str, ...]) -> None:
    """Say once for each etcd that its password can be read on the way there."""
    if hosts:
        logger.warning("the password for etcd goes to %s in the clear: write etcds://, or give ca=", ", ".join(hosts))
