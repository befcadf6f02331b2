"""Commands of p2plb in child processes, as a user types them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background of a shell ignores SIGINT
from p2plb.cli import main
sys.exit(main())
"""
PROGRAM = (sys.executable, "-c", _MAIN)
PATIENCE = 40.0
"""Seconds that a command may take on a loaded machine."""


def p2plb(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False, env=_env(environment)
    )


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Give a command that runs, with both its outputs in one pipe; at the end it is gone."""
    command = [*PROGRAM, *arguments]
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, stdout=pipe, stderr=both, text=True, env=_env(environment)) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen[str]) -> int:
    """Press Ctrl-C and return the exit status."""
    process.send_signal(signal.SIGINT)
    return process.wait(PATIENCE)


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """Return what a running command prints up to the line in which `wanted` stands; fails if it ends before."""
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line)
        if wanted in line:
            return "".join(lines)
    raise AssertionError(f"{wanted!r} was not said, but:\n{''.join(lines)}")


def _env(extra: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "P2PLB_REGISTRY"}
    return kept | {"PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"} | extra
