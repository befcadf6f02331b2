"""From the bytes of a watch stream to frames: lines put together from any fragments, and what each of them says.

Pure. A line is one JSON document. etcd tells the end of a watch in a frame and leaves the stream open: here it raises.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from p2plb.discovery.etcd import faults
from p2plb.discovery.etcd.carrier import MAX_ANSWER
from p2plb.discovery.etcd.driver import Changed, Compacted, Frame, Opened, Unavailable, Want
from p2plb.discovery.etcd.messages import Json, event, number, part, parts


class Lines:
    """Puts lines together; a line above `cap` bytes raises `Unavailable` before it fills the memory."""

    def __init__(self, cap: int = MAX_ANSWER) -> None:
        self._cap = cap
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes, without their ends and without empty ones."""
        first, *others = data.split(b"\n")
        self._add(first)
        for piece in others:
            line = b"".join(self._pieces)
            self._pieces, self._size = [], 0
            if line:
                yield line
            self._add(piece)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._cap:
            raise Unavailable(f"a frame of more than {self._cap:,} bytes")
        self._pieces.append(piece)


class Frames:
    """Turns the documents of one stream into frames: `Opened` once all wanted watches stand, then what changes."""

    def __init__(self, wants: Sequence[Want]) -> None:
        self.opened = False
        self._newest_start = max(want.start for want in wants)
        self._missing = len(wants)
        self._early: list[Frame] = []

    def read(self, document: Json, where: str) -> Iterable[Frame]:
        """Return the frames that a document from the endpoint `where` makes known; raises what ends the stream."""
        if "error" in document:
            raise faults.from_document(where, document)
        result = part(document, "result")
        _check_canceled(result, where)
        told = tuple(event(fields) for fields in parts(result, "events"))
        changed = [Changed(told)] if told else []
        if self.opened:
            return changed
        self._early += changed
        return self._created(result, where) if result.get("created") else ()

    def _created(self, result: dict[str, Any], where: str) -> Iterable[Frame]:
        self._missing -= 1
        if self._missing:
            return ()
        self.opened = True
        revision = number(part(result, "header"), "revision")
        if self._newest_start > revision + 1:
            # etcd would wait for that revision in silence, and a store that was reset is far from it.
            raise Compacted(f"{where}: the store is at revision {revision}, before {self._newest_start}")
        return [Opened(revision), *self._early]


def _check_canceled(result: dict[str, Any], where: str) -> None:
    if not result.get("canceled"):
        return
    if compacted := number(result, "compact_revision"):
        raise Compacted(f"{where}: compacted up to revision {compacted}")
    raise faults.from_refusal(where, str(result.get("cancel_reason", "")))
