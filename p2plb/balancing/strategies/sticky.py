"""Sticky sessions: the same client or session keeps its instance for as long as that is there.

By a key, with a table of this process, or by a cookie that carries the instance's id, which needs no memory and holds
over all processes. Both only remember: whom a new session gets, and an orphaned one, another strategy says.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from cachetools import TTLCache

from p2plb import forks
from p2plb.balancing.call import Call
from p2plb.balancing.health import Health
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.groups import check_inner
from p2plb.balancing.strategies.hashing import hash_key
from p2plb.balancing.strategies.keys import Key, check_key, cookie, key_of, no_key
from p2plb.balancing.strategies.least_request import LeastRequest
from p2plb.balancing.view import Picker, Strategy
from p2plb.errors import NoInstances
from p2plb.instance import check_number

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
YEAR: Final = 31_536_000.0


class Bound(NamedTuple):
    """The ids of a session's instance and of the one that stands in while it is passed over; "" is nobody."""

    home: str = ""
    deputy: str = ""


@dataclass(frozen=True, kw_only=True)
class Sticky:
    """Each session keeps the node that `inner` picked for it; without a key or cookie `inner` picks.

    A session is what has the same key, `call(key=…)` or else what `key(request)` returns; at most `size` sessions are
    remembered, each for `ttl` seconds after its last call. While its node is passed over another one stands in, always
    the same; it takes over if the node leaves, or drains.

    With `cookie="p2plb"` a session is what sends this cookie, and the cookie names its node: a response whose request
    did not name the node that served sets it. While that node can't serve, another one does and the cookie names that;
    with `strict=True` nobody else does, and the call ends with `NoInstances`. `clock` is a monotonic clock in seconds.
    """

    key: Key = field(default=no_key)
    cookie: str | None = None
    strict: bool = False
    inner: Strategy = field(default_factory=LeastRequest)
    ttl: float = 3600.0
    size: int = 10_000
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    # Not the configuration's own: each service, and each way to reach it, has nodes whose health is known to it alone.
    _tables: "WeakKeyDictionary[Health, Sessions]" = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    def __post_init__(self) -> None:
        check_inner(self.inner, "Sticky")
        check_key(self.key, "Sticky")
        check_number(self.ttl, "Sticky(ttl=)", 0.001, YEAR)
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"Sticky(size=) is a number of sessions, 1 or more, not {self.size!r}")
        if self.cookie is not None and not (isinstance(self.cookie, str) and _TOKEN.fullmatch(self.cookie)):
            raise ValueError(f"Sticky(cookie=) is the name of a cookie, such as 'p2plb', not {self.cookie!r}")
        if self.cookie is not None and self.key is not no_key:
            raise ValueError("Sticky() goes by a key or by a cookie: give one of key= and cookie=")
        if self.strict and self.cookie is None:
            raise ValueError("Sticky(strict=True) needs cookie=: a session by key has nothing that outlives its node")

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        by_id = {node.id: node for node in nodes}
        inner = self.inner(nodes)
        if self.cookie is not None:
            return _by_cookie(cookie(self.cookie), by_id, inner, strict=self.strict)
        return _by_key(self.key, by_id, inner, self._sessions(nodes))

    def sign(self, call: Call, node_id: str, response: Any) -> None:
        """Set the cookie on an answer, unless its request named the node that has served it."""
        if self.cookie is None or cookie(self.cookie)(call.request) == node_id:
            return
        secure = "; Secure" if call.request.url.scheme in {"https", "wss"} else ""
        line = f"{self.cookie}={node_id}; Path=/; HttpOnly; SameSite=Lax{secure}".encode("ascii")
        response.headers = type(response.headers)([*response.headers.raw, (b"set-cookie", line)])

    def _sessions(self, nodes: Sequence[Node]) -> "Sessions":
        """Return the sessions of the nodes that were there before, and have the new ones share them."""
        known = (self._tables.get(node.health) for node in nodes)
        found = next((sessions for sessions in known if sessions is not None), None)
        if found is None:
            found = Sessions(self.size, self.ttl, self.clock)
        for node in nodes:
            self._tables.setdefault(node.health, found)
        found.meet(nodes)
        return found


def signer(strategy: Any) -> Sticky | None:
    """Return the strategy that signs answers: this one, or one that it stands around."""
    while strategy is not None and not isinstance(strategy, Sticky):
        strategy = getattr(strategy, "inner", None)
    return strategy


class Sessions:
    """Which session is bound to which instance: the sessions used last, for a time. Any thread may call."""

    def __init__(self, size: int, ttl: float, clock: Callable[[], float]) -> None:
        self._bound: TTLCache[int, Bound] = TTLCache(size, ttl, timer=clock)
        self._nodes: WeakValueDictionary[str, Node] = WeakValueDictionary()
        self._lock = threading.Lock()
        forks.watch(self)

    def meet(self, nodes: Sequence[Node]) -> None:
        """Take in nodes that pickers go by."""
        self._nodes.update((node.id, node) for node in nodes)

    def has_left(self, name: str) -> bool:
        """Whether an instance is in force no more; who is may be out of a picker's sight, as by `call(where=)`."""
        node = self._nodes.get(name)
        return node is None or node.retired

    def find(self, session: int) -> Bound:
        """Return what a session is bound to, and count that as a use."""
        with self._lock:
            found = self._bound.get(session)
            if found is None:
                return Bound()
            self._bound[session] = found  # its time begins anew
            return found

    def bind(self, session: int, before: Bound, now: Bound) -> bool:
        """Bind a session anew; False if another call has done so since `before` was read."""
        with self._lock:
            if self._bound.get(session, Bound()) != before:
                return False
            self._bound[session] = now
            return True

    def after_fork(self) -> None:
        """In a forked child: a lock that a thread of the parent held is never given back."""
        self._lock = threading.Lock()


def _by_key(key: Key, by_id: dict[str, Node], inner: Picker, sessions: Sessions) -> Picker:
    def pick(call: Call) -> Node:
        found = key_of(call, key)
        if found is None:
            return inner(call)
        session = hash_key(found)
        while True:
            before = sessions.find(session)
            node = _usable(by_id, before, call) or inner(call)
            now = _next(by_id, sessions, before, node)
            # What `inner` picks although it is to be avoided is no place for a session: it is asked again.
            if now == before or node in call.avoid or sessions.bind(session, before, now):
                return node

    return pick


def _usable(by_id: dict[str, Node], bound: Bound, call: Call) -> Node | None:
    nodes = (by_id.get(name) for name in bound)
    return next((node for node in nodes if node is not None and node not in call.avoid), None)


def _next(by_id: dict[str, Node], sessions: Sessions, before: Bound, node: Node) -> Bound:
    """Return what a session is bound to once `node` serves it."""
    if before.home not in by_id and sessions.has_left(before.home):
        return Bound(node.id)
    return before if node.id == before.home else Bound(before.home, node.id)


def _by_cookie(named: Key, by_id: dict[str, Node], inner: Picker, *, strict: bool) -> Picker:
    def pick(call: Call) -> Node:
        name = None if call.request is None else named(call.request)
        if name is None:
            return inner(call)
        node = by_id.get(name)
        if node is not None and node not in call.avoid:
            return node
        if strict:
            state = "is not there" if node is None else "is passed over"
            raise NoInstances(f"Sticky(strict=True): the instance that the request's cookie names {state}")
        return inner(call)

    return pick
