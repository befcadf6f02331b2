"""The demo as a user runs it: it ends by itself, no call fails, and nothing is left over, however it ends."""

import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness.commands import PATIENCE, p2plb, read_until, started


class Traces:
    """What a command and its descendants leave: processes that carry the mark, and temporary files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.environment = {"P2PLB_TEST_MARK": self.mark, "TMPDIR": str(folder)}

    def left(self) -> list[str]:
        """Return what is left once processes have had a moment to vanish."""
        deadline = time.monotonic() + 5
        while (found := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found + [path.name for path in self.folder.iterdir()]

    def _processes(self) -> list[str]:
        return [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if self.mark in _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended meanwhile, or is not ours
        return ""


@pytest.fixture
def traces(tmp_path: Path) -> Iterator[Traces]:
    traces = Traces(tmp_path)
    yield traces
    assert traces.left() == []


@pytest.mark.parametrize("registry", [[], ["--memory"]], ids=["etcd", "memory"])
def test_demo(traces: Traces, registry: list[str]) -> None:
    """Calls go on without a failure while one instance is killed, one joins and one drains."""
    done = p2plb("demo", "--seconds", "3", *registry, **traces.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert ("in memory" in done.stdout) == bool(registry)
    assert "kill -9 of ben" in done.stdout
    assert re.search(r"^[\d,]+ calls, 0 failed, \d+ needed a second attempt$", done.stdout, re.MULTILINE)
    assert re.search(r"^shares: .*anna \d+%", done.stdout, re.MULTILINE)
    assert re.search(r"^shares: .*dora \d+%", done.stdout, re.MULTILINE)
    assert re.search(r"^ben was left \d+ ms after its kill -9", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "registry: a real etcd"),
        (signal.SIGINT, "kill -9 of ben"),
        (signal.SIGTERM, "kill -9 of ben"),
    ],
)
def test_interrupted_demo(traces: Traces, number: signal.Signals, moment: str) -> None:
    """Ctrl-C and SIGTERM end the demo at any moment, without a traceback, and leave nothing."""
    with started("demo", "--seconds", "4", **traces.environment) as process:
        read_until(process, moment)
        os.kill(process.pid, number)
        assert process.wait(PATIENCE) == 128 + number
        assert process.stdout
        assert "Traceback" not in process.stdout.read()
