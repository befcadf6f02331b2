"""What is lost when a server is told to end, by server and by the way in which it is registered.

    python -m integration.soak.shutdown [--rounds 5] [--servers uvicorn "gunicorn with 2 workers" …]

POSTs are made over two instances of which one gets SIGTERM. A POST that fails was either never executed by an instance
that still took it, or executed without its caller hearing of it. Needs `pip install -e ".[test,servers]"`.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from integration.harness import journal
from integration.harness.records import closing_registries
from integration.harness.servers import ROOT, free_port
from integration.soak.load import Load
from integration.soak.report import report
from integration.soak.scene import await_urls
from p2plb.testing.etcd import running_etcd

APP = "integration.soak.shutdown_app:app"
WRAPPER = "examples/register/wrapper.py"
GRACE = 1.0
PATIENCE = 20.0

SERVERS = {
    "uvicorn": ["uvicorn", APP, "--port", "{port}", "--log-level", "error"],
    "gunicorn": ["gunicorn", APP, "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}", "--log-level=error"],
    "hypercorn": ["hypercorn", APP, "--bind", "127.0.0.1:{port}", "--log-level", "error"],
    "granian": ["granian", APP, "--interface", "asgi", "--port", "{port}", "--log-level", "error"],
}
SERVERS |= {f"{name} with 2 workers": [*words, "--workers", "2"] for name, words in SERVERS.items()}
WAYS = ("lifespan", "register", "preStop")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one way with one server, over some rounds; `executed` counts failed calls that had an effect."""

    calls: int
    failed: list[str]
    executed: int
    slowest: float

    @property
    def complaints(self) -> list[str]:
        """Return nothing: what failed is what is measured."""
        return []

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.calls + other.calls,
            self.failed + other.failed,
            self.executed + other.executed,
            max(self.slowest, other.slowest),
        )

    def __str__(self) -> str:
        text = f"{self.calls:,} POSTs: {len(self.failed)} failed, {self.executed} of these executed"
        return f"{text}; the server ended within {self.slowest:.1f} s"


def shutdown(server: str, way: str, *, in_flight: int = 8) -> Outcome:
    """End one of two instances under POST load."""
    with ExitStack() as stack:
        etcd = stack.enter_context(running_etcd())
        stack.enter_context(closing_registries())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2plb-shutdown-")))
        ports = [free_port(), free_port()]
        leaver, _ = [
            stack.enter_context(instance(command(server, way, port), port, way, folder, etcd.registry))
            for port in ports
        ]
        await_urls(etcd.registry, {f"http://127.0.0.1:{port}" for port in ports})
        with Load(etcd.registry, asynchronous=True, in_flight=in_flight, method="POST") as load:
            load.runs(0.5)
            took = end(leaver, ports[0], way)
            load.runs(0.5)
        executed = journal.executions(journal.read(folder.glob("*.jsonl")))
    failed = load.log.failed
    texts = [f"{answer.id}: {answer.error or answer.status}" for answer in failed]
    return Outcome(len(load.log.answers), texts, sum(executed[answer.id] > 0 for answer in failed), took)


def command(server: str, way: str, port: int) -> list[str]:
    """Return what starts an instance."""
    words = [sys.executable, "-m", *(word.format(port=port) for word in SERVERS[server])]
    if way != "register":
        return words
    return [
        sys.executable,
        WRAPPER,
        "--service",
        "users",
        "--port",
        str(port),
        "--drain-grace",
        str(GRACE),
        "--",
        *words,
    ]


@contextmanager
def instance(
    words: Sequence[str], port: int, way: str, folder: Path, registry: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run an instance in a session of its own, so that nothing of it is left at the end."""
    settings = {"WAY": way, "PORT": str(port), "JOURNAL": str(folder / f"{port}.jsonl"), "P2PLB_REGISTRY": registry}
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(words, cwd=ROOT, env=os.environ | settings, start_new_session=True) as process:
        try:
            yield process
        finally:
            kill_session(process.pid)


def kill_session(session: int) -> None:
    """Kill whatever still runs of a session: a server's workers may outlive it."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                os.kill(int(stat.parent.name), signal.SIGKILL)
        except OSError:
            continue  # it has ended meanwhile


def end(process: "subprocess.Popen[bytes]", port: int, way: str) -> float:
    """End an instance as a process manager would, and return how many seconds that took."""
    started = time.monotonic()
    if way == "preStop":
        httpx.post(f"http://127.0.0.1:{port}/-/drain", timeout=PATIENCE, trust_env=False).raise_for_status()
    process.terminate()
    process.wait(PATIENCE)
    return time.monotonic() - started


def main() -> int:
    """Print the figures of each way with each server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is tried (5)")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS), metavar="SERVER")
    options = parser.parse_args()
    for server in options.servers:
        for way in WAYS:
            rounds = [shutdown(server, way) for _ in range(options.rounds)]
            report(f"{server}, {way}", sum(rounds[1:], rounds[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
