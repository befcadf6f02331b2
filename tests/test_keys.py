"""Keys: what `header`, `query` and `cookie` read from a request."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from p2plb.balancing.strategies.keys import Key, cookie, header, query

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


@pytest.mark.parametrize("make", [header, query, cookie])
@pytest.mark.parametrize("name", ["", None, 7, b"x"])
def test_wrong_names(make: Callable[[Any], Key], name: Any) -> None:
    """A key without a name is an error at once."""
    with pytest.raises(TypeError, match=rf"{make.__name__}\(\) takes the name of a {make.__name__}, not "):
        make(name)
