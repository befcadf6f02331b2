"""The example runs, and says what its guide promises."""

import subprocess
import sys
from pathlib import Path


def test_the_example_runs() -> None:
    """All three make the same call, each as a client of its family."""
    program = Path(__file__).with_name("engines.py")
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "httpx: /1 of users True",
        "httpx2: /2 of users True",
        "aiohttp inside: /3 of users True",
    ]
