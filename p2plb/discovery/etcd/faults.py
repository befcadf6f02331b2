"""What etcd's refusals mean: from gRPC codes, texts and, only where there is neither, HTTP statuses to `DriverError`s.

Pure. Versions differ in shape and status (`lease already exists` is 412 on 3.4 and 400 on 3.5), codes and texts agree.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from p2plb.discovery.etcd.carrier import NoAnswerInTime
from p2plb.discovery.etcd.driver import Compacted, Denied, DriverError, LeaseGone, Rejected, Unavailable

_LONGEST: Final = 300  # characters of a text from the network that go into an error


class TokenRefused(Denied):
    """The token is missing, unknown or out of date: worth one more login, if there is a user to log in."""


class LeaseExists(Rejected):
    """The lease to be granted lives already."""


class AuthenticationOff(Rejected):
    """There is nothing to log in to: this etcd asks nobody for a password."""


class NotEtcd(Rejected):
    """What answers there is no etcd, or one that does not speak as we do: another endpoint may be one."""


class TooLarge(Rejected):
    """The answer is larger than we accept."""


class Broken(Unavailable):
    """The connection failed, as opposed to an etcd that says it can't serve."""


_NAMED_CERTIFICATE: Final = "CommonName of client"  # a client certificate with a name, which the gateway can't pass on
_ADVICE: Final = "; write etcd+grpc://, where the name of the certificate is the user, or give one without a name"

# Texts come first: etcd uses one code for quite different things.
_TEXTS: Final[tuple[tuple[str, type[DriverError]], ...]] = (
    ("requested lease not found", LeaseGone),
    ("lease already exists", LeaseExists),
    ("revision has been compacted", Compacted),
    ("invalid auth token", TokenRefused),
    ("user name is empty", TokenRefused),
    ("revision of auth store is old", TokenRefused),
    ("authentication is not enabled", AuthenticationOff),
    ("invalid user ID or password", Denied),
    ("permission denied", Denied),
    ("larger than max", Rejected),
)
_CODES: Final[dict[object, type[DriverError]]] = {
    3: Rejected,  # INVALID_ARGUMENT
    5: Rejected,  # NOT_FOUND
    7: Denied,  # PERMISSION_DENIED
    12: NotEtcd,  # UNIMPLEMENTED
    16: TokenRefused,  # UNAUTHENTICATED
}
_DEADLINE_EXCEEDED: Final = 4
_NEVER_SENT: Final = ("failed to connect to all addresses", "DNS resolution failed", "errors resolving")
_CONNECTION: Final = (1, 2, 13, 14)  # CANCELLED, UNKNOWN, INTERNAL, UNAVAILABLE: what gRPC says of a broken one
_STATUSES: Final[dict[int, type[DriverError]]] = {
    HTTPStatus.UNAUTHORIZED: Denied,
    HTTPStatus.FORBIDDEN: Denied,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Rejected,
}


def from_answer(where: str, status: int, content: bytes) -> DriverError:
    """Return what an answer other than 200 means: JSON of any version, or the plain text of whoever stands between."""
    if status == HTTPStatus.NOT_FOUND and b"etcdserver: " not in content:
        return NotEtcd(
            f"{where} answered 404: there is no JSON gateway at /v3/. Either etcd runs with --enable-grpc-gateway=false"
            " (switch it on, or write etcd+grpc://), or is older than 3.4, or this is not its client port"
            " (2379 as a rule) but that of its peers, its metrics or another program"
        )
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and ("code" in document or "error" in document):
        return from_document(where, document)
    text = content.decode(errors="replace")
    if _NAMED_CERTIFICATE in text:
        return Denied(f"{where}: {_clean(text)}{_ADVICE}")
    return _make(_STATUSES.get(status, Unavailable), f"{where} answered {status}: {_clean(text)}")


def from_document(where: str, document: Mapping[str, Any]) -> DriverError:
    """Return what an error document means: flat after a single call, nested under `error` on a stream."""
    nested = document.get("error")
    error = nested if isinstance(nested, dict) else document
    code = error.get("code", error.get("grpc_code"))
    return _classify(where, code, str(error.get("message") or error.get("error") or f"error code {code}"))


def from_status(where: str, code: int, text: str) -> DriverError:
    """Return what the status of a gRPC call means, whether etcd or gRPC itself gave it."""
    if "Received message larger than max" in text:  # said here; etcd's gRPC, when we send too much, writes it small
        return TooLarge(f"{where}: {_clean(text)}")
    if code == _DEADLINE_EXCEEDED:
        return NoAnswerInTime(f"{where} did not answer in time", ambiguous=True)
    if code in _CONNECTION and "etcdserver: " not in text:
        return Broken(f"{where}: {_clean(text)}", ambiguous=not text.startswith(_NEVER_SENT))
    return _classify(where, code, text)


def from_refusal(where: str, reason: str) -> DriverError:
    """Return what the reason of a canceled watch means."""
    return _classify(where, None, reason or "the watch was canceled without a reason")


def _classify(where: str, code: object, message: str) -> DriverError:
    by_text = (kind for text, kind in _TEXTS if text in message)
    kind = next(by_text, None) or _CODES.get(code if isinstance(code, int) else None, Unavailable)
    return _make(kind, f"{where}: {_clean(message)}")


def _make(kind: type[DriverError], text: str) -> DriverError:
    return Unavailable(text, ambiguous=True) if kind is Unavailable else kind(text)


def _clean(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST]).split())
