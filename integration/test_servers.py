"""The servers of the harness do what tests rely on."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from integration.harness import journal
from integration.harness.servers import Server, running


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(1) as (only,):
        yield only


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=0.3) as client:
        yield client
    server.switch("ok")


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("hang", httpx.ReadTimeout),
        ("reset", httpx.ReadError),
        ("drop", httpx.RemoteProtocolError),
        ("truncate", httpx.RemoteProtocolError),
        ("garbage", httpx.RemoteProtocolError),
    ],
)
def test_faulty_modes(server: Server, client: httpx.Client, mode: str, error: type[Exception]) -> None:
    """Each fault reaches a plain client as the error that it stands for."""
    server.switch(mode)
    with pytest.raises(error):
        client.get("/")


def test_answering_modes(server: Server, client: httpx.Client) -> None:
    """Status, headers, delay and dripping can be switched, and a body says whose it is."""
    server.switch("slow", seconds=0.01, status=503, headers={"retry-after": "7"})
    slow = client.get("/", headers={"x-request-id": "s"})
    assert (slow.status_code, slow.headers["retry-after"], slow.json()["id"]) == (503, "7", "s")
    server.switch("drip", seconds=0.0001)
    assert client.post("/x?y=1", content=iter([b"ab", b"c"])).json()["body"] == "abc"


def test_idle_connections_are_closed(server: Server, client: httpx.Client) -> None:
    """With `idle` the server closes a connection on which nothing comes."""
    server.switch("ok", idle=0.01)
    with client.stream("GET", "/") as response:
        response.read()
        sock = response.extensions["network_stream"].get_extra_info("socket")
        sock.settimeout(10)
        assert sock.recv(1) == b""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_lives_and_journal() -> None:
    """A server dies, drains, freezes and comes back at its port; its journal tells of all its lives."""
    with running(1) as (server,), httpx.Client(base_url=server.url, trust_env=False) as client:
        client.get("/", headers={"x-request-id": "first"})
        until(lambda: len(journal.read([server.journal])) == 2)  # the answer leaves before its line is written
        server.kill9()
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url, trust_env=False)
        server.restart()
        httpx.get(server.url, headers={"x-request-id": "second"}, trust_env=False)
        assert server.term() == 0
        server.restart()
        server.stop()
        entries = journal.read([server.journal])
    assert [(entry.event, entry.id) for entry in entries] == [
        (event, request_id) for request_id in ("first", "second") for event in ("start", "end")
    ]
    assert len({entry.pid for entry in entries}) == 2
