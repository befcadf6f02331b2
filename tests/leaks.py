"""After each test the process is as it was: no thread, file descriptor or child process is left over."""

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2plb.discovery import shared

SETTLED_WITHIN = 3.0
_CACHED_THREADS = ("Trio thread", "AnyIO worker thread")  # kept for reuse by their libraries, a few seconds long


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves something behind; what broader fixtures started does not count."""
    before = _belongings()
    yield
    shared.close_unused()
    deadline = time.monotonic() + SETTLED_WITHIN
    while (left := _belongings() - before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert not left, f"left over: {sorted(left)}"


def _belongings() -> set[str]:
    return {*_threads(), *_descriptors(), *_children()}


def _threads() -> Iterator[str]:
    for thread in threading.enumerate():
        if not thread.name.startswith(_CACHED_THREADS):
            yield f"thread {thread.name} ({thread.ident})"


def _descriptors() -> Iterator[str]:
    folder = Path("/proc/self/fd")
    for entry in folder.iterdir() if folder.exists() else ():
        try:
            yield f"fd {entry.name}: {entry.readlink()}"
        except OSError:
            continue  # the descriptor of the listing itself


def _children() -> Iterator[str]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text(errors="replace").rpartition(")")
        except OSError:
            continue  # it has ended meanwhile
        if int(rest.split()[1]) == os.getpid():
            yield f"child process {name})"
