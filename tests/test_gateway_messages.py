"""Requests and answers of the gateway: prefixes, transactions, base64, refusals."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2plb.discovery.etcd import faults, messages
from p2plb.discovery.etcd.driver import (
    Compacted,
    Denied,
    DriverError,
    LeaseGone,
    Listing,
    Rejected,
    Unavailable,
)
from p2plb.discovery.etcd.paging import MAX_OPERATIONS, Reading

WHERE = "http://127.0.0.1:2379"


@given(st.binary(max_size=6), st.binary(max_size=8))
def test_a_prefix_spans_exactly_what_begins_with_it(prefix: bytes, key: bytes) -> None:
    """F48: a key lies in the span of a prefix if and only if it begins with it; a zero byte as the end means no end."""
    end = messages.prefix_end(prefix)
    inside = prefix <= key and (end == b"\0" or key < end)
    assert inside == key.startswith(prefix)


@pytest.mark.parametrize(
    ("answer", "holder"),
    [
        ({"succeeded": True}, 7),
        ({"responses": [{"response_put": {}}]}, 0),
        ({"responses": [{"response_put": {"prev_kv": {"lease": "9"}}}]}, 9),
        ({"responses": [{"response_txn": {"responses": [{"response_put": {"prev_kv": {"lease": "7"}}}]}}]}, 7),
        ({"responses": [{"response_txn": {"responses": [{"response_range": {"kvs": [{"lease": "5"}]}}]}}]}, 5),
        ({"responses": [{"response_txn": {"responses": [{"response_range": {}}]}}]}, 0),
    ],
)
def test_a_publication_tells_who_held_the_key(answer: dict[str, Any], holder: int) -> None:
    """F16: the previous lease stands in what the transaction did."""
    assert messages.holder(answer, 7) == holder


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (404, b'{"error":"etcdserver: requested lease not found","code":5}', LeaseGone),
        (404, b'{"code":5,"message":"etcdserver: requested lease not found","details":[]}', LeaseGone),
        (400, b'{"error":"etcdserver: lease already exists","code":9}', faults.LeaseExists),
        (412, b'{"message":"etcdserver: lease already exists","code":9}', faults.LeaseExists),
        (400, b'{"message":"etcdserver: mvcc: required revision has been compacted","code":11}', Compacted),
        (401, b'{"message":"etcdserver: invalid auth token","code":16}', faults.TokenRefused),
        (400, b'{"message":"etcdserver: user name is empty","code":3}', faults.TokenRefused),
        (400, b'{"message":"etcdserver: revision of auth store is old","code":3}', faults.TokenRefused),
        (400, b'{"message":"etcdserver: authentication failed, invalid user ID or password","code":3}', Denied),
        (403, b'{"message":"etcdserver: permission denied","code":7}', Denied),
        (412, b'{"message":"etcdserver: authentication is not enabled","code":9}', faults.AuthenticationOff),
        (400, b'{"message":"etcdserver: request is too large","code":3}', Rejected),
        (429, b'{"message":"grpc: received message larger than max (2 vs. 1)","code":8}', Rejected),
        (429, b'{"message":"etcdserver: too many requests","code":8}', Unavailable),
        (507, b'{"message":"etcdserver: mvcc: database space exceeded","code":8}', Unavailable),
        (503, b'{"message":"etcdserver: request timed out","code":14}', Unavailable),
        (503, b'{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}', Unavailable),
        (501, b'{"message":"unknown service","code":12}', faults.NotEtcd),
        (404, b"Not Found", faults.NotEtcd),
        (404, b"404 page not found\n", faults.NotEtcd),
        (404, b'{"code":5,"message":"Not Found","details":[]}', faults.NotEtcd),
        (404, b'{"status":404,"error":"Not Found","path":"/v3/kv/txn"}', faults.NotEtcd),
        (401, b"who are you?", Denied),
        (413, b"<html>", Rejected),
        (502, b"<html>bad gateway", Unavailable),
        (500, b"\xff" * 10_000, Unavailable),
        (400, b'{"message": 5, "code": []}', Unavailable),
    ],
)
def test_refusals_mean_the_same_in_all_versions(status: int, content: bytes, error: type[DriverError]) -> None:
    """F44, F57: codes and texts decide, and the status only where there is neither."""
    fault = faults.from_answer(WHERE, status, content)
    assert type(fault) is error
    assert WHERE in str(fault)
    assert len(str(fault)) < 500


def test_a_gateway_that_is_off_says_so() -> None:
    """An operator learns from the text what to switch on."""
    assert "--enable-grpc-gateway" in str(faults.from_answer(WHERE, 404, b"404 page not found"))


def test_texts_from_the_network_are_harmless() -> None:
    """F46: an error is one printable line of bounded length, whatever was sent."""
    text = str(faults.from_answer(WHERE, 500, b"a\r\nb\x1b[31m" + b"c" * 10_000))
    assert text.isprintable()
    assert len(text) < 400


@pytest.mark.parametrize("field", [None, 5, [], {}, "%", "YQ", "é"])
def test_what_is_not_base64_is_no_answer(field: object) -> None:
    """F46: only standard, padded base64 is bytes."""
    with pytest.raises(Unavailable):
        messages.raw({"key": field}, "key")


@pytest.mark.parametrize("text", ["1e999", "-1e999", "null", '"x"', "[]", "{}"])
def test_what_is_not_a_number_is_no_answer(text: str) -> None:
    """F46: whatever stands for a 64-bit integer, the driver raises nothing but its own errors."""
    with pytest.raises(Unavailable) as caught:
        messages.number(messages.decode(f'{{"revision": {text}}}'.encode()), "revision")
    assert caught.value.ambiguous


def kv(key: bytes) -> dict[str, str]:
    return {"key": messages.encode(key), "value": "", "mod_revision": "3"}


def answer_to(request: dict[str, Any], keys: list[bytes], revision: int) -> dict[str, Any]:
    """Answer a read as etcd would that holds these keys, without a word on anything else."""
    responses = []
    for operation in request["success"]:
        asked = operation["request_range"]
        start, end = messages.raw(asked, "key"), messages.raw(asked, "range_end")
        found = [key for key in sorted(keys) if start <= key < end]
        limit = int(asked["limit"])
        page = {"kvs": [kv(key) for key in found[:limit]], "more": len(found) > limit}
        responses.append({"response_range": page})
    return {"header": {"revision": str(revision), "cluster_id": "4"}, "responses": responses}


def read(keys: list[bytes], prefixes: list[bytes], *, limit: int = 0, page: int = 3) -> tuple[Listing, list[Any]]:
    reading = Reading(prefixes, keys_only=False, limit=limit, page=page)
    requests = []
    while (request := reading.request()) is not None:
        requests.append(request)
        reading.take(answer_to(request, keys, revision=9 + len(requests)))
    return reading.listing(), requests


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(0, 12), st.integers(1, 40))
def test_paging_reads_everything_once(names: list[str], limit: int, page: int) -> None:
    """Whatever the size of a page, a read returns each entry once, prefix after prefix, up to the limit."""
    keys = [f"/{name}/{number}".encode() for number, name in enumerate(names)]
    prefixes = [b"/a/", b"/b/", b"/none/", b"/c/"]
    listing, _ = read(keys, prefixes, limit=limit, page=page)
    below = [sorted(key for key in keys if key.startswith(prefix))[: limit or None] for prefix in prefixes]
    assert [entry.key for entry in listing.entries] == [key for found in below for key in found]


def test_paging_stays_at_the_first_revision() -> None:
    """All pages after the first are of the revision of the first, and no request has too many operations."""
    keys = [f"/{number:03}/{copy}".encode() for number in range(300) for copy in range(2)]
    listing, requests = read(keys, [f"/{number:03}/".encode() for number in range(300)])
    assert listing.revision == 10
    assert listing.cluster_id == 4
    revisions = [{operation["request_range"]["revision"] for operation in request["success"]} for request in requests]
    assert revisions == [{"0"}, *[{"10"}] * (len(requests) - 1)]
    assert max(len(request["success"]) for request in requests) == MAX_OPERATIONS


def test_a_reading_shrinks_until_it_can_not() -> None:
    """F43: an answer above the cap is asked for in smaller pages; a single entry above it is an error."""
    reading = Reading([b"/a/"], keys_only=False, limit=0, page=64)
    limits = []
    for _ in range(3):
        request = reading.request()
        assert request is not None
        limits.append(request["success"][0]["request_range"]["limit"])
        if limits[-1] != "1":
            reading.shrink()
    assert limits == ["64", "8", "1"]
    with pytest.raises(faults.TooLarge):
        reading.shrink()


def test_a_reading_of_many_prefixes_shrinks_to_one() -> None:
    """F43: with one entry of each prefix the answer may still be too large; then fewer prefixes are asked for."""
    reading = Reading([f"/{number}/".encode() for number in range(128)], keys_only=False, limit=0)
    counts: list[int] = []
    while counts[-1:] != [1]:
        request = reading.request()
        assert request is not None
        counts.append(len(request["success"]))
        if counts[-1] > 1:
            reading.shrink()
    assert counts == [128, 64, 32, 16, 8, 4, 2, 1]
    with pytest.raises(faults.TooLarge, match="a single entry"):
        reading.shrink()


@pytest.mark.parametrize("answer", [{}, {"header": {"revision": "3"}}, {"header": {}, "responses": [{}]}])
def test_half_an_answer_is_none(answer: dict[str, Any]) -> None:
    """A read that lacks a prefix or its revision must not look as if nobody were there."""
    reading = Reading([b"/a/"], keys_only=False, limit=0)
    reading.request()
    with pytest.raises(Unavailable):
        reading.take(answer)
