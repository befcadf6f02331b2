"""What `register` takes and what it refuses, and how it says so."""

import signal
from typing import Any

import pytest

from p2plb.discovery.memory import MemoryRegistry
from p2plb.serving.registration import register

DEEP: dict[str, Any] = {}
for _ in range(20):
    DEEP = {"a": DEEP}


async def later() -> bool:
    return False


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"port": 0}, ValueError, "port 0 lets the system choose: start the server first"),
        ({"port": "8001"}, TypeError, "port is a whole number, not '8001'"),
        ({"port": True}, TypeError, "port is a whole number, not True"),
        ({"port": 70_000}, ValueError, "a port is from 1 to 65535, not 70000"),
        ({}, ValueError, "give port, the one on which the server listens, or url"),
        ({"host": "10.0.0.7"}, ValueError, "give port"),
        ({"url": "http://10.0.0.7:1", "port": 1}, ValueError, "give url, or host and port, not both"),
        ({"url": "http://10.0.0.7:1", "host": "h"}, ValueError, "give url, or host and port, not both"),
        ({"url": "http://10.0.0.7:1/path"}, ValueError, "a url is an origin such as http://10.0.0.7:8001"),
        ({"port": 1, "scheme": "ftp"}, ValueError, "a url is an origin"),
        ({"port": 1, "service": "us/ers"}, ValueError, "a service name is 1 to 128 of the letters"),
        ({"port": 1, "id": ""}, ValueError, "an instance id is 1 to 128 of the letters"),
        ({"port": 1, "ttl": 1}, ValueError, "ttl is from 2 to 3600, not 1"),
        ({"port": 1, "ttl": "10"}, TypeError, "ttl is a number"),
        ({"port": 1, "weight": float("nan")}, ValueError, "weight is from 0 to 1000"),
        (
            {"port": 1, "metadata": {"a": "x" * 2_000_000}},
            ValueError,
            "metadata takes 2000008 bytes as JSON, more than",
        ),
        ({"port": 1, "metadata": {"a": object()}}, TypeError, "not JSON serializable"),
        ({"port": 1, "drain_grace": -1}, ValueError, "drain_grace is from 0"),
        ({"port": 1, "drain_on": (9,)}, ValueError, "SIGKILL can't be caught"),
        ({"port": 1, "drain_on": (0,)}, ValueError, "0 is not a valid Signals"),
        ({"port": 1, "drain_on": signal.SIGTERM}, TypeError, r"write drain_on=\(signal.SIGTERM,\)"),
        ({"port": 1, "http": "1.1"}, TypeError, r"write http=\('1.1',\)"),
        ({"port": 1, "required": 5}, TypeError, "required is True or False, not 5: timeout= takes the seconds"),
        ({"port": 1, "timeout": "5"}, TypeError, "timeout is a number, not '5'"),
        ({"port": 1, "timeout": -1}, ValueError, "timeout is from 0"),
        ({"port": 1, "healthy": True}, TypeError, "healthy is a function without arguments, not True"),
        ({"port": 1, "healthy_interval": 0}, ValueError, "healthy_interval is from 0.01"),
        ({"port": 1, "ready": True}, TypeError, "ready is a function without arguments, not True"),
        ({"port": 1, "healthy": later}, TypeError, "healthy is called on a thread of p2plb: give a plain function"),
        ({"port": 1, "ready": later}, TypeError, "ready is called on a thread of p2plb: give a plain function"),
    ],
)
def test_wrong_arguments_are_told_at_construction(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """F57: what can never work is an error where it was written, and says what to write."""
    with pytest.raises(error, match=text):
        register(**{"service": "users"} | settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"host": "0.0.0.0"}, "0.0.0.0 is no address of an instance"),
        ({"host": "::"}, ":: is no address of an instance"),
        ({"host": "169.254.169.254"}, "is no address of an instance"),
        ({"host": "0x7f.1"}, "0x7f.1 is a number in disguise"),
        ({"zone": "a\n"}, "zone is a string of at most 128 printable characters"),
        ({"zone": "z" * 129}, "zone is a string of at most 128 printable characters"),
        ({"http": ["1.1"] * 9}, "http is a short list of versions"),
        ({"metadata": DEEP}, "it nests more than 16 levels deep"),
        ({"metadata": {"n": 10**25}}, "a whole number is out of range"),
        ({"metadata": {"a": {1: 1, "1": 2}}}, "a key stands twice in an object"),
        ({"metadata": {"a": "\ud800"}}, "surrogates not allowed"),
    ],
)
def test_a_record_that_every_client_would_pass_over_is_refused(settings: dict[str, Any], text: str) -> None:
    """F47: a registration that nobody believes must not look as if it stood."""
    with pytest.raises(ValueError, match=text):
        register("users", port=8001, **settings)


def test_an_address_that_the_environment_gives_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """F47: POD_IP is read at the start, and what clients would not believe is an error then."""
    monkeypatch.setenv("POD_IP", "169.254.1.1")
    with MemoryRegistry() as registry, pytest.raises(ValueError, match="is no address of an instance"):
        register("users", port=8001, registry=registry).start()


@pytest.mark.parametrize(
    "settings",
    [{"url": "http://bob:s3cret@10.0.0.7:80"}, {"url": "bob:s3//cr@et@h"}, {"host": "bob:s3cret@h", "port": 1}],
)
def test_a_password_in_an_address_is_not_repeated(settings: dict[str, Any]) -> None:
    """An address has no user; whoever gives one must not find the password in a log."""
    with pytest.raises(ValueError, match="without user") as caught:
        register("users", **settings)
    assert "s3" not in str(caught.value)
