"""The FastAPI service runs as its text says: behind uvicorn with one worker or several, and in tests without etcd."""

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from p2plb import Client, NoInstances
from p2plb.discovery import urls
from p2plb.discovery.registry import Registry
from p2plb.instance import Instance
from p2plb.testing.etcd import free_port, running_etcd
from tests.leaks import no_leaks

__all__ = ["no_leaks"]

HERE = Path(__file__).parent
PATIENCE = 30.0


@pytest.fixture(scope="module", name="etcd")
def _etcd() -> Iterator[str]:
    with running_etcd() as etcd:
        yield etcd.registry


@pytest.fixture(name="url")
def _url(etcd: str, request: pytest.FixtureRequest) -> str:
    return f"{etcd}/{request.node.name}"


@contextmanager
def serving(url: str, port: int, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = ["-m", "uvicorn", "--app-dir", str(HERE), "app:app", "--port", str(port), "--log-level", "error"]
    environment = os.environ | {"PORT": str(port), "P2PLB_REGISTRY": url}
    with subprocess.Popen([sys.executable, *command, *arguments], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(client: Client) -> dict[str, str]:
    """Call the service as soon as somebody serves it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            found: dict[str, str] = client.get("http://hello/").raise_for_status().json()
        except NoInstances:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return found


def ready(port: int) -> set[str]:
    """Return which workers of a server are registered, of those that accept one of many connections at a time."""

    def ask(_: int) -> dict[str, str]:
        found: dict[str, str] = httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False, timeout=PATIENCE).json()
        return found

    with ThreadPoolExecutor(8) as pool:
        return {answer["process"] for answer in pool.map(ask, range(16)) if answer["state"] == "up"}


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stored(registry: Registry) -> list[Instance]:
    return [instance for snapshot in registry.list() for instance in snapshot.instances]


def test_it_registers_with_its_own_lifespan_and_drains(url: str) -> None:
    """F02: the application's own lifespan has run; SIGTERM ends the server after callers were told."""
    port = free_port()
    with serving(url, port) as process, Client(url) as client:
        assert answer(client) == {"says": "hello", "process": str(process.pid)}
        assert client.get("http://hello/ready").json() == {"state": "up", "process": str(process.pid)}
        process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM
    with urls.build(url) as registry:
        assert not stored(registry)


def test_workers_behind_one_port_are_one_instance(url: str) -> None:
    """An address is registered, not a worker, and nothing of it is left when the server ends."""
    port = free_port()
    with serving(url, port, "--workers", "2") as process, Client(url) as client, urls.build(url) as registry:
        answer(client)
        until(lambda: len(ready(port)) == 2)
        assert [instance.url for instance in stored(registry)] == [f"http://127.0.0.1:{port}"]
        process.terminate()
        process.wait(PATIENCE)
        assert not stored(registry)


def test_a_prestop_hook_drains(url: str) -> None:
    """The hook returns when callers have heard; the server serves on until it is ended."""
    port = free_port()
    with serving(url, port), Client(url) as client, urls.build(url) as registry:
        answer(client)
        httpx.post(f"http://127.0.0.1:{port}/-/drain", trust_env=False, timeout=PATIENCE).raise_for_status()
        assert [instance.state for instance in stored(registry)] == ["draining"]
        assert answer(client)["says"] == "hello"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tests_of_the_application_need_neither_etcd_nor_a_port(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test client runs both lifespans and registers nothing."""
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("P2PLB_REGISTRY", "etcd://127.0.0.1:1")
    app = runpy.run_path(str(HERE / "app.py"))["app"]
    with TestClient(app, backend=backend) as client:
        assert client.get("/").json() == {"says": "hello", "process": str(os.getpid())}
        assert client.get("/ready").json() == {"state": "waiting", "process": str(os.getpid())}
        assert client.post("/-/drain").status_code == 403
