"""The example runs, and says what its guide promises."""

import subprocess
import sys
from pathlib import Path


def test_the_example_runs() -> None:
    """Calls are spread in turn, a customer keeps its instance, and an unknown name is explained."""
    program = Path(__file__).with_name("calling.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "users, in turn: [10, 10, 10]"
    assert lines[1] == "orders of one customer, instances: 1"
    assert lines[3] == "it saw: /42 Host: users"
    assert lines[4].startswith("NoInstances: did you mean 'users'?")
