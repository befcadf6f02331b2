"""The example runs, and says what its guide promises."""

import subprocess
import sys
from pathlib import Path


def test_the_example_runs() -> None:
    """Two attempts are two spans of one trace, on two instances, and the server got the last one's header."""
    program = Path(__file__).with_name("tracing.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "GET http://users/42 503, resent: 0",
        "GET http://users/42 200, resent: 1",
        "instances that were asked: 2",
        "children of the caller's span: True",
        "the header named the last attempt: True",
    ]
