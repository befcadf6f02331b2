"""The example programs run as their texts say."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2plb import Client, NoInstances
from p2plb.testing.etcd import free_port, running_etcd
from tests.leaks import no_leaks

__all__ = ["no_leaks"]

HERE = Path(__file__).parent
PATIENCE = 30.0


@pytest.fixture(scope="module", name="registry")
def _registry() -> Iterator[str]:
    with running_etcd() as etcd:
        yield etcd.registry


@contextmanager
def running(command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, *command], env=os.environ | environment) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(client: Client) -> str:
    """Call the service as soon as somebody serves it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return client.get("http://hello/").raise_for_status().text
        except NoInstances:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_server_registers_serves_and_drains(registry: str) -> None:
    """It is called by its name, and ends by the signal that it was sent."""
    command = [str(HERE / "server.py"), "--registry", registry, "--drain-grace", "0.2"]
    with running(command) as process, Client(registry) as client:
        assert answer(client) == f"hello from process {process.pid}\n"
        process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM


def test_the_wrapper_registers_another_program(registry: str) -> None:
    """The server in the child is called; told to end, the wrapper drains before it passes that on."""
    port = str(free_port())
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port]
    command = [str(HERE / "wrapper.py"), "--port", port, "--registry", registry, "--drain-grace", "0.2", "--", *server]
    with running(command) as process, Client(registry) as client:
        assert "Directory listing" in answer(client)
        process.terminate()
        assert process.wait(PATIENCE) == 256 - signal.SIGTERM
        with pytest.raises(NoInstances):
            client.get("http://hello/")


def test_the_wrapper_leaves_no_server_that_can_not_be_registered() -> None:
    """An argument that only the registry finds wrong ends both programs."""
    server = [sys.executable, "-c", f"import time; time.sleep({PATIENCE})"]
    command = [sys.executable, str(HERE / "wrapper.py"), "--port", "1", "--registry", "nonsense://", "--", *server]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 0.8, check=False)
    assert ended.returncode == 1
    assert "ValueError: a registry URL starts with" in ended.stderr


def test_the_application_registers_in_its_lifespan(registry: str) -> None:
    """uvicorn, a second program for the same service, drains before it closes its port."""
    port = str(free_port())
    command = ["-m", "uvicorn", "--app-dir", str(HERE), "asgi:app", "--port", port, "--log-level", "warning"]
    with running(command, PORT=port, P2PLB_REGISTRY=registry) as process, Client(registry) as client:
        assert answer(client) == f"hello from process {process.pid}\n"
        process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM
