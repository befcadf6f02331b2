"""The lifespan: what it starts and in which order, when it registers, and when it does not."""

import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import p2plb
from p2plb.discovery.etcd.driver import Unavailable
from p2plb.discovery.etcd.registry import EtcdRegistry
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.registry import AnnouncementState, Registry
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance
from p2plb.serving.lifespan import Lifespan
from p2plb.testing.fake_etcd import FakeEtcd
from tests.contract_registry import PATIENCE

UP, WAITING, GONE = AnnouncementState.UP, AnnouncementState.WAITING, AnnouncementState.GONE
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(name="registry")
def _registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        yield registry


@pytest.fixture(name="listener")
def _listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def users(registry: Registry, **options: Any) -> Lifespan:
    usual: dict[str, Any] = {"port": 1, "registry": registry, "drain_grace": 0.01}
    return p2plb.lifespan("users", **(usual | options))


def stored(registry: Registry) -> list[Instance]:
    return [instance for snapshot in registry.list() for instance in snapshot.instances]


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  another thread makes it true
            await anyio.sleep(0.01)


def state_of(lifespan: Lifespan) -> AnnouncementState | None:
    return lifespan.registration.state if lifespan.registration else None


@BACKENDS
def test_the_applications_own_starts_first_and_ends_last(
    registry: MemoryRegistry, listener: socket.socket, backend: str
) -> None:
    """Who is called has what it needs, until nobody calls any more; the state of the application is passed on."""
    told: list[object] = []

    @asynccontextmanager
    async def own(app: str) -> AsyncIterator[dict[str, str]]:
        told.append((app, stored(registry)))
        yield {"database": "open"}
        told.append(stored(registry))

    lifespan = users(registry, port=listener.getsockname()[1], also=own)

    async def main() -> None:
        async with lifespan("the app") as state:
            assert state == {"database": "open"}
            await until(lambda: state_of(lifespan) is UP)
            assert len(stored(registry)) == 1

    anyio.run(main, backend=backend)
    assert told == [("the app", []), []]
    assert state_of(lifespan) is GONE


def test_it_registers_only_once_its_own_port_answers(registry: MemoryRegistry) -> None:
    """F17: uvicorn runs the start-up before it binds; until then nobody is told of the address."""
    with socket.socket() as later:
        later.bind(("127.0.0.1", 0))
        lifespan = users(registry, port=later.getsockname()[1])

        async def main() -> None:
            async with lifespan(None):
                await anyio.sleep(0.1)
                assert state_of(lifespan) is WAITING
                later.listen()
                await until(lambda: state_of(lifespan) is UP)

        anyio.run(main)


@BACKENDS
def test_under_a_test_client_nothing_is_registered(backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No port is opened in such tests; they neither wait nor see a word in the log, though there is no etcd at all.

    They run the application in a thread of its own, where no signal can be handled.
    """
    caplog.set_level(logging.INFO, "p2plb")

    def endpoint(request: Request) -> JSONResponse:
        return JSONResponse({"database": request.state.database})

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"database": "open"}

    lifespan = p2plb.lifespan("users", port=1, registry="etcd://127.0.0.1:1", also=own, drain_on=(signal.SIGTERM,))
    app = Starlette(routes=[Route("/", endpoint)], lifespan=lifespan)
    started = time.monotonic()
    for _ in range(2):
        with TestClient(app, backend=backend) as client:
            assert client.get("/").json() == {"database": "open"}
            assert state_of(lifespan) is WAITING
        assert state_of(lifespan) is GONE
    assert time.monotonic() - started < PATIENCE / 2
    assert not [record for record in caplog.records if record.name.startswith("p2plb")]


def test_switched_off_only_the_applications_own_runs(
    registry: MemoryRegistry, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2PLB_REGISTER=0 needs neither port nor registry."""
    monkeypatch.setenv("P2PLB_REGISTER", "0")

    @asynccontextmanager
    async def own(app: object) -> AsyncIterator[dict[str, int]]:
        yield {"x": 1}

    lifespan = p2plb.lifespan("users", registry="etcd://127.0.0.1:1", also=own, required=True)

    async def main() -> None:
        async with lifespan(None) as state:
            assert state == {"x": 1}
            assert lifespan.registration is None

    anyio.run(main)


def test_all_workers_behind_a_port_have_one_id(registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance is an address, not a worker; a name from outside wins."""
    ids: list[str] = []

    async def run(lifespan: Lifespan) -> None:
        async with lifespan(None):
            assert lifespan.registration
            assert lifespan.registration.instance
            ids.append(lifespan.registration.instance.id)

    for lifespan in (users(registry), users(registry), users(registry, port=2), users(registry, id="mine")):
        anyio.run(run, lifespan)
    monkeypatch.setenv("POD_NAME", "users-0")
    anyio.run(run, users(registry))
    assert ids[0] == ids[1] != ids[2]
    assert ids[3:] == ["mine", "users-0"]


def test_signals_drain_where_that_is_possible(registry: MemoryRegistry) -> None:
    """F02: in the main thread SIGTERM is taken over while the application runs, and given back."""
    before = signal.getsignal(signal.SIGTERM)

    async def main(lifespan: Lifespan, taken: bool) -> None:
        async with lifespan(None):
            assert (signal.getsignal(signal.SIGTERM) != before) is taken

    for _ in range(2):
        anyio.run(main, users(registry), True)
        anyio.run(main, users(registry, drain_on=()), False)
    assert signal.getsignal(signal.SIGTERM) is before


@BACKENDS
def test_required_fails_the_start_if_the_registry_does_not_answer(backend: str) -> None:
    """A program that must not run unregistered does not start; its own part is ended again."""
    etcd, ended = FakeEtcd(), []
    for method in ("read", "watch"):
        etcd.fail(method, Unavailable("etcd is down"), times=None)

    @asynccontextmanager
    async def own(app: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            ended.append(1)

    async def main() -> None:
        with EtcdRegistry(etcd.driver()) as registry:
            lifespan = users(registry, also=own, required=True, timeout=0.3)
            with pytest.raises(DiscoveryError, match=r"fake://etcd has not answered within 0.3 s: .*etcd is down"):
                async with lifespan(None):
                    pytest.fail("it started")
            etcd.heal()
            async with users(registry, required=True, timeout=PATIENCE)(None):
                pass

    anyio.run(main, backend=backend)
    assert ended == [1]


def test_an_outage_keeps_nobody_from_starting() -> None:
    """F28: unless it is required, the registry may come later."""
    etcd = FakeEtcd()
    for method in ("read", "watch", "grant", "publish"):
        etcd.fail(method, Unavailable("etcd is down"), times=None)

    async def main() -> None:
        with EtcdRegistry(etcd.driver()) as registry:
            lifespan = users(registry, ready=lambda: True)
            async with lifespan(None):
                await until(lambda: state_of(lifespan) == "retrying")
                etcd.heal()
                await until(lambda: state_of(lifespan) is UP)

    anyio.run(main)


async def bare(app: object) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"also": 5}, TypeError, "also is a function from the application to an async context manager"),
        ({"also": bare}, TypeError, "@asynccontextmanager"),
        ({"port": 0}, ValueError, "port 0 lets the system choose"),
        ({"weight": -1}, ValueError, "weight is from 0"),
        ({"colour": "blue"}, TypeError, "colour"),
    ],
)
def test_wrong_arguments_are_told_at_construction(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """What can never work is an error where it was written."""
    with pytest.raises(error, match=text):
        p2plb.lifespan("users", **{"port": 1} | options)


def test_without_a_port_the_start_fails(registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is only imported need not know its port; an application that starts must."""
    for variable in ("PORT", "P2PLB_PORT", "P2PLB_URL"):
        monkeypatch.delenv(variable, raising=False)
    lifespan = users(registry, port=None)

    async def main() -> None:
        with pytest.raises(ValueError, match="give port, the one on which the server listens, or url; or set"):
            async with lifespan(None):
                pytest.fail("it started")

    anyio.run(main)
