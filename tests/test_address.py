"""Which address is announced, and when it may be."""

import logging
import socket

import pytest

from p2plb.errors import RegistrationError
from p2plb.instance import Instance, is_loopback
from p2plb.serving.address import endpoints, guess_host, needs_dns, origin, route_towards
from p2plb.serving.readiness import Answering, answers, warn_of_loopback


def no_route(host: str, port: int) -> str:
    raise OSError("network is unreachable")


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("etcd://10.0.0.1:2379", [("10.0.0.1", 2379)]),
        ("etcds://h1,h2:2380/prefix", [("h1", 2379), ("h2", 2380)]),
        ("etcd://user:***@h1:1/prefix", [("h1", 1)]),
        ("etcd://[::1],[fd00::1]:2379", [("::1", 2379), ("fd00::1", 2379)]),
        ("zookeeper://h1", []),
        ("memory://name", []),
        ("static://users=10.0.0.1:80", []),
        ("", []),
    ],
)
def test_endpoints_are_read_from_the_url(registry: str, expected: list[tuple[str, int]]) -> None:
    """The text of a registry's URL tells where it is, with credentials and prefix around it."""
    assert endpoints(registry) == expected


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("etcd://10.0.0.1:2379", "route to 10.0.0.1"),
        ("etcd://127.0.0.1:2379", "127.0.0.1"),
        ("etcd://localhost:2379,[::1]:2379", "127.0.0.1"),
        ("etcd://127.0.0.1:2379,10.0.0.2:2379", "route to 10.0.0.2"),
        ("etcd://etcd.example:2379", "route to etcd.example"),
        ("memory://", "127.0.0.1"),
    ],
)
def test_the_host_is_guessed_from_the_way_to_the_registry(registry: str, expected: str) -> None:
    """A registry on loopback means loopback, else it is the route towards the registry."""
    assert guess_host(registry, route=lambda host, _port: f"route to {host}") == expected


@pytest.mark.parametrize(
    ("registry", "asks"),
    [
        ("etcd://10.0.0.1:2379", False),
        ("etcd://[fd00::1]:2379", False),
        ("etcd://localhost:2379", False),
        ("memory://", False),
        ("etcd://etcd.example:2379", True),
        ("etcd://localhost:2379,etcd.example:2379", True),
    ],
)
def test_dns_is_asked_only_for_a_registry_that_has_a_name(registry: str, asks: bool) -> None:
    """Whoever guesses the own address knows beforehand whether that may take long."""
    assert needs_dns(registry) is asks


def test_without_a_usable_way_to_the_registry_the_default_route_is_taken() -> None:
    """A registry whose name resolves to loopback (as Debian's own host name does) says nothing of the way out."""

    def route(host: str, port: int) -> str:
        return {"etcd.example": "127.0.0.1", "192.0.2.1": "10.0.0.9"}[host]

    assert guess_host("etcd://etcd.example:2379", route=route) == "10.0.0.9"


def test_a_machine_without_a_network_says_what_to_give() -> None:
    """If no address can be told, the error names the arguments that help."""
    with pytest.raises(RegistrationError, match="give host= or url=, or set P2PLB_HOST"):
        guess_host("etcd://10.0.0.1:2379", route=no_route)


def test_the_route_is_looked_up_without_sending() -> None:
    """The way to loopback starts at loopback."""
    assert route_towards("127.0.0.1", 9) == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("LOCALHOST", True), ("h", False)]
)
def test_loopback_is_told_by_the_text(host: str, expected: bool) -> None:
    """No name is resolved for it."""
    assert is_loopback(host) is expected


def test_an_origin_has_brackets_around_ipv6() -> None:
    """F89: whether they were given or not."""
    assert origin("http", "10.0.0.7", 80) == "http://10.0.0.7:80"
    assert origin("http", "fd00::1", 80) == origin("http", "[fd00::1]", 80) == "http://[fd00::1]:80"


def test_an_address_answers_if_somebody_listens() -> None:
    """F17: accepting a connection is the proof."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert answers("127.0.0.1", port)
    assert not answers("127.0.0.1", port)


def test_a_server_on_loopback_only_is_explained_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The commonest mistake gets a text that can be acted upon, in the log once a minute, and as what it waits for."""
    text = "listening on 127.0.0.1:8001, would be announced as 10.0.0.7:8001: start the server with --host 0.0.0.0"
    now = [0.0]
    check = Answering("10.0.0.7", 8001, answers=lambda host, _port: host == "127.0.0.1", clock=lambda: now[0])
    for seconds in range(0, 150, 10):
        now[0] = seconds
        assert not check()
        assert str(check.trouble) == text
    assert caplog.messages == [text] * 3


def test_a_server_that_comes_up_between_two_looks_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    """It was down at the first look and is up at the second."""
    looks = iter([False, True, True])
    check = Answering("10.0.0.7", 8001, answers=lambda _host, _port: next(looks))
    assert check()
    assert check.trouble is None
    assert not caplog.messages


def test_only_the_announced_address_counts() -> None:
    """On loopback there is nothing to compare with."""
    asked: list[str] = []

    def refuse(host: str, port: int) -> bool:
        asked.append(host)
        return False

    check = Answering("127.0.0.1", 8001, answers=refuse)
    assert not check()
    assert str(check.trouble) == "nobody answers at 127.0.0.1:8001 yet"
    assert asked == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("url", "registry", "warned"),
    [
        ("http://127.0.0.1:1", "etcd://10.0.0.1:2379", True),
        ("http://127.0.0.1:1", "etcd://127.0.0.1:2379", False),
        ("http://127.0.0.1:1", "memory://", False),
        ("http://10.0.0.7:1", "etcd://10.0.0.1:2379", False),
    ],
)
def test_loopback_in_a_registry_for_others_is_a_warning(
    url: str, registry: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients elsewhere pass such a record over, so whoever registers it must hear of it."""
    caplog.set_level(logging.WARNING)
    warn_of_loopback(Instance(id="a", service="users", url=url), registry)
    assert ("where only this machine can reach it" in caplog.text) is warned
