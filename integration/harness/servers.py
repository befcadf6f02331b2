"""HTTP servers in child processes, for tests and measurements: start, switch, kill, freeze, drain, restart them.

    with running(4) as servers:
        servers[0].switch("slow", seconds=0.2)
        servers[1].kill9()

Each keeps a journal (`integration.harness.journal`). What they can be switched to is in `child/behaviours.py`.
"""

import json
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self

from p2plb.instance import Instance

ROOT = Path(__file__).parents[2]
PATIENCE = 15.0
"""Seconds that a child has to start or to obey on a loaded machine; it takes about 0.15."""


class Server:
    """One server in a child process, at one port for all its lives.

    `register` is the URL of the registry in which it registers itself as `service`; SIGTERM then drains it.
    """

    def __init__(
        self, name: str, directory: Path, *, register: str | None = None, service: str = "users", ttl: int = 10
    ) -> None:
        self.name = name
        self.port = free_port()
        self.service = service
        self.journal = directory / f"{name}.jsonl"
        self._command = [sys.executable, "-m", "integration.harness.child", "--name", name, "--port", str(self.port)]
        self._command += ["--journal", str(self.journal)]
        if register:
            self._command += ["--register", register, "--service", service, "--ttl", str(ttl)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the origin that it serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def instance(self) -> Instance:
        """Return the record with which a test can announce a server that does not register itself."""
        return Instance(id=self.name, service=self.service, url=self.url, metadata={"name": self.name})

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Return the running child."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process

    @property
    def pid(self) -> int:
        """Return the process id of the running child."""
        return self.process.pid

    def start(self) -> None:
        """Start the child, without waiting for it."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=pipe, stdout=pipe, start_new_session=True)

    def wait(self) -> Self:
        """Wait until the child listens."""
        self._hear()
        return self

    def switch(self, mode: str = "ok", **settings: Any) -> None:
        """Put a mode and its settings in force for all requests that start from now on."""
        orders = _pipe(self.process.stdin)
        orders.write(json.dumps({"mode": mode, **settings}).encode() + b"\n")
        orders.flush()
        self._hear()

    def kill9(self) -> None:
        """Let it die at once, with whatever it is doing."""
        self.process.kill()
        self._reap()

    def term(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit status."""
        self.process.terminate()
        return self._reap()

    def stop(self) -> None:
        """Freeze it: the kernel still accepts connections, nobody answers."""
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let a frozen child go on."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again on the same port after it has ended, and wait until it listens."""
        self.start()
        self.wait()

    def close(self) -> None:
        """End it, however it is doing; idempotent."""
        if self._process is not None:
            self.kill9()

    def _hear(self) -> None:
        """Wait for the child's next word."""
        voice = _pipe(self.process.stdout)
        if not select.select([voice], [], [], PATIENCE)[0] or not voice.readline():
            raise RuntimeError(f"{self.name} gives no sign of life; its standard error says why")

    def _reap(self) -> int:
        process, self._process = self.process, None
        status = process.wait(PATIENCE)
        _pipe(process.stdin).close()
        _pipe(process.stdout).close()
        return status


@contextmanager
def running(
    count: int, *, register: str | None = None, service: str = "users", ttl: int = 10
) -> Iterator[list[Server]]:
    """Give `count` servers that listen; at the end none is left, nor are their journals."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2plb-servers-")))
        servers = [
            Server(f"{service}-{number}", directory, register=register, service=service, ttl=ttl)
            for number in range(count)
        ]
        for server in servers:
            stack.callback(server.close)
            server.start()
        yield [server.wait() for server in servers]


def free_port() -> int:
    """Return a loopback port that nobody listens on.

    It lies below the kernel's range of ephemeral ports: a port of that range may be taken by an outgoing connection
    while its server is dead, and a client that dials it can even connect to itself.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            if _binds(probe, port):
                return port
    raise RuntimeError("no free port between 20000 and 32000")


def _binds(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the child has no pipes")
    return pipe
