"""Keys: where the key of a call comes from, for strategies that send equal keys to the same node.

A key is a plain function from a request to a value or None; these make the usual ones. They only read what every
httpx family's request has.
"""

from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any

Key = Callable[[Any], Any]
"""Returns the key of a request, None if it has none. Must not block."""


def header(name: str) -> Key:
    """Return a key that is the value of a request header, such as `header("x-customer")`."""
    _check(name, "header")
    return lambda request: request.headers.get(name)


def query(name: str) -> Key:
    """Return a key that is the (first) value of a query parameter."""
    _check(name, "query")
    return lambda request: request.url.params.get(name)


def cookie(name: str) -> Key:
    """Return a key that is the value of a cookie that the request carries."""
    _check(name, "cookie")

    def key(request: Any) -> str | None:
        try:
            found = SimpleCookie(request.headers.get("cookie", "")).get(name)
        except CookieError:
            return None
        return None if found is None else found.value

    return key


def _check(name: object, what: str) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(f"{what}() takes the name of a {what}, not {name!r}")
