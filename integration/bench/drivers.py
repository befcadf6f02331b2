"""The two etcd drivers beside each other on one etcd, each in processes of its own: why the gateway's is the default.

python -m integration.bench.drivers [--runs 5] [--records 5000] [--forks 40]
"""

import argparse
import base64
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from p2plb.discovery.etcd.common import EtcdDriver
from p2plb.discovery.etcd.driver import DriverError, Unavailable, Want

if TYPE_CHECKING:
    from integration.harness.etcd import Etcd

PREFIX = b"/p2plb/services/bench/"
KINDS = ("gateway", "grpc")
ENVIRONMENT = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "GRPC_VERBOSITY": "NONE"}
IDLE = 3.0
DOWN = 10.0
CHILD_WITHIN = 10.0
UNITS = {
    "import": "ms of CPU to import it and make a driver",
    "memory": "MiB more, with a read and a watch",
    "list": "ms of CPU to list {records:,} records",
    "idle": "ms of CPU a second with an idle watch",
    "forked": "forked children that read, of {forks}",
    "return": "s from etcd's next start to the first answer",
}


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="processes for each driver (5)")
    parser.add_argument("--records", type=int, default=5_000, help="records to list (5000)")
    parser.add_argument("--forks", type=int, default=40, help="children forked from each process (40)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, url = arguments.child
        print(json.dumps(measured(kind, url, arguments.forks)), flush=True)
        os._exit(0)  # what gRPC does at an exit after forks is not the subject
    from integration.harness.etcd import single  # noqa: PLC0415  it imports what a child is to measure

    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with single(()) as node:
        fill(node, arguments.records)
        for run in range(arguments.runs):
            for kind in KINDS if run % 2 else KINDS[::-1]:
                found[kind].append(run_child(node, kind, arguments.forks))
    print(f"{'medians of ' + str(arguments.runs):48}" + "".join(f"{kind:>10}" for kind in KINDS))
    for name, unit in UNITS.items():
        cells = "".join(f"{median(one[name] for one in found[kind]):>10,.1f}" for kind in KINDS)
        print(f"{unit.format(forks=arguments.forks, records=arguments.records):48}{cells}")


def fill(node: "Etcd", records: int) -> None:
    """Put the records that are listed, a hundred at a time."""
    for first in range(0, records, 100):
        puts = [{"request_put": record(number)} for number in range(first, min(first + 100, records))]
        node.post("kv/txn", {"success": puts})


def record(number: int) -> dict[str, str]:
    """Return a key and a value of usual size, as the gateway wants them."""
    value = json.dumps({"v": 1, "id": str(number), "service": "bench", "url": "http://10.0.0.7:8001", "metadata": {}})
    pair = {"key": PREFIX + str(number).encode(), "value": value.encode()}
    return {name: base64.b64encode(raw).decode() for name, raw in pair.items()}


def run_child(node: "Etcd", kind: str, forks: int) -> dict[str, float]:
    """Measure one driver in a process of its own; when it says so, etcd is away for a while."""
    command = [sys.executable, "-m", "integration.bench.drivers", "--child", kind, node.url, "--forks", str(forks)]
    with subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "etcd may go" in process.stdout.readline()
        node.kill9()
        time.sleep(DOWN)
        back = time.time()
        node.restart()
        found: dict[str, float] = json.loads(process.stdout.readline())
    return found | {"return": found["return"] - back}


def measured(kind: str, url: str, forks: int) -> dict[str, float]:
    """Measure everything that one process can."""
    before, start = memory(), time.process_time()
    driver = made(kind, url)
    found = {"import": (time.process_time() - start) * 1000}
    start_revision = driver.read([PREFIX], timeout=10, limit=1).revision + 1
    with watching(driver, start_revision):
        found["memory"] = memory() - before
        found["idle"] = busy(lambda: time.sleep(IDLE)) / IDLE
        found["list"] = busy(lambda: driver.read([PREFIX], timeout=30))
        found["forked"] = sum(forked(driver, kind, url) for _ in range(forks))
    print("etcd may go", flush=True)
    found["return"] = returned(driver)
    return found


def made(kind: str, url: str) -> EtcdDriver:
    """Return a driver, importing what it takes."""
    if kind == "gateway":
        from p2plb.discovery.etcd.gateway import Gateway  # noqa: PLC0415  the import is measured

        return Gateway([url])
    from p2plb.discovery.etcd.grpc import Grpc  # noqa: PLC0415  the same

    return Grpc([url])


@contextmanager
def watching(driver: EtcdDriver, start: int) -> Iterator[None]:
    """Keep a watch open, read by a thread."""
    stream = driver.watch([Want(PREFIX, start)], timeout=10, idle=600)
    opened = threading.Event()

    def consume() -> None:
        try:
            for _frame in stream:
                opened.set()
        except DriverError:
            return

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    assert opened.wait(10)
    yield
    stream.close()
    thread.join()


def forked(driver: EtcdDriver, kind: str, url: str) -> bool:
    """Say whether a forked child can read: with gRPC over a channel of its own, which our driver would refuse."""
    child = os.fork()
    if child == 0:
        driver.after_fork()
        os._exit(0 if (read_bare(url) if kind == "grpc" else driver.read([PREFIX], timeout=5, limit=1)) else 1)
    deadline = time.monotonic() + CHILD_WITHIN
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status == 0
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


def read_bare(url: str) -> Any:
    """Read by gRPC alone."""
    from p2plb.discovery.etcd.grpc import load  # noqa: PLC0415  as above

    libraries = load()
    channel = libraries.grpc.insecure_channel(url.removeprefix("http://"))
    return libraries.etcd.KVStub(channel).Range(libraries.etcd.RangeRequest(key=PREFIX), timeout=5)


def returned(driver: EtcdDriver) -> float:
    """Return when the driver answers again after it could not, in wall time."""
    failed = False
    with closing(driver):
        while True:
            try:
                driver.read([b"/none/"], timeout=1)
            except Unavailable:
                failed = True
            else:
                if failed:
                    return time.time()
            time.sleep(0.02)


def memory() -> float:
    """Return the memory that this process has now, in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def busy(work: Callable[[], object]) -> float:
    """Return how many milliseconds of CPU all threads take during some work."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


if __name__ == "__main__":
    main()
