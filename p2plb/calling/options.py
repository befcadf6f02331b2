"""Options of one call: carried through httpx in the request's extensions, or by the context of the code that calls.

The context is for SDKs that hide the request. What is in force there is a tuple that is replaced and never changed, so
threads, tasks and generators that enter and leave out of order take nothing from one another.
"""

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from p2plb.instance import check_number

if TYPE_CHECKING:
    from p2plb.balancing.call import Attempt, Served

EXTENSION: Final = "p2plb"
REMEMBERED: Final = 1000


class Among(NamedTuple):
    """The only instances of a service that a call may go to, by id, in the order of preference."""

    service: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """What one call wants of its own; None is what was not said."""

    key: Any = None
    timeout: float | None = None
    repeatable: bool | None = None
    among: Among | None = None
    where: Mapping[str, Any] | None = None

    def ids(self, service: str) -> tuple[str, ...] | None:
        """Return the ids of the instances that a call to a service may go to, None if there is no such bound."""
        return self.among.ids if self.among is not None and self.among.service == service else None

    def over(self, outer: "Options") -> "Options":
        """Return these options, and for what they do not say those of `outer`."""
        return Options(
            outer.key if self.key is None else self.key,
            outer.timeout if self.timeout is None else self.timeout,
            outer.repeatable if self.repeatable is None else self.repeatable,
            self.among,
            outer.where if self.where is None else self.where,
        )


DEFAULTS: Final = Options()


class Calls:
    """What became of the calls made in a `with p2plb.call(…)` block, oldest first; the last 1,000 are remembered.

    Any thread may read it, at any time; a call is there once its answer has begun or it has failed.
    """

    __slots__ = ("_served",)

    def __init__(self, served: "deque[Served]") -> None:
        self._served = served

    @property
    def served(self) -> "list[Served]":
        """Who served each call, as in `response.extensions["p2plb"]`."""
        return list(self._served.copy())

    @property
    def attempts(self) -> "tuple[Attempt, ...]":
        """All attempts of all calls, each with its instance and what came of it."""
        return tuple(attempt for served in self.served for attempt in served.attempts)


class _Block(NamedTuple):
    """One entry of a `with` block: by whose options, which hold there, and what became of its calls."""

    entered: "CallOptions"
    options: Options
    served: "deque[Served]"


_around: ContextVar[tuple[_Block, ...]] = ContextVar("p2plb.call", default=())
"""The blocks around the code that runs, the innermost last."""


class CallOptions(dict[str, Any]):
    """Extensions for a request, and a context manager that gives the same options to all calls made inside."""

    def __enter__(self) -> Calls:
        block = _Block(self, options(self), deque(maxlen=REMEMBERED))
        _around.set((*_around.get(), block))
        return Calls(block.served)

    def __exit__(self, *exc_info: object) -> None:
        around = _around.get()
        entered = [block for block in around if block.entered is self]
        if entered:  # a generator that began in another context may be closed in this one
            _around.set(tuple(block for block in around if block is not entered[-1]))


def call(
    *,
    key: Any = None,
    timeout: float | None = None,
    repeatable: bool | None = None,
    where: Mapping[str, Any] | None = None,
) -> CallOptions:
    """Return the options of one call, `client.get(url, extensions=p2plb.call(key="42"))`, or of all calls in a block.

    `key` is what a keyed strategy goes by. `timeout` bounds the whole exchange in seconds, waits and body included,
    instead of the policy's. `repeatable` says whether the request may be processed twice, whatever its method and
    `Retry(repeatable=)` say. `where` is what an instance's metadata must have, such as `{"adapter": "legal"}`: among
    those the policy's strategy picks, and without any the call ends with `NoInstances` (or at the policy's fallback).

    `with p2plb.call(key="42") as c:` gives them to each call that the block makes, in code of others and in tasks that
    it starts too (a thread pool's threads inherit nothing); `c.attempts` and `c.served` say what became of the calls.
    What is not given comes from the block around it; `extensions=` of a request win.
    """
    if timeout is not None:
        check_number(timeout, "call(timeout=)", 0, 86_400)
    if repeatable is not None and not isinstance(repeatable, bool):
        raise TypeError(f"call(repeatable=) is True or False, not {repeatable!r}")
    if where is not None and not (isinstance(where, Mapping) and all(isinstance(name, str) for name in where)):
        raise TypeError(f"call(where=) is a mapping of metadata, such as {{'version': '2'}}, not {where!r}")
    return CallOptions({EXTENSION: Options(key, timeout, repeatable, where=where)})


def options(extensions: Mapping[str, Any]) -> Options:
    """Return the options of a request, its own before those of the context; `TypeError` if `call` did not make them."""
    found = extensions.get(EXTENSION, DEFAULTS)
    if not isinstance(found, Options):
        raise TypeError(f"extensions['p2plb'] is made by p2plb.call(…), not {found!r}")
    around = _around.get()
    return found.over(around[-1].options) if around else found


def bound(extensions: Mapping[str, Any], service: str, ids: tuple[str, ...], timeout: float | None) -> dict[str, Any]:
    """Return a request's extensions for a call that may go to these instances only, with this timeout if there is one.

    What the context says holds from now on, on whichever thread the request is sent.
    """
    asked = options(extensions)
    limit = asked.timeout if timeout is None else timeout
    return {**extensions, EXTENSION: replace(asked, among=Among(service, ids), timeout=limit)}


def record(served: "Callable[[], Served]") -> None:
    """Tell the blocks around the code that runs what became of a call; `served` is asked only if there are any."""
    if around := _around.get():
        what = served()
        for block in around:
            block.served.append(what)
