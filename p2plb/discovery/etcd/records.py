"""What stands in etcd for one instance: its key and its JSON value, read with suspicion and written plainly.

Whoever can write to the registry can write anything, so `decode` lets through only what it understands and raises
`BadRecord` for all else, with a short text that is safe to log. It knows nothing of how bytes reach etcd (driver.py)
or of what becomes of a record (reducer.py).
"""

import ipaddress
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, Never

from p2plb.instance import NAME, Instance

VERSION: Final = 1
PREFIX: Final = "/p2plb"
STATES: Final = ("up", "draining", "down")
MAX_VALUE: Final = 16 * 1024
MAX_METADATA: Final = 4 * 1024
MAX_METADATA_KEYS: Final = 64
MAX_DEPTH: Final = 16
_MAX_DIGITS: Final = 20
_MAX_LABEL: Final = 128
_MAX_REASON: Final = 200
_FIELDS: Final = ("id", "service", "url", "weight", "zone", "priority", "state", "keepalive", "http", "metadata")
_LOOPBACK_NAME: Final = re.compile(r"(?:.+\.)?localhost")
# What resolvers read as a number, such as 0x7f.1, is an address in disguise.
_NUMERIC_NAME: Final = re.compile(r"(?:.+\.)?(?:[0-9]+|0x[0-9a-f]*)")


class BadRecord(ValueError):
    """A record that is passed over; the text says why, in at most 200 printable characters."""

    def __init__(self, reason: str) -> None:
        text = "".join(letter if letter.isprintable() else "?" for letter in reason[:_MAX_REASON])
        super().__init__(text)


def services_root(prefix: str = PREFIX) -> str:
    """Return the root below which services stand, such as `/p2plb/services/`."""
    return f"{prefix}/services/"


def service_prefix(root: str, service: str) -> bytes:
    """Return what all keys of a service start with; it ends in `/`, so `users` never covers `users2`."""
    return f"{root}{service}/".encode()


def key(root: str, service: str, id: str) -> bytes:  # noqa: A002  the word of the record
    """Return the key of one instance."""
    return service_prefix(root, service) + id.encode()


def split_key(root: str, key: bytes) -> tuple[str, str]:
    """Return the service and the id that a key names, or raise `BadRecord`."""
    start = root.encode()
    segments = key[len(start) :].decode("ascii", "replace").split("/")
    if not key.startswith(start) or len(segments) != 2 or not all(map(NAME.fullmatch, segments)):  # noqa: PLR2004  service, id
        raise BadRecord("the key is not <root><service>/<id>")
    return segments[0], segments[1]


def service_of(root: str, key: bytes) -> str | None:
    """Return the service below which a key stands, whatever follows; None if it stands below none."""
    start = root.encode()
    service, slash, _ = key[len(start) :].decode("ascii", "replace").partition("/")
    return service if key.startswith(start) and slash and NAME.fullmatch(service) else None


def encode(instance: Instance) -> bytes:
    """Return the value to store; `ValueError` or `TypeError` for a record that its readers would pass over."""
    _check_metadata(instance.metadata)
    record = {"v": VERSION, **{name: getattr(instance, name) for name in _FIELDS}}
    record["metadata"] = dict(instance.metadata)
    value = _dump(record | {"started": instance.started, "sdk": instance.sdk})
    root = services_root()  # any would do
    decode(root, key(root, instance.service, instance.id), value, loopback=True)
    return value


def decode(root: str, key: bytes, value: bytes, *, loopback: bool) -> Instance:
    """Return the instance that a key and its value describe; raises only `BadRecord`.

    `loopback` says that the registry itself is on this machine's loopback: only then may instances be.
    """
    service, id_ = split_key(root, key)
    record = _parse(value)
    _check_version(record)
    if record.get("id") != id_ or record.get("service") != service:
        raise BadRecord("id and service of the value are not those of the key")
    try:
        instance = _instance(record)
    except (TypeError, ValueError) as error:
        raise BadRecord(str(error)) from None
    _check_host(instance.host, loopback=loopback)
    return instance


def _parse(value: bytes) -> dict[str, Any]:
    if len(value) > MAX_VALUE:
        raise BadRecord(f"the value has {len(value)} bytes, more than {MAX_VALUE}")
    try:
        record = _STRICT.decode(value.decode())
        # The walk is dear, and few values can need it: deep ones have brackets, surrogates are escaped.
        if b"\\u" in value or value.count(b"{") + value.count(b"[") > MAX_DEPTH:
            _check_tree(record, MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"the value is no strict JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadRecord("the value is no JSON object")
    return record


def _reject(constant: str) -> Never:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a whole number is out of range")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return record


_STRICT: Final = json.JSONDecoder(
    parse_constant=_reject, parse_float=_finite, parse_int=_whole, object_pairs_hook=_unique
)


def _check_tree(value: object, depth: int) -> None:
    """Raise `ValueError` for what nests too deeply, and for half a surrogate pair, which could not be written."""
    if depth == 0:
        raise ValueError(f"it nests more than {MAX_DEPTH} levels deep")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for name, item in value.items():
            name.encode()
            _check_tree(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_tree(item, depth - 1)


def _check_version(record: dict[str, Any]) -> None:
    version = record.get("v", VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise BadRecord("v is no version")
    if version > VERSION:
        raise BadRecord(f"version {version} is newer than this p2plb, which reads up to {VERSION}")


def _instance(record: dict[str, Any]) -> Instance:
    known = {name: record[name] for name in (*_FIELDS, "started", "sdk") if name in record}
    known["state"] = _state(known.get("state", "up"))
    known["http"] = _protocols(known.get("http", ["1.1"]))
    _check_label(known.get("zone", ""), "zone")
    _check_label(known.get("sdk", ""), "sdk")
    _check_metadata(known.get("metadata", {}))
    _check_started(known.get("started"))
    return Instance(**known)


def _state(value: object) -> str:
    """Return the state, "draining" for one that a newer p2plb may have written."""
    return value if isinstance(value, str) and value in STATES else "draining"


def _protocols(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > 8:  # noqa: PLR2004  far more versions of HTTP than there are
        raise ValueError("http is a short list of versions")
    for version in value:
        _check_label(version, "a version of HTTP")
    return tuple(value)


def _check_label(value: object, what: str) -> None:
    if not isinstance(value, str) or len(value) > _MAX_LABEL or not value.isprintable():
        raise ValueError(f"{what} is a string of at most {_MAX_LABEL} printable characters")


def _check_started(value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("started is a number of seconds")


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    if not isinstance(metadata, Mapping):
        raise TypeError("metadata is a mapping")
    if len(metadata) > MAX_METADATA_KEYS:
        raise ValueError(f"metadata has {len(metadata)} keys, more than {MAX_METADATA_KEYS}")
    size = len(_dump(dict(metadata)))
    if size > MAX_METADATA:
        raise ValueError(f"metadata takes {size} bytes as JSON, more than {MAX_METADATA}")


def _check_host(host: str, *, loopback: bool) -> None:
    address = _address(host)
    if address is None and _NUMERIC_NAME.fullmatch(host):
        raise BadRecord(f"{host} is a number in disguise")
    if address and (address.is_unspecified or address.is_multicast or address.is_link_local):
        raise BadRecord(f"{host} is no address of an instance")
    local = address.is_loopback if address else bool(_LOOPBACK_NAME.fullmatch(host))
    if local and not loopback:
        raise BadRecord(f"{host} is on loopback, and the registry is not")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host literally is, IPv4 out of its IPv6 mapping; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _dump(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
