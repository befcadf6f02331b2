"""Which requests may be processed twice: RFC 9110's idempotent methods, `Idempotency-Key`, and what their owner adds.

Only that: whether a request is repeated, and when, is balancing/retry.py's matter. It reads what every httpx family's
request has.
"""

import inspect
import re
from collections.abc import Callable, Collection
from typing import Any, Final

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_METHOD: Final = re.compile(r"[A-Za-z-]+")

Repeatable = Collection[str] | Callable[[Any], bool]
"""Methods, or a function from a request to a bool; it must not block, and what it raises the caller gets."""


def may_repeat(request: Any, more: Repeatable = ()) -> bool:
    """Whether a request may be processed twice: it always may, or by what its owner has added."""
    if request.method in IDEMPOTENT or "idempotency-key" in request.headers:
        return True
    return bool(more(request)) if callable(more) else request.method in more


def check_repeatable(repeatable: Repeatable, what: str) -> Repeatable:
    """Return methods in upper case, or the function; raise if it is neither."""
    if inspect.iscoroutinefunction(repeatable):
        raise TypeError(f"{what}, if it is a function, is a plain one: write def, not async def")
    if callable(repeatable):
        return repeatable
    if isinstance(repeatable, str):
        raise TypeError(f"{what} is a collection of methods: write repeatable={{{repeatable!r}}}")
    if not isinstance(repeatable, Collection) or not all(isinstance(method, str) for method in repeatable):
        kinds = "a collection of methods such as {'POST'}, or a function from a request to a bool"
        raise TypeError(f"{what} is {kinds}, not {repeatable!r}")
    for method in repeatable:
        if not _METHOD.fullmatch(method):
            raise ValueError(f"{what} names methods such as 'POST', not {method!r}")
    return frozenset(method.upper() for method in repeatable)
