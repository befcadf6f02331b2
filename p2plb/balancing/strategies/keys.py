"""Keys: where the key of a call comes from, for strategies that send equal keys to the same node.

A key is a plain function from a request to a value or None; these make the usual ones. They only read what every
httpx family's request has, and what a stranger has put there never raises.
"""

import inspect
import json
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from p2plb.balancing.call import Call

Key = Callable[[Any], Any]
"""Returns the key of a request, None if it has none. Must not block."""

MAX_BODY: Final = 1 << 20


def no_key(_request: Any) -> None:
    """Find no key in any request."""


def key_of(call: Call, key: Key) -> Any:
    """Return the key of a call: its own, else what `key` finds in the request, asked once a call."""
    if call.key is not None:
        return call.key
    if call.request is None:  # `pick` makes a call without a request
        return None
    found = call.found
    if id(key) not in found:
        found[id(key)] = key(call.request)
    return found[id(key)]


def check_key(key: object, strategy: str) -> None:
    """Raise unless it can be a key."""
    if not callable(key):
        raise TypeError(f"{strategy}(key=) is a function such as p2plb.header('x-customer'), not {key!r}")
    if inspect.iscoroutinefunction(key):
        raise TypeError(f"{strategy}(key=) is a plain function: write def, not async def")


def header(name: str) -> Key:
    """Return a key that is the value of a request header, such as `header("x-customer")`."""
    _check(name, "header")
    return lambda request: request.headers.get(name)


def query(name: str) -> Key:
    """Return a key that is the (first) value of a query parameter."""
    _check(name, "query")
    return lambda request: request.url.params.get(name)


def cookie(name: str) -> Key:
    """Return a key that is the value of the (first) cookie of this name that the request carries.

    Whatever the other cookies look like: the standard library's parser gives all up for one that it finds odd.
    """
    _check(name, "cookie")

    def key(request: Any) -> str | None:
        for pair in ";".join(request.headers.get_list("cookie")).split(";"):
            found, equals, value = pair.partition("=")
            if equals and found.strip() == name:
                return value.strip().strip('"')
        return None

    return key


def path(pattern: str) -> Key:
    """Return a key that is a segment of the URL's path: the one in braces, `path("/users/{id}")`.

    `*` stands for any segment, and a path may go on after the pattern: `/users/42/orders` has the key "42" too.
    """
    segments = pattern.split("/") if isinstance(pattern, str) else []
    keys = [segment for segment in segments if re.fullmatch(r"\{\w+\}", segment)]
    if not segments or segments[0] or len(keys) != 1:
        raise ValueError(f"path() takes a pattern with one segment in braces, such as '/users/{{id}}', not {pattern!r}")
    parts = ["([^/]+)" if part in keys else "[^/]+" if part == "*" else re.escape(part) for part in segments]
    matching = re.compile("/".join(parts).rstrip("/") + "(?:/|$)")

    def key(request: Any) -> str | None:
        raw = request.url.raw_path.partition(b"?")[0].decode("ascii")
        found = matching.match(raw)
        return None if found is None else unquote(found[1])

    return key


def body(*path: str | int, chars: int | None = None) -> Key:
    """Return a key that is a part of a JSON body: `body("messages", 0, "content", chars=2048)`, `body("user")`.

    Names lead into objects and numbers into arrays; of text the first `chars` characters count. Objects and arrays are
    compared as JSON. Only bodies in memory of at most 1 MiB are read, once a call; any other body has no key.
    """
    if not path or not all(isinstance(step, str | int) and not isinstance(step, bool) for step in path):
        raise TypeError(f"body() takes the way to a value, such as body('messages', 0, 'content'), not {path!r}")
    if chars is not None and (not isinstance(chars, int) or isinstance(chars, bool) or chars < 1):
        raise ValueError(f"body(chars=) is how many characters count, 1 or more, not {chars!r}")

    def key(request: Any) -> str | None:
        found = _parsed(request)
        for step in path:
            found = _inside(found, step)
        if found is None:
            return None
        text = found if isinstance(found, str) else json.dumps(found, sort_keys=True, separators=(",", ":"))
        return text[:chars]

    return key


def _parsed(request: Any) -> Any:
    """Return what the request's body says, None if that is not JSON, not in memory or too long."""
    try:
        content = request.content
        return json.loads(content) if len(content) <= MAX_BODY else None
    except (ValueError, RecursionError, RuntimeError):  # a body that is a stream is a RuntimeError in httpx
        return None


def _inside(value: Any, step: str | int) -> Any:
    fits = isinstance(value, dict) if isinstance(step, str) else isinstance(value, list)
    try:
        return value[step] if fits else None
    except LookupError:
        return None


def _check(name: object, what: str) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(f"{what}() takes the name of a {what}, not {name!r}")
