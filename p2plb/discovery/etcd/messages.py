"""What is said through etcd's JSON gateway: requests built, answers read, nothing sent.

Bytes are base64, 64-bit integers are strings, fields at their default are absent. Answers come from the network: what
makes no sense raises `Unavailable`, as from any other broken etcd. It is ambiguous: what was asked may have been done.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from p2plb.discovery.etcd.driver import Entry, Unavailable, Want

Json = dict[str, Any]

_EVERYTHING: Final = b"\0"


def encode(raw: bytes) -> str:
    """Return bytes as the gateway wants them."""
    return base64.b64encode(raw).decode("ascii")


def span(prefix: bytes, start: bytes = b"") -> Json:
    """Return the fields that select all keys below a prefix, from `start` on."""
    return {"key": encode(start or prefix or _EVERYTHING), "range_end": encode(prefix_end(prefix))}


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all that begin with `prefix`."""
    body = prefix.rstrip(b"\xff")
    return body[:-1] + bytes([body[-1] + 1]) if body else _EVERYTHING


def publish_txn(key: bytes, value: bytes, lease: int, expect: int | None) -> Json:
    """Put the key unless it is ours with this value; with `expect`, only if that lease or ours holds it."""
    put = {"request_put": {"key": encode(key), "value": encode(value), "lease": str(lease), "prev_kv": True}}
    ours = _held_by(key, lease)
    same = {"target": "VALUE", "key": encode(key), "value": encode(value)}
    if expect is None:
        return txn([ours, same], [], [put])
    look = {"request_range": {"key": encode(key), "keys_only": True}}
    theirs = {"request_txn": txn([_held_by(key, expect)], [put], [look])}
    return txn([ours, same], [], [{"request_txn": txn([ours], [put], [theirs])}])


def delete_txn(key: bytes, lease: int) -> Json:
    """Delete the key if it is under this lease."""
    return txn([_held_by(key, lease)], [{"request_delete_range": {"key": encode(key)}}], [])


def txn(compare: Sequence[Json], success: Sequence[Json], failure: Sequence[Json]) -> Json:
    """Return a transaction."""
    return {"compare": list(compare), "success": list(success), "failure": list(failure)}


def watch_requests(wants: Sequence[Want]) -> list[Json]:
    """Return what opens all the watches on one stream, numbered from 1."""
    return [
        {"create_request": {**span(want.prefix), "start_revision": str(want.start), "watch_id": str(number)}}
        for number, want in enumerate(wants, 1)
    ]


def decode(content: bytes) -> Json:
    """Return the JSON object that an answer or a line of a stream holds."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _nonsense(f"not JSON: {error!r}"[:200]) from None
    if not isinstance(document, dict):
        raise _nonsense("not a JSON object")
    return document


def number(fields: Mapping[str, Any], name: str) -> int:
    """Return a 64-bit integer, 0 if it is absent."""
    value = fields.get(name, 0)
    try:
        return int(value)
    except (ValueError, TypeError, OverflowError):  # JSON has no infinity, but 1e999
        raise _nonsense(f"{name} is not a number") from None


def raw(fields: Mapping[str, Any], name: str) -> bytes:
    """Return a field of bytes, empty if it is absent."""
    value = fields.get(name, "")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise _nonsense(f"{name} is not base64") from None


def part(fields: Mapping[str, Any], name: str) -> Json:
    """Return a nested object, empty if it is absent."""
    value = fields.get(name, {})
    if not isinstance(value, dict):
        raise _nonsense(f"{name} is not an object")
    return value


def parts(fields: Mapping[str, Any], name: str) -> list[Json]:
    """Return a list of objects, empty if it is absent."""
    values = fields.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise _nonsense(f"{name} is not a list of objects")
    return values


def entry(kv: Mapping[str, Any]) -> Entry:
    """Return a key as etcd holds it."""
    return Entry(
        key=raw(kv, "key"),
        value=raw(kv, "value"),
        mod_revision=number(kv, "mod_revision"),
        create_revision=number(kv, "create_revision"),
        lease=number(kv, "lease"),
    )


def event(fields: Mapping[str, Any]) -> Entry:
    """Return the entry that a watch tells of; without a value if the key was deleted."""
    kv = part(fields, "kv")
    if fields.get("type", "PUT") == "DELETE":
        return Entry(key=raw(kv, "key"), value=None, mod_revision=number(kv, "mod_revision"))
    return entry(kv)


def holder(answer: Mapping[str, Any], lease: int) -> int:
    """Return which lease held the key before a `publish_txn`: ours if the transaction found nothing to do."""
    if answer.get("succeeded"):
        return lease
    return _holder_in(answer)


def _holder_in(answer: Mapping[str, Any]) -> int:
    response = next(iter(parts(answer, "responses")), {})
    if "response_txn" in response:
        return _holder_in(part(response, "response_txn"))
    if "response_put" in response:
        return number(part(part(response, "response_put"), "prev_kv"), "lease")
    found = next(iter(parts(part(response, "response_range"), "kvs")), {})
    return number(found, "lease")


def _held_by(key: bytes, lease: int) -> Json:
    return {"target": "LEASE", "key": encode(key), "lease": str(lease)}


def _nonsense(text: str) -> Unavailable:
    return Unavailable(text, ambiguous=True)
