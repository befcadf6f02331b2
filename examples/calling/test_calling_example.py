"""The example runs, and says what its guide promises."""

import subprocess
import sys
from pathlib import Path


def run(name: str) -> list[str]:
    """Run a program beside this file and return what it prints."""
    program = Path(__file__).with_name(name)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_example_runs() -> None:
    """Calls are spread in turn, a customer keeps its instance, and an unknown name is explained."""
    lines = run("calling.py")
    assert lines[0] == "users, in turn: [10, 10, 10]"
    assert lines[1] == "orders of one customer, instances: 1"
    assert lines[3] == "it saw: /42 Host: users"
    assert lines[4].startswith("NoInstances: did you mean 'users'?")


def test_the_example_of_blocks_runs() -> None:
    """A conversation keeps its instance, whether an SDK calls or something else connects, until that fails."""
    assert run("blocks.py") == [
        "calls of one conversation: 3 instances: 1",
        "picked the same one: True",
        "after a failure another: True",
    ]
