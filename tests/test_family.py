"""What each error of the wire becomes in httpx, and what it says of the request; which bodies can be sent twice."""

import errno
import io
from collections.abc import Iterator
from typing import Any

import h2.events
import h2.exceptions
import httpcore
import httpx
import pytest

import p2plb
from p2plb import errors
from p2plb.balancing.call import Fault
from p2plb.httpx import family
from p2plb.httpx.family import NoInstances, replayable, understand
from tests.families import in_both_families

REQUEST = httpx.Request("GET", "http://users/")


def os_error(number: int) -> OSError:
    return OSError(number, "from the system")


@pytest.mark.parametrize(
    ("raised", "becomes", "fault"),
    [
        (httpcore.ConnectTimeout(), httpx.ConnectTimeout, Fault.NEVER_SENT),
        (httpcore.ConnectError(), httpx.ConnectError, Fault.NEVER_SENT),
        (httpcore.ConnectionNotAvailable(), httpx.RemoteProtocolError, Fault.NEVER_PROCESSED),
        (httpcore.ReadTimeout(), httpx.ReadTimeout, Fault.MAYBE_PROCESSED),
        (httpcore.WriteTimeout(), httpx.WriteTimeout, Fault.MAYBE_PROCESSED),
        (httpcore.ReadError(), httpx.ReadError, Fault.MAYBE_PROCESSED),
        (httpcore.WriteError(), httpx.WriteError, Fault.MAYBE_PROCESSED),
        (httpcore.RemoteProtocolError(), httpx.RemoteProtocolError, Fault.MAYBE_PROCESSED),
        (httpcore.LocalProtocolError(), httpx.LocalProtocolError, Fault.LOCAL),
        (httpcore.UnsupportedProtocol(), httpx.UnsupportedProtocol, Fault.LOCAL),
        (h2.exceptions.ProtocolError("odd"), httpx.RemoteProtocolError, Fault.MAYBE_PROCESSED),
        (httpx.ConnectError("inner"), httpx.ConnectError, Fault.NEVER_SENT),
        (httpx.ReadError("inner"), httpx.ReadError, Fault.MAYBE_PROCESSED),
        (httpx.PoolTimeout("inner"), httpx.PoolTimeout, Fault.LOCAL),
        (httpx.ProxyError("inner"), httpx.ProxyError, Fault.LOCAL),
    ],
    ids=lambda value: getattr(value, "__name__", None) or repr(value),
)
def test_errors(raised: Exception, becomes: type[Exception], fault: Fault) -> None:
    """Each error of the wire has one name in httpx and one meaning, and belongs to the caller's request."""
    found = understand(raised, REQUEST)
    assert found is not None
    assert (type(found[0]), found[1]) == (becomes, fault)


@in_both_families
def test_the_table_is_complete() -> None:
    """Whatever httpcore can raise from a connection is in the table, as httpx itself maps it."""
    ours = {core: mapped for core, (mapped, _) in family.TABLE.items()}
    not_of_a_connection = {"PoolTimeout", "ProxyError", "TimeoutException", "NetworkError", "ProtocolError"}
    httpcores = {
        one
        for one in vars(httpcore).values()
        if isinstance(one, type) and issubclass(one, Exception) and one.__name__ not in not_of_a_connection
    }
    assert set(ours) == httpcores
    named = {core: mapped for core, mapped in ours.items() if core is not httpcore.ConnectionNotAvailable}
    assert {core: mapped.__name__ for core, mapped in named.items()} == {core: core.__name__ for core in named}


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), AssertionError(), KeyError("x"), RuntimeError("loop is closed")]
)
def test_bugs_are_not_of_the_wire(error: Exception) -> None:
    """Programming errors are not understood: they go through unchanged."""
    assert understand(error, REQUEST) is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOMEM, errno.ENOBUFS])
@pytest.mark.parametrize("kind", [httpcore.ConnectError, httpx.ConnectError])
def test_our_own_shortage(number: int, kind: type[Exception]) -> None:
    """F87: no file descriptor or port is our own fault, however deep it stands among the causes."""
    error = kind("All connection attempts failed")
    error.__cause__ = ExceptionGroup("multiple", [OSError("all"), ExceptionGroup("more", [os_error(number)])])
    found = understand(error, REQUEST)
    assert found is not None
    assert found[1] is Fault.LOCAL
    error.__cause__ = os_error(errno.ECONNREFUSED)
    found = understand(error, REQUEST)
    assert found is not None
    assert found[1] is Fault.NEVER_SENT


@pytest.mark.parametrize("text", ["", "All connection attempts failed"])
def test_the_text_names_the_cause(text: str) -> None:
    """Where a library says nothing, or only that all attempts failed, the text is the system's."""
    error = httpcore.ConnectError(text)
    error.__cause__ = os_error(errno.ECONNREFUSED)
    found = understand(error, REQUEST)
    assert found is not None
    assert "from the system" in str(found[0])


def reset_event(code: int) -> h2.events.StreamReset:
    event = h2.events.StreamReset(stream_id=1)
    event.error_code = code
    return event


def goaway(last: int, code: int = 0) -> h2.events.ConnectionTerminated:
    event = h2.events.ConnectionTerminated()
    event.last_stream_id, event.error_code = last, code
    return event


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (reset_event(7), Fault.NEVER_PROCESSED),
        (reset_event(2), Fault.MAYBE_PROCESSED),
        (goaway(last=0), Fault.NEVER_PROCESSED),
        (goaway(last=1), Fault.MAYBE_PROCESSED),
        (goaway(last=1, code=7), Fault.MAYBE_PROCESSED),
    ],
)
def test_what_http2_says_of_a_request(event: Any, fault: Fault) -> None:
    """REFUSED_STREAM, and a GOAWAY that lets no stream through, say that nothing was processed (RFC 9113 8.7)."""
    found = understand(httpcore.RemoteProtocolError(event), REQUEST)
    assert found is not None
    assert found[1] is fault


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def pieces() -> Iterator[bytes]:
    yield b"one"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"content": b"x"}, True),
        ({"json": {"a": 1}}, True),
        ({"data": {"a": "1"}}, True),
        ({"files": {"a": b"x"}}, True),
        ({"files": {"a": io.BytesIO(b"x")}}, True),
        ({"files": {"a": ("a.txt", io.BytesIO(b"x"), "text/plain")}, "data": {"b": "2"}}, True),
        ({"files": {"a": Pipe(b"x")}}, False),
        ({"content": pieces()}, False),
        ({"content": io.BytesIO(b"x")}, False),
    ],
    ids=["none", "bytes", "json", "form", "file of bytes", "file", "file and form", "pipe", "generator", "io"],
)
def test_which_bodies_can_be_sent_twice(options: dict[str, Any], expected: bool) -> None:
    """F67: what is in memory, and files that httpx rewinds; never a generator or a file that is read on."""
    assert replayable(httpx.Request("POST", "http://users/", **options)) is expected


@in_both_families
def test_no_instances_is_both() -> None:
    """`NoInstances` is caught as p2plb's error and as httpx's `ConnectError`."""
    request = httpx.Request("GET", "http://users/")
    error = NoInstances("nobody", request=request)
    assert isinstance(error, errors.NoInstances | errors.P2PError)
    assert isinstance(error, httpx.ConnectError)
    assert (str(error), error.request, p2plb.NoInstances) == ("nobody", request, NoInstances)
