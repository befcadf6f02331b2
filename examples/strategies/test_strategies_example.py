"""The example runs, and the shares are what its guide says."""

import subprocess
import sys
from pathlib import Path


def test_the_example_runs() -> None:
    """Exact shares by weight, calls that stay at home, and those that ask for metadata."""
    program = Path(__file__).with_name("strategies.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "by weight: {'a1': 30, 'a2': 10, 'b1': 10, 'b2': 10, 'c1': 10}",
        "in zone a: {'a1': 30, 'a2': 10}",
        "version 2 only: {'c1': 70}",
        "nobody has version 3: 70 calls served",
        "one call's wish: {'b1': 70}",
        "none has adapters=medical in its metadata, as call(where=) asks",
    ]
