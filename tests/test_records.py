"""The stored record: what is read, what is refused, and that nothing but `BadRecord` comes out of nonsense."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.records import BadRecord
from p2plb.instance import Instance

ROOT = records.services_root()
KEY = records.key(ROOT, "users", "a1")
PLAIN: dict[str, Any] = {"v": 1, "id": "a1", "service": "users", "url": "http://10.0.0.7:8001"}


def decode(value: bytes | dict[str, Any], key: bytes = KEY, *, loopback: bool = False) -> Instance:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return records.decode(ROOT, key, raw, loopback=loopback)


def refuse(value: bytes | dict[str, Any], key: bytes = KEY, *, loopback: bool = False) -> str:
    with pytest.raises(BadRecord) as caught:
        decode(value, key, loopback=loopback)
    return str(caught.value)


def test_round_trip() -> None:
    """What was encoded is decoded to the same instance, every field of it."""
    instance = Instance(
        id="a1",
        service="users",
        url="https://[2001:db8::7]:8443",
        weight=2.5,
        zone="eu-1",
        priority=3,
        state="draining",
        keepalive=5.0,
        http=("1.1", "2"),
        metadata={"canary": True, "shards": [1, 2]},
        started=1_700_000_000.25,
        sdk="p2plb/0.1.0",
    )
    assert decode(records.encode(instance)) == instance


def test_only_three_fields_are_required() -> None:
    """A record by another program may say only id, service and url."""
    assert decode({"id": "a1", "service": "users", "url": "http://db.internal"}) == Instance(
        id="a1", service="users", url="http://db.internal"
    )


def test_additions_are_ignored_and_an_unknown_state_is_draining() -> None:
    """Newer writers of version 1 may add fields and states."""
    assert decode({**PLAIN, "colour": "blue", "state": "thinking"}).state == "draining"
    assert decode({**PLAIN, "state": "down"}).state == "down"


@pytest.mark.parametrize("state", [None, 7, "", "UP", ["up"]])
def test_a_strange_state_is_draining(state: object) -> None:
    """F47: whatever is not plainly up gets no new calls while others are."""
    assert decode({**PLAIN, "state": state}).state == "draining"


def test_a_newer_version_is_passed_over() -> None:
    """A greater version is skipped with a text that says so."""
    assert "version 2 is newer" in refuse({**PLAIN, "v": 2})


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}{}",
        b'{"id": "a1", "id": "a1", "service": "users", "url": "http://10.0.0.7"}',
        b"[" * 100_000,
        b"[" * 5_000 + b"]" * 5_000,
        b'{"a":' * 20 + b"1" + b"}" * 20,
        b'{"weight": ' + b"9" * 5_000 + b"}",
        b" " * (records.MAX_VALUE + 1),
    ],
    ids=range(13),
)
def test_malformed_values(value: bytes) -> None:
    """F46: what is not one strict, shallow, small JSON object is refused."""
    refuse(value)


@pytest.mark.parametrize(
    "constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "1000.5", "true", '"1"', "null", "[]"]
)
def test_hostile_weights(constant: str) -> None:
    """F47: a weight is a finite number from 0 to 1000, and a bool is no number."""
    refuse(json.dumps(PLAIN)[:-1].encode() + f', "weight": {constant}}}'.encode())


@pytest.mark.parametrize(
    "field",
    [
        {"v": 0},
        {"v": True},
        {"v": "1"},
        {"id": "a2"},
        {"id": None},
        {"service": "user"},
        {"url": None},
        {"url": 7},
        {"url": ["http://10.0.0.7"]},
        {"priority": 1.5},
        {"priority": -1},
        {"priority": True},
        {"zone": 1},
        {"zone": "a\nb"},
        {"zone": "z" * 129},
        {"sdk": "\x1b[31m"},
        {"keepalive": -1},
        {"keepalive": "5"},
        {"http": "1.1"},
        {"http": [1.1]},
        {"http": ["1.1"] * 9},
        {"started": "now"},
        {"started": True},
        {"metadata": []},
        {"metadata": None},
        {"metadata": {str(n): n for n in range(65)}},
        {"metadata": {"big": "x" * 4096}},
    ],
    ids=str,
)
def test_hostile_fields(field: dict[str, Any]) -> None:
    """F47: each field is what it says or the record is refused."""
    refuse({**PLAIN, **field})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.7:80",
        "//10.0.0.7",
        "ftp://10.0.0.7",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "unix:///run/x",
        "http://user@10.0.0.7",
        "http://user:pw@10.0.0.7",
        "http://10.0.0.7/path",
        "http://10.0.0.7#x",
        "http://10.0.0.7?x",
        "http://10.0.0.7:0",
        "http://10.0.0.7:70000",
        "http://10.0.0.7:80 ",
        "http://10.0.0.7:\uff18\uff10",
        "http://10.0.0.7\r\nX: y",
        "http://ex ample",
        "http://bücher.example",
        "http://\u0430pple.com",
        "http://[fe80::1%eth0]:80",
        "http://2001:db8::1",
        "http://10.0.0.999",
        "http://10.1",
        "http://2130706433",
        "http://0x7f000001",
        "http://0x7f.1",
        "http://a.0x1",
        "http://-a.example",
        "http://" + "a" * 64,
    ],
    ids=ascii,
)
def test_hostile_urls(url: str) -> None:
    """F47: a url is http or https, an IP address or an LDH name, and a port, nothing else."""
    refuse({**PLAIN, "url": url}, loopback=True)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "[fe80::1]",
        "224.0.0.1",
        "[ff02::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:0.0.0.0]",
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
def test_addresses_that_no_instance_has(host: str, loopback: bool) -> None:
    """F49: unspecified, link-local and multicast addresses are refused always, also in IPv6 clothes."""
    assert "no address of an instance" in refuse({**PLAIN, "url": f"http://{host}:80"}, loopback=loopback)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "localhost", "a.localhost", "LOCALHOST"]
)
def test_loopback_only_by_a_registry_on_loopback(host: str) -> None:
    """F49: a distant registry can't point callers at their own machine."""
    record = {**PLAIN, "url": f"http://{host}:80"}
    assert decode(record, loopback=True).port == 80
    assert "loopback" in refuse(record)


def test_a_name_may_look_like_a_number_in_part() -> None:
    """Container names such as 3b1f2c4d9e0a are names, not numbers in disguise."""
    assert decode({**PLAIN, "url": "http://3b1f2c4d9e0a:80"}).host == "3b1f2c4d9e0a"


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"/p2plb/services/users",
        b"/p2plb/services/users/",
        b"/p2plb/services//a1",
        b"/p2plb/services/users/a1/",
        b"/p2plb/services/users/a1/b",
        b"/p2plb/services/users/../a1",
        b"/p2plb/services/../users/a1",
        b"/p2plb/services/users/..",
        b"/p2plb/services/users/%2e",
        b"/p2plb/services/users/a1\x00",
        b"/p2plb/services/users/a1\n",
        b"/p2plb/services/users/\xff\xfe",
        b"/p2plb/services/us\xc3\xa9rs/a1",
        b"/p2plb/service/users/a1",
        b"p2plb/services/users/a1",
        b"/P2PLB/services/users/a1",
        b"/p2plb/services/users/" + b"a" * 129,
    ],
)
def test_tricks_with_keys(key: bytes) -> None:
    """F48: a key has exactly the root, a service and an id, each of the allowed letters."""
    assert "key" in refuse(PLAIN, key)


def test_a_record_under_a_foreign_key() -> None:
    """F48: id and service of the value are those of the key."""
    assert "not those of the key" in refuse(PLAIN, records.key(ROOT, "users2", "a1"))


def test_a_service_is_no_prefix_of_its_neighbour() -> None:
    """F48: `users` does not cover `users2`."""
    assert not records.key(ROOT, "users2", "a1").startswith(records.service_prefix(ROOT, "users"))
    assert records.service_of(ROOT, records.key(ROOT, "users2", "a1")) == "users2"


def test_the_service_of_strange_keys() -> None:
    """A key too deep still belongs to its service, so that it is seen as a bad record; others belong to none."""
    assert records.service_of(ROOT, b"/p2plb/services/users/a/b") == "users"
    assert records.service_of(ROOT, b"/p2plb/services/users") is None
    assert records.service_of(ROOT, b"/other/services/users/a") is None
    assert records.service_of(ROOT, b"/p2plb/services/\xff/a") is None


def test_reasons_are_short_and_printable() -> None:
    """A reason can be logged as it is: no control characters, no megabytes."""
    reason = refuse({**PLAIN, "url": "http://\x1b[2J\u202e\n" + "x" * 10_000})
    assert len(reason) <= 200
    assert reason.isprintable()


@pytest.mark.parametrize(
    "metadata", [{"x": math.nan}, {"x": object()}, {"x": "y" * 5000}, {str(n): 0 for n in range(65)}, {"x": "\ud800"}]
)
def test_metadata_that_can_not_be_stored(metadata: dict[str, Any]) -> None:
    """F57: encoding refuses what decoding would."""
    with pytest.raises((TypeError, ValueError)):
        records.encode(Instance(id="a1", service="users", url="http://h", metadata=metadata))


def test_half_a_surrogate_pair() -> None:
    """F46: a string that could not be written again is refused."""
    refuse(json.dumps({**PLAIN, "metadata": {"x": "\ud800"}}).encode())


FUZZ = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "v",
        "id",
        "service",
        "url",
        "weight",
        "zone",
        "priority",
        "state",
        "keepalive",
        "http",
        "metadata",
        "started",
        "sdk",
    ]
)


@FUZZ
@given(st.dictionaries(FIELDS, JSON), st.booleans())
def test_fuzz_fields(fields: dict[str, Any], loopback: bool) -> None:
    """F46, F47: any fields give an instance or `BadRecord`; what is accepted can be written again."""
    with contextlib.suppress(BadRecord):
        instance = decode({**PLAIN, **fields}, loopback=loopback)
        assert decode(records.encode(instance), loopback=loopback) == instance


@FUZZ
@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()), st.binary())
def test_fuzz_bytes(value: bytes, tail: bytes) -> None:
    """F46, F48: any bytes under any key raise `BadRecord`, never anything else."""
    refuse(value)
    with pytest.raises(BadRecord):
        decode(PLAIN, records.service_prefix(ROOT, "users") + tail + b"/")


def test_a_password_in_a_url_is_not_repeated() -> None:
    """F47: reasons are logged, so they hold nothing that may be a secret."""
    for url in ("http://bob:s3cret@10.0.0.7:80", ["http://bob:s3cret@10.0.0.7"]):
        assert "s3cret" not in refuse({**PLAIN, "url": url})
