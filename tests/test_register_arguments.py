"""What `register` takes and what it refuses, and how it says so."""

from typing import Any

import pytest

from p2plb.serving.registration import register


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
    ],
)
def test_wrong_arguments_are_told_at_construction(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """F57: what can never work is an error where it was written, and says what to write."""
    with pytest.raises(error, match=text):
        register(**{"service": "users"} | settings)
