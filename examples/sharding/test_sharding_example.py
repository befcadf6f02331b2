"""The example runs, and says what its guide promises."""

import subprocess
import sys
from pathlib import Path


def test_the_example_runs() -> None:
    """Users lie where their owners are, are collected again, and a lost owner is told with its keys."""
    program = Path(__file__).with_name("sharding.py")
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "stored: {'users-0': 105, 'users-1': 107, 'users-2': 88}",
        "collected: 300",
        "answered: 193",
        "failed: users-1 107 ConnectError False",
        "user-1: ['users-1', 'users-2'] then users-2",
    ]
