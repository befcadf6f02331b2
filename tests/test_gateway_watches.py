"""How many wants become one watch stream that etcd's gateway does not lose a part of."""

import base64
import json

from p2plb.discovery.etcd.driver import Changed, Entry, Opened, Want
from p2plb.discovery.etcd.frames import Frames
from p2plb.discovery.etcd.messages import watch_requests


def keys(request: bytes) -> tuple[bytes, bytes, str]:
    create = json.loads(request)["create_request"]
    return base64.b64decode(create["key"]), base64.b64decode(create["range_end"]), create["start_revision"]


def event(key: bytes, revision: int) -> dict[str, object]:
    return {"kv": {"key": base64.b64encode(key).decode(), "mod_revision": str(revision), "create_revision": "1"}}


def test_few_wants_are_watches_of_their_own() -> None:
    """As long as etcd reads the request at once, each want is watched exactly."""
    assert [keys(request) for request in watch_requests([Want(b"/a/", 3), Want(b"/b/", 5)])] == [
        (b"/a/", b"/a0", "3"),
        (b"/b/", b"/b0", "5"),
    ]


def test_many_wants_are_one_watch() -> None:
    """More than etcd's server reads at once becomes one range, from the oldest start on."""
    wants = [Want(f"/services/s{number}/".encode(), 10 + number) for number in range(9)]
    (request,) = watch_requests(wants)
    assert keys(request) == (b"/services/s0/", b"/services/s80", "10")
    assert len(watch_requests([*wants, Want(b"", 1)])) == 1
    assert keys(watch_requests([*wants, Want(b"", 1)])[0]) == (b"\0", b"\0", "1")


def test_one_long_want_stays_exact() -> None:
    """A single request is read to its end before etcd answers, however long it is."""
    (request,) = watch_requests([Want(b"/" * 1000, 1)])
    assert keys(request)[0] == b"/" * 1000


def test_what_nobody_wanted_is_dropped() -> None:
    """The one watch tells no more than the many would: neither neighbours, nor what is before a want's start."""
    wants = [Want(f"/services/s{number}/".encode(), 10 + number) for number in range(9)]
    frames = Frames(wants)
    created = {"header": {"revision": "20"}, "watch_id": "1", "created": True}
    assert list(frames.read(json.dumps({"result": created}).encode(), "x")) == [Opened(20)]
    events = [event(b"/services/s3/a", 12), event(b"/services/s3/a", 13), event(b"/services/s33/a", 14)]
    told = list(frames.read(json.dumps({"result": {"watch_id": "1", "events": events}}).encode(), "x"))
    assert told == [Changed((Entry(b"/services/s3/a", b"", 13, 1),))]
    nothing = {"result": {"watch_id": "1", "events": events[:1]}}
    assert list(frames.read(json.dumps(nothing).encode(), "x")) == []
