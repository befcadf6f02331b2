"""Policies and options of a call: checked when they are made, with errors that say what to write."""

import dataclasses
from typing import Any

import pytest

from p2plb.balancing.retry import Retry
from p2plb.balancing.strategies.least_request import LeastRequest
from p2plb.balancing.strategies.round_robin import RoundRobin
from p2plb.calling.options import DEFAULTS, Options, call, options
from p2plb.calling.policy import Policy


def test_defaults() -> None:
    """Without a word: least request, three attempts, a second to connect, no other bound."""
    policy = Policy()
    assert (policy.strategy, policy.retry) == (LeastRequest(), Retry(attempts=3))
    assert (policy.timeout, policy.attempt_timeout, policy.connect_timeout) == (None, None, 1.0)


def test_derived() -> None:
    """A policy is frozen; another is derived from it."""
    policy = dataclasses.replace(Policy(timeout=2.0), retry=None)
    assert (policy.timeout, policy.retry) == (2.0, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.timeout = 1.0  # type: ignore[misc]  # that it can't be set is the subject


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"strategy": RoundRobin}, TypeError, "is an instance: write RoundRobin(), with brackets"),
        ({"strategy": "round robin"}, TypeError, "a function from nodes to a picker, not 'round robin'"),
        ({"retry": 3}, TypeError, "is a Retry, such as Retry(attempts=3), or None, not 3"),
        ({"retry": False}, TypeError, "or None, not False"),
        ({"only": "canary"}, TypeError, "a function from an instance to a bool, not 'canary'"),
        ({"timeout": 0}, ValueError, "Policy(timeout=) is from 0.001 to 86400, not 0"),
        ({"timeout": True}, TypeError, "Policy(timeout=) is a number, not True"),
        ({"attempt_timeout": -1.0}, ValueError, "Policy(attempt_timeout=) is from 0.001 to 86400"),
        ({"connect_timeout": "1s"}, TypeError, "Policy(connect_timeout=) is a number, not '1s'"),
        ({"connect_timeout": float("inf")}, ValueError, "Policy(connect_timeout=) is from 0.001 to 86400, not inf"),
        ({"tls_name": 7}, TypeError, "Policy(tls_name=) is a host name, not 7"),
        ({"tls_name": ""}, TypeError, "Policy(tls_name=) is a host name, not ''"),
        ({"host": "a\r\nX: 1"}, TypeError, "Policy(host=) is a host name"),
        ({"host": "bücher.example"}, TypeError, "Policy(host=) is a host name"),
        ({"host": "a b"}, TypeError, "Policy(host=) is a host name"),
        ({"fallback": 7}, TypeError, "a url is a string, not a int"),
        ({"fallback": "users:8000"}, ValueError, "an origin such as http://users.prod.svc:8000: http or https"),
        ({"fallback": "ftp://users"}, ValueError, "not 'ftp://users'"),
        ({"fallback": "http://users/"}, ValueError, "without user, path or query, not 'http://users/'"),
        ({"fallback": "http://users?x"}, ValueError, "without user, path or query"),
        ({"fallback": "http://users:0"}, ValueError, "Policy(fallback=) is an origin"),
        ({"fallback": "http://users:65536"}, ValueError, "Policy(fallback=) is an origin"),
        ({"fallback": "http://[::"}, ValueError, "Policy(fallback=) is an origin"),
        ({"fallback": ""}, ValueError, "Policy(fallback=) is an origin"),
        ({"share": 0.5}, ValueError, "Policy(share=) below 1 needs a fallback="),
        ({"share": 1.5, "fallback": "http://users"}, ValueError, "Policy(share=) is from 0 to 1, not 1.5"),
        ({"share": None, "fallback": "http://users"}, TypeError, "Policy(share=) is a number, not None"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    """A wrong argument is an error at construction that says what to write."""
    with pytest.raises(error) as caught:
        Policy(**arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize("origin", ["http://users.prod.svc:8000", "https://[::1]:443", "http://user_service:80"])
def test_fallbacks(origin: str) -> None:
    """A fallback is any origin, with the underscores that compose allows in its names."""
    assert (Policy(fallback=origin).fallback, Policy(fallback=origin).share) == (origin, 1.0)


def test_a_fallbacks_password_is_not_repeated() -> None:
    """What stands before an @ stays out of the error."""
    with pytest.raises(ValueError, match="without user") as caught:
        Policy(fallback="http://me:hush@users:80")
    assert "hush" not in str(caught.value)


def test_options_of_a_call() -> None:
    """`call` makes extensions, `options` reads them; other extensions are not touched."""
    assert options({**call(key="42", timeout=1.5), "timeout": {}}) == Options("42", 1.5)
    assert options({"timeout": {}}) is DEFAULTS


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"timeout": -1}, ValueError, "call(timeout=) is from 0 to 86400, not -1"),
        ({"timeout": "1"}, TypeError, "call(timeout=) is a number, not '1'"),
        ({"repeatable": "POST"}, TypeError, "call(repeatable=) is True or False, not 'POST'"),
    ],
)
def test_wrong_options(asked: dict[str, Any], error: type[Exception], says: str) -> None:
    """A wrong option is an error where it is written."""
    with pytest.raises(error) as caught:
        call(**asked)
    assert says in str(caught.value)


def test_foreign_extension() -> None:
    """What looks like ours and is not is an error that names `call`."""
    with pytest.raises(TypeError, match=r"extensions\['p2plb'\] is made by p2plb.call\(…\), not 'x'"):
        options({"p2plb": "x"})
