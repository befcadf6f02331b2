"""Reading any number of prefixes of any size at one revision, in requests and answers of bounded size.

Pure: `Reading` says what to ask next and takes the answers. The first answer fixes the revision for all that follow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from p2plb.discovery.etcd.driver import Entry, Listing, Unavailable
from p2plb.discovery.etcd.faults import TooLarge
from p2plb.discovery.etcd.messages import Json, entry, number, part, parts, span, txn

MAX_OPERATIONS: Final = 128  # etcd's --max-txn-ops
PAGE: Final = 2_000  # entries in an answer


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is still to be read of one prefix."""

    prefix: bytes
    found: list[Entry]
    start: bytes = b""


class Reading:
    """One read in progress: while `request()` is not None, send it to kv/txn and `take` the answer."""

    def __init__(self, prefixes: Sequence[bytes], *, keys_only: bool, limit: int, page: int = PAGE) -> None:
        self._keys_only = keys_only
        self._limit = limit
        self._page = page
        self._operations = MAX_OPERATIONS
        self._revision = 0
        self._cluster = 0
        self._found: list[list[Entry]] = [[] for _ in prefixes]
        self._rests = [_Rest(prefix, found) for prefix, found in zip(prefixes, self._found, strict=True)]
        self._asked: list[_Rest] = []

    def request(self) -> Json | None:
        """Return the next transaction to send, None when everything is read."""
        if not self._rests:
            return None
        self._asked = self._rests[: self._operations]
        share = max(1, self._page // len(self._asked))
        return txn([], [{"request_range": self._range(rest, share)} for rest in self._asked], [])

    def take(self, answer: Mapping[str, Any]) -> None:
        """Take the answer to the last request."""
        header = part(answer, "header")
        self._revision = self._revision or number(header, "revision")
        self._cluster = number(header, "cluster_id")
        responses = parts(answer, "responses")
        if len(responses) != len(self._asked) or not self._revision:
            raise Unavailable("the answer to a read is not whole")
        del self._rests[: len(self._asked)]
        for rest, response in zip(self._asked, responses, strict=True):
            self._take_range(rest, part(response, "response_range"))

    def shrink(self) -> None:
        """Ask for less at a time, because the last answer was too large; raises `TooLarge` if there is no less."""
        if self._page <= 1 and self._operations == 1:
            raise TooLarge("a single entry is larger than we accept")
        self._page = max(1, self._page // 8)
        self._operations = max(1, min(self._operations, len(self._asked)) // 2)

    def listing(self) -> Listing:
        """Return everything that was read."""
        return Listing(self._revision, tuple(entry for found in self._found for entry in found), self._cluster)

    def _range(self, rest: _Rest, share: int) -> Json:
        limit = min(share, self._limit - len(rest.found)) if self._limit else share
        asked = {**span(rest.prefix, rest.start), "limit": str(limit), "revision": str(self._revision)}
        return {**asked, "keys_only": True} if self._keys_only else asked

    def _take_range(self, rest: _Rest, answer: Mapping[str, Any]) -> None:
        rest.found.extend(entry(kv) for kv in parts(answer, "kvs"))
        full = self._limit and len(rest.found) >= self._limit
        if answer.get("more") and rest.found and not full:
            self._rests.append(replace(rest, start=rest.found[-1].key + b"\0"))
