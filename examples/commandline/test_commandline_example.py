"""What the guide types works as it is typed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from p2plb.testing.etcd import free_port
from tests.leaks import no_leaks

__all__ = ["no_leaks"]

SERVER = Path(__file__).parents[1] / "register" / "server.py"
PATIENCE = 30.0


def p2plb(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "p2plb.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def until_it_answers(*words: str) -> str:
    """Repeat a command until it succeeds, and return what it printed."""
    deadline = time.monotonic() + PATIENCE
    while (done := p2plb(*words)).returncode:
        assert time.monotonic() < deadline, done.stderr
    return done.stdout


def test_the_guide() -> None:
    """`dev` runs an etcd, a server registers, `ls` shows it, `curl` reaches it, and all of them end when told."""
    port = free_port()
    registry = f"etcd://127.0.0.1:{port}"
    command = [sys.executable, "-m", "p2plb.cli", "dev", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as dev:
        try:
            until_it_answers("ls", "--registry", registry)
            with subprocess.Popen([sys.executable, SERVER, "--registry", registry, "--drain-grace", "0.1"]) as server:
                try:
                    assert "hello from process" in until_it_answers("curl", "hello/", "-v", "--registry", registry)
                    assert "up" in p2plb("ls", "hello", "--registry", registry).stdout
                finally:
                    server.send_signal(signal.SIGTERM)
        finally:
            dev.send_signal(signal.SIGTERM)
