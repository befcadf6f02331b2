"""Keys: what `header`, `query`, `cookie`, `path` and `body` read from a request."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from p2plb.balancing.strategies.keys import MAX_BODY, Key, body, cookie, header, path, query

REQUEST = httpx.Request(
    "GET",
    "http://users/?id=7&id=8&empty=",
    headers={"X-Customer": "c1", "Cookie": 'session=s1; other="with space"; session2=s2'},
)
BARE = httpx.Request("GET", "http://users/")
STRANGE = httpx.Request("GET", "http://users/", headers={"Cookie": "a[b]=1; \x01=2; ;;=;"})


@pytest.mark.parametrize(
    ("key", "request_", "value"),
    [
        (header("x-customer"), REQUEST, "c1"),
        (header("X-CUSTOMER"), REQUEST, "c1"),
        (header("x-customer"), BARE, None),
        (query("id"), REQUEST, "7"),
        (query("empty"), REQUEST, ""),
        (query("id"), BARE, None),
        (cookie("session"), REQUEST, "s1"),
        (cookie("other"), REQUEST, "with space"),
        (cookie("Session"), REQUEST, None),
        (cookie("session"), BARE, None),
        (cookie("session"), STRANGE, None),
    ],
)
def test_keys(key: Key, request_: httpx.Request, value: str | None) -> None:
    """The value if the request has it, None if it has not, whatever a stranger has put there."""
    assert key(request_) == value


@pytest.mark.parametrize("odd", ['a={"x":1}', "a=1,2 3", "no value", "a=\\", "=", ""])
def test_cookies_beside_odd_ones(odd: str) -> None:
    """A cookie that somebody else has set, however odd, hides none of the others."""
    for headers in ([("cookie", f"{odd}; session=s1")], [("cookie", odd), ("cookie", "session=s1; session=s2")]):
        assert cookie("session")(httpx.Request("GET", "http://users/", headers=headers)) == "s1"


@pytest.mark.parametrize("make", [header, query, cookie])
@pytest.mark.parametrize("name", ["", None, 7, b"x"])
def test_wrong_names(make: Callable[[Any], Key], name: Any) -> None:
    """A key without a name is an error at once."""
    with pytest.raises(TypeError, match=rf"{make.__name__}\(\) takes the name of a {make.__name__}, not "):
        make(name)


def posted(document: object) -> httpx.Request:
    return httpx.Request("POST", "http://users/", json=document)


@pytest.mark.parametrize(
    ("pattern", "target", "value"),
    [
        ("/users/{id}", "/users/42", "42"),
        ("/users/{id}", "/users/42/orders?x=1", "42"),
        ("/users/{id}/", "/users/42", "42"),
        ("/users/{id}/orders", "/users/42/orders/7", "42"),
        ("/users/{id}/orders", "/users/42", None),
        ("/users/{id}", "/users/", None),
        ("/users/{id}", "/users2/42", None),
        ("/*/{id}", "/tenants/a%2Fb", "a/b"),
        ("/*/{id}", "/tenants/gr%C3%BCn", "grün"),
        ("/a.b/{id}", "/axb/42", None),
        ("/{id}", "/%ff", "\ufffd"),
    ],
)
def test_path(pattern: str, target: str, value: str | None) -> None:
    """The segment in braces, percent-decoded, if the path begins as the pattern says."""
    assert path(pattern)(httpx.Request("GET", f"http://users{target}")) == value


@pytest.mark.parametrize("pattern", ["users/{id}", "/users", "/{a}/{b}", "", None, "/users/x{id}"])
def test_wrong_patterns(pattern: Any) -> None:
    """A pattern that can't be meant is an error that shows one that can."""
    with pytest.raises(ValueError, match=r"one segment in braces, such as '/users/\{id\}', not "):
        path(pattern)


CHAT = {
    "user": "u1",
    "n": 7,
    "messages": [{"content": "Hello, world"}, {"content": [{"b": 1, "a": "ü"}]}],
    "none": None,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (body("user"), "u1"),
        (body("n"), "7"),
        (body("messages", 0, "content"), "Hello, world"),
        (body("messages", 0, "content", chars=5), "Hello"),
        (body("messages", -1, "content"), '[{"a":"\\u00fc","b":1}]'),
        (body("messages", 2, "content"), None),
        (body("messages", "0"), None),
        (body("user", 0), None),
        (body("none"), None),
        (body("absent", "deeper"), None),
    ],
)
def test_body(key: Key, value: str | None) -> None:
    """The value that the way leads to as text, None if there is none."""
    assert key(posted(CHAT)) == value


def pieces() -> Iterator[bytes]:
    yield b'{"user": "u1"}'


@pytest.mark.parametrize(
    "content",
    [b"", b"user", b'{"user": ', b"\xff\xfe\x00", b"[" * 100_000, b'{"user": ' + b"9" * 5000 + b"}", pieces()],
    ids=["empty", "text", "cut", "bytes", "deep", "digits", "stream"],
)
def test_bodies_that_say_nothing(content: Any) -> None:
    """What is not JSON, or not in memory, has no key; a stream is not touched."""
    request = httpx.Request("POST", "http://users/", content=content)
    assert body("user")(request) is None
    if not isinstance(content, bytes):
        assert request.read() == b'{"user": "u1"}'


def test_long_bodies() -> None:
    """Bodies above 1 MiB are not read."""
    fits = json.dumps({"user": "u1", "x": ""}).encode()
    padded = fits.replace(b'""', b'"' + b"x" * (MAX_BODY - len(fits)) + b'"')
    assert len(padded) == MAX_BODY
    assert body("user")(httpx.Request("POST", "http://users/", content=padded)) == "u1"
    assert body("user")(httpx.Request("POST", "http://users/", content=padded + b" ")) is None


@pytest.mark.parametrize(("way", "options"), [((), {}), ((None,), {}), ((True,), {}), (("a",), {"chars": 0})])
def test_wrong_ways(way: Any, options: Any) -> None:
    """A way that leads nowhere is an error at once."""
    with pytest.raises((TypeError, ValueError), match=r"body\("):
        body(*way, **options)
