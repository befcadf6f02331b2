"""Ten instances to measure against: nginx with static answers on ten ports if it is on the PATH, else our own servers.

nginx also gives the hop that users have today: one more port that balances over the ten with kept connections.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.harness.servers import free_port, running

COUNT = 10


@dataclass(frozen=True, slots=True)
class Backends:
    """Where the instances listen, and where the hop does if there is one."""

    kind: str
    origins: tuple[str, ...]
    hop: str | None

    @property
    def registry(self) -> str:
        """Return the URL of a registry that holds them as the service `bench`."""
        return "static://bench=" + ",".join(origin.removeprefix("http://") for origin in self.origins)


@contextmanager
def backends() -> Iterator[Backends]:
    """Give ten instances that listen; at the end they are gone."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    with _nginx(nginx) if nginx else _own() as ten:
        yield ten


@contextmanager
def _own() -> Iterator[Backends]:
    with running(COUNT, service="bench") as servers:
        yield Backends("asyncio servers of the harness", tuple(server.url for server in servers), None)


@contextmanager
def _nginx(program: str) -> Iterator[Backends]:
    hop, *ports = (free_port() for _ in range(COUNT + 1))
    with tempfile.TemporaryDirectory(prefix="p2plb-bench-") as directory:
        (Path(directory) / "nginx.conf").write_text(config(hop, ports))
        command = [program, "-p", directory, "-c", "nginx.conf", "-e", "error.log", "-g", "daemon off;"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            _await_port(hop)
            yield Backends("nginx, static answers", tuple(map(_origin, ports)), _origin(hop))
        finally:
            process.terminate()
            process.wait(10)


def config(hop: int, ports: list[int]) -> str:
    """Return the configuration of nginx: a static answer on each port and a hop that balances over them."""
    servers = "\n".join(
        f'server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 "ok"; }} }}' for port in ports
    )
    upstream = "\n".join(f"server 127.0.0.1:{port};" for port in ports)
    return f"""
worker_processes 2;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 10000000;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    upstream ten {{ {upstream} keepalive 256; keepalive_requests 10000000; }}
    {servers}
    server {{
        listen 127.0.0.1:{hop} backlog=1024;
        location / {{ proxy_pass http://ten; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


def _origin(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.02)
    raise RuntimeError("nginx does not listen; run it by hand with the configuration of this file")
