"""Registry URLs: from text to a registry, with errors that say what to write instead.

    etcd://[user[:password]@]host[:2379][,host…][/prefix]
    etcds://…[?ca=FILE][&cert=FILE&key=FILE]      the same over TLS
    etcd+grpc://…, etcds+grpc://…                 the same by python-etcd3
    memory://[name]                               in this process
    static://users=10.0.0.7:80,10.0.0.8:80;weight=2&orders=10.0.0.9:80

User and password are percent-encoded; what is left away of them and of the files the environment may say (see
etcd/address.py). No text that is made here repeats a part of a URL that may be a secret.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote

from p2plb.discovery.etcd.address import DriverName, EtcdURL, completed, parse_host, parse_prefix
from p2plb.discovery.registry import Registry

ENVIRONMENT: Final = "P2PLB_REGISTRY"
DEFAULT: Final = "etcd://127.0.0.1:2379"
DEFAULT_NOTE: Final = f" (the default: give a registry URL or set {ENVIRONMENT})"
_FORM: Final = "write etcd://host:2379,host:2379/prefix"
_SCHEMES: Final = ("etcd", "etcds", "etcd+grpc", "etcds+grpc", "memory", "static")
_STARTS: Final = f"a registry URL starts with {'://, '.join(_SCHEMES[:-1])}:// or {_SCHEMES[-1]}://"
_LATER: Final = {
    "dns": "dns:// is not in this version; write static://users=host:80, or etcd://",
    "http": "http:// is no registry; write etcd://host:2379",
    "https": "https:// is no registry; write etcds://host:2379",
}
_ETCD: Final = re.compile(
    r"(?:(?P<user>[^@]*)@)?(?P<hosts>[^/?#@]*)(?P<prefix>/[^?#@]*)?(?:\?(?P<query>[^#@]*))?", re.DOTALL
)
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{0,128}")


@dataclass(frozen=True, slots=True)
class MemoryURL:
    """What a memory URL says."""

    name: str

    def build(self, _note: str, _rest: Callable[[], None]) -> Registry:
        """Return a new, empty registry."""
        from p2plb.discovery.memory import MemoryRegistry  # noqa: PLC0415  only what is used is loaded

        return MemoryRegistry(f"memory://{self.name}")


@dataclass(frozen=True, slots=True)
class StaticURL:
    """What a static URL says."""

    services: tuple[tuple[str, tuple[str, ...]], ...]

    def build(self, _note: str, _rest: Callable[[], None]) -> Registry:
        """Return the registry."""
        from p2plb.discovery.static import StaticRegistry  # noqa: PLC0415  only what is used is loaded

        text = "&".join(f"{name}={','.join(addresses)}" for name, addresses in self.services)
        return StaticRegistry(dict(self.services), url=f"static://{text}")


RegistryURL = EtcdURL | MemoryURL | StaticURL


def default_url() -> str:
    """Return the URL that is meant when none is given."""
    return os.environ.get(ENVIRONMENT) or DEFAULT


def default_note() -> str:
    """Return what texts add to the address when none is given: nothing, if the environment names one."""
    return "" if os.environ.get(ENVIRONMENT) else DEFAULT_NOTE


def build(url: str | None = None, *, rest: Callable[[], None] = lambda: None) -> Registry:
    """Return a new registry for a URL, for the caller to close; `ValueError` says what is wrong with it.

    Without a URL, the environment variable P2PLB_REGISTRY names it, else it is etcd on this machine. `rest` is called
    by registries with a watch thread while nothing has been watched for a minute.
    """
    if url is None:
        return parse(default_url()).build(default_note(), rest)
    return parse(url).build("", rest)


def parse(url: str, environ: Mapping[str, str] = os.environ) -> RegistryURL:
    """Return what a registry URL says, completed by the environment; `ValueError` says what to write instead."""
    if not isinstance(url, str):
        raise TypeError(f"a registry is a URL or a Registry, not a {type(url).__name__}")
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        raise ValueError(f"{_STARTS}; {_FORM}")
    match scheme.lower():
        case "etcd" | "etcds" | "etcd+grpc" | "etcds+grpc" as etcd:
            said = _parse_etcd(rest, tls=etcd.startswith("etcds"), driver="grpc" if "+" in etcd else "gateway")
            return completed(said, environ)
        case "memory":
            return _parse_memory(rest)
        case "static":
            return _parse_static(rest)
        case other:
            raise ValueError(_LATER.get(other) or _unknown(other))


def _unknown(scheme: str) -> str:
    near = difflib.get_close_matches(scheme, _SCHEMES, n=1)
    meant = f"; did you mean {near[0]}://?" if near else ""
    return _STARTS + meant


def _parse_memory(name: str) -> MemoryURL:
    if not _NAME.fullmatch(name):
        raise ValueError("after memory:// stands nothing or a name of letters, digits, '.', '_' and '-'")
    return MemoryURL(name)


def _parse_static(text: str) -> StaticURL:
    services = {}
    for part in text.split("&"):
        name, equals, addresses = part.partition("=")
        if not equals or not name or not addresses or name in services:
            raise ValueError("write static://users=10.0.0.7:80,10.0.0.8:80 and more services after &, each once")
        services[name] = tuple(addresses.split(","))
    return StaticURL(tuple(sorted(services.items())))


def _parse_etcd(text: str, *, tls: bool, driver: DriverName) -> EtcdURL:
    match = _ETCD.fullmatch(text)
    if match is None:
        raise ValueError(f"this is no etcd URL (user and password are to be percent-encoded); {_FORM}")
    user, password = _credentials(match["user"])
    files = _files(match["query"], tls=tls)
    hosts = tuple(sorted({parse_host(host) for host in match["hosts"].split(",")}))
    return EtcdURL(hosts, parse_prefix(match["prefix"] or ""), tls, user, password, **files, driver=driver)


def _credentials(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    user, colon, password = text.partition(":")
    if not user or bool(colon) != bool(password):
        raise ValueError("before the @ of an etcd URL stands user or user:password, both percent-encoded")
    return unquote(user), unquote(password) or None


def _files(query: str | None, *, tls: bool) -> dict[str, str]:
    pairs = parse_qsl(query or "", keep_blank_values=True)
    files = dict(pairs)
    if unknown := files.keys() - {"ca", "cert", "key"}:
        raise ValueError(f"an etcds URL takes ?ca=FILE&cert=FILE&key=FILE, not {min(unknown)[:32]!r}")
    if files and not tls:
        raise ValueError("ca, cert and key are for TLS; write etcds://")
    if len(files) < len(pairs) or not all(files.values()) or ("cert" in files) != ("key" in files):
        raise ValueError("ca, cert and key each stand once and name a file, cert and key together")
    return files
