"""What is peculiar to the httpx family: its errors, and how a body tells whether it can be sent twice.

One table says for each error of the wire what httpx calls it and what it says of the request.
"""

import errno
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import httpcore
import httpx

from p2plb import errors
from p2plb.balancing.call import Fault
from p2plb.calling import aiohttp_errors


class NoInstances(errors.NoInstances, httpx.ConnectError):
    """No instance can serve the call; also an `httpx.ConnectError`, because nothing was sent."""

    def __init__(self, message: str, *, request: httpx.Request | None = None) -> None:
        httpx.ConnectError.__init__(self, message, request=request)


TABLE: Final[dict[type[Exception], tuple[type[httpx.TransportError], Fault]]] = {
    httpcore.ConnectTimeout: (httpx.ConnectTimeout, Fault.NEVER_SENT),
    httpcore.ConnectError: (httpx.ConnectError, Fault.NEVER_SENT),
    httpcore.ConnectionNotAvailable: (httpx.RemoteProtocolError, Fault.NEVER_PROCESSED),
    httpcore.ReadTimeout: (httpx.ReadTimeout, Fault.MAYBE_PROCESSED),
    httpcore.WriteTimeout: (httpx.WriteTimeout, Fault.MAYBE_PROCESSED),
    httpcore.ReadError: (httpx.ReadError, Fault.MAYBE_PROCESSED),
    httpcore.WriteError: (httpx.WriteError, Fault.MAYBE_PROCESSED),
    httpcore.RemoteProtocolError: (httpx.RemoteProtocolError, Fault.MAYBE_PROCESSED),
    httpcore.LocalProtocolError: (httpx.LocalProtocolError, Fault.LOCAL),
    httpcore.UnsupportedProtocol: (httpx.UnsupportedProtocol, Fault.LOCAL),
}
OWN: Final[dict[type[Exception], Fault]] = {
    **dict(TABLE.values()),
    httpx.PoolTimeout: Fault.LOCAL,
    httpx.ProxyError: Fault.LOCAL,
}
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOMEM, errno.ENOBUFS})
REFUSED_STREAM: Final = 7  # HTTP/2, RFC 9113 section 7


def understand(error: Exception, request: httpx.Request) -> tuple[Exception, Fault] | None:
    """Return httpx's error for what the wire raised, and its meaning; None if it is not of the wire (a bug, a body)."""
    ours = isinstance(error, httpx.TransportError)  # from an inner transport
    if (other := aiohttp_errors.understand(error, mapped=ours)) is not None:
        name, text, fault = other
        return getattr(httpx, name)(text, request=request), _refine(error, fault)
    if ours:
        return error, _foreign(error, OWN.get(type(error), Fault.MAYBE_PROCESSED))
    if type(error).__module__.startswith("h2."):  # httpcore lets some of h2's through
        return httpx.RemoteProtocolError(str(error), request=request), Fault.MAYBE_PROCESSED
    for kind in type(error).__mro__:
        if kind in TABLE:
            mapped, fault = TABLE[kind]
            return mapped(_text(error), request=request), _refine(error, fault)
    return None


def _foreign(error: Exception, fault: Fault) -> Fault:
    """Believe "never sent" only from engines that are known to mean it."""
    if fault is not Fault.NEVER_SENT:
        return fault
    if _is_shortage(error):
        return Fault.LOCAL
    cause = error.__cause__  # mocks have none
    known = (httpcore.ConnectError, httpcore.ConnectTimeout, ConnectionRefusedError)
    return fault if cause is None or isinstance(cause, known) else Fault.MAYBE_PROCESSED


def _refine(error: Exception, fault: Fault) -> Fault:
    if fault is Fault.NEVER_SENT and _is_shortage(error):
        return Fault.LOCAL
    event = error.args[0] if error.args else None
    refused = getattr(event, "error_code", None) == REFUSED_STREAM and hasattr(event, "stream_id")
    if refused or getattr(event, "last_stream_id", None) == 0:  # GOAWAY: no stream was or will be processed
        return Fault.NEVER_PROCESSED
    return fault


def _text(error: Exception) -> str:
    """Return the error's text, or the system's where it says nothing or only that all attempts failed (anyio, trio)."""
    text = str(error)
    causes = [str(cause) for cause in _causes(error) if getattr(cause, "errno", None) is not None]
    return causes[-1] if causes and (not text or "ttempts" in text) else text


def _is_shortage(error: Exception) -> bool:
    """Whether the system said that we have too little of something: the nearest error number decides."""
    numbers = (getattr(cause, "errno", None) for cause in _causes(error))
    return next((number for number in numbers if number is not None), None) in SHORTAGES


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, the nearest first."""
    todo, seen = deque([error]), set[int]()
    while todo:
        one = todo.popleft()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            context = None if one.__suppress_context__ else one.__context__
            todo += [e for e in (one.__cause__ or context, *getattr(one, "exceptions", ())) if e is not None]


def replayable(request: httpx.Request) -> bool:
    """Whether the body can be sent a second time: it is in memory, or made of files that can be rewound."""
    stream: Any = request.stream
    if isinstance(stream, httpx.ByteStream):
        return True
    fields = getattr(stream, "fields", None)  # a multipart body; httpx rewinds its files by itself
    return fields is not None and all(_rewinds(getattr(field, "file", b"")) for field in fields)


def _rewinds(file: Any) -> bool:
    return isinstance(file, str | bytes) or (hasattr(file, "seekable") and bool(file.seekable()))
