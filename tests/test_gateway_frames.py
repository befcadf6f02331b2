"""From bytes to frames: fragments, caps, and the ways in which etcd ends a watch without ending the stream."""

import base64
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2plb.discovery.etcd.driver import (
    Changed,
    Compacted,
    Denied,
    DriverError,
    Entry,
    Frame,
    Opened,
    Unavailable,
    Want,
)
from p2plb.discovery.etcd.faults import TokenRefused
from p2plb.discovery.etcd.frames import Frames, Lines
from p2plb.discovery.etcd.messages import decode

WANT = Want(b"/a/", 5)
WHERE = "http://127.0.0.1:2379"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def created(revision: int = 9) -> dict[str, Any]:
    return {"result": {"header": {"revision": str(revision)}, "watch_id": "1", "created": True}}


def put(key: bytes, revision: int) -> dict[str, Any]:
    kv = {"key": b64(key), "value": b64(b"v"), "mod_revision": str(revision), "create_revision": "3", "lease": "7"}
    return {"kv": kv}


def told(*events: dict[str, Any]) -> dict[str, Any]:
    return {"result": {"header": {"revision": "9"}, "watch_id": "1", "events": list(events)}}


def read(*documents: dict[str, Any], wants: Sequence[Want] = (WANT,)) -> list[Frame]:
    frames = Frames(wants)
    return [frame for document in documents for frame in frames.read(document, WHERE)]


def test_events_become_entries() -> None:
    """A put has value, revisions and lease; a deletion only key and revision."""
    deleted = {"type": "DELETE", "kv": {"key": b64(b"/a/2"), "mod_revision": "8"}}
    frames = read(created(), told(put(b"/a/1", 7), deleted))
    assert frames == [Opened(9), Changed((Entry(b"/a/1", b"v", 7, 3, 7), Entry(b"/a/2", None, 8)))]


def test_an_empty_value_is_no_deletion() -> None:
    """The gateway leaves out what is empty."""
    empty = {"kv": {"key": b64(b"/a/1"), "mod_revision": "7"}}
    assert read(created(), told(empty))[1] == Changed((Entry(b"/a/1", b"", 7),))


def test_opened_comes_first_and_once_all_watches_stand() -> None:
    """Events of a watch that stands already wait for the others, and keep their order."""
    early = told(put(b"/a/1", 7))
    frames = read(created(), early, created(10), told(put(b"/b/1", 10)), wants=[WANT, Want(b"/b/", 10)])
    assert [type(frame) for frame in frames] == [Opened, Changed, Changed]
    assert frames[0] == Opened(10)


def test_progress_without_events_is_no_frame() -> None:
    """A notification of progress tells no change."""
    assert read(created(), {"result": {"header": {"revision": "12"}}}) == [Opened(9)]


CANCELED = {"watch_id": "-1", "created": True, "canceled": True}


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"result": {"watch_id": "1", "canceled": True, "compact_revision": "8"}}, Compacted),
        ({"result": {**CANCELED, "cancel_reason": "rpc error: desc = etcdserver: permission denied"}}, Denied),
        ({"result": {**CANCELED, "cancel_reason": "rpc error: desc = etcdserver: invalid auth token"}}, TokenRefused),
        ({"result": {"canceled": True}}, Unavailable),
        ({"error": {"grpc_code": 14, "http_code": 503, "message": "etcdserver: no leader"}}, Unavailable),
        ({"error": {"code": 7, "message": "etcdserver: permission denied"}}, Denied),
        ({"result": {"events": 5}}, Unavailable),
        ({"result": {"events": [{"kv": {"key": "%%%"}}]}}, Unavailable),
        ({"result": {"events": [{"kv": {"mod_revision": "x"}}]}}, Unavailable),
        ({"result": []}, Unavailable),
    ],
)
def test_the_end_of_a_watch_raises(document: dict[str, Any], error: type[DriverError]) -> None:
    """F35, F38, F45: refusal, compaction, loss of the leader and nonsense end the stream with their own error."""
    with pytest.raises(DriverError) as ended:
        read(document)
    assert type(ended.value) is error


@pytest.mark.parametrize("line", [b"[1]", b"no", b"\xff", b"[" * 100_000, b'{"result": 1e999}', b"9" * 5_000])
def test_a_line_that_is_no_document_breaks_the_stream(line: bytes) -> None:
    """F43: what is not a JSON object is an error of the connection, never of ours."""
    with pytest.raises(Unavailable):
        list(Frames([WANT]).read(decode(line), WHERE))


@pytest.mark.parametrize(("start", "fails"), [(10, False), (11, True)])
def test_a_start_in_the_future_does_not_wait(start: int, *, fails: bool) -> None:
    """F32: the revision after the store's is the next event; anything beyond it means that the store was reset."""
    if fails:
        with pytest.raises(Compacted):
            read(created(9), wants=[Want(b"/a/", start)])
    else:
        assert read(created(9), wants=[Want(b"/a/", start)]) == [Opened(9)]


STREAM = b'{"a": 1}\n{"b": "\xc3\xa9"}\n\n{"c": 3}\n'
LINES = [b'{"a": 1}', b'{"b": "\xc3\xa9"}', b'{"c": 3}']


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_a_stream_may_break_anywhere(at: int) -> None:
    """F43: every split point, the middle of a character included, gives the same lines."""
    lines = Lines()
    assert [*lines.feed(STREAM[:at]), *lines.feed(STREAM[at:])] == LINES


@given(st.lists(st.binary().map(lambda raw: raw.replace(b"\n", b"")), max_size=8), st.data())
def test_any_fragments_give_the_same_lines(wanted: list[bytes], data: st.DataObject) -> None:
    """F43: whatever the fragments, lines come out whole, in order, without the empty ones."""
    rest = b"".join(line + b"\n" for line in wanted)
    lines = Lines()
    got: list[bytes] = []
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        got += lines.feed(rest[:size])
        rest = rest[size:]
    assert got == [line for line in wanted if line]


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x"] * 11, [b"ok\n" + b"x" * 11]])
def test_a_line_has_a_largest_size(pieces: list[bytes]) -> None:
    """F43: a line that never ends is given up before it fills the memory."""
    lines = Lines(cap=10)
    with pytest.raises(Unavailable):
        [list(lines.feed(piece)) for piece in pieces]


def test_the_cap_counts_for_single_lines() -> None:
    """Many lines in one read may be larger than the cap together."""
    assert len(list(Lines(cap=10).feed(b"12345678\n" * 50))) == 50


@given(st.binary())
def test_no_bytes_surprise_the_reader(data: bytes) -> None:
    """F43, F46: whatever arrives gives frames or a `DriverError`."""
    frames = Frames([WANT])
    try:
        for line in Lines().feed(data + b"\n"):
            list(frames.read(decode(line), WHERE))
    except DriverError:
        return


FIELDS = st.sampled_from(
    ["result", "error", "events", "kv", "key", "mod_revision", "created", "canceled", "compact_revision", "header"]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(FIELDS, JSON))
def test_no_document_surprises_the_reader(document: dict[str, Any]) -> None:
    """F46: documents with the right names and wrong types give frames or a `DriverError`."""
    try:
        list(Frames([WANT]).read(document, WHERE))
    except DriverError:
        return
