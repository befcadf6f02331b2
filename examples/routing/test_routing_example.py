"""The example runs, and each URL means what its guide says."""

import re
import subprocess
import sys
from pathlib import Path


def test_the_example_runs() -> None:
    """A key of services with and without a port, a plain host, a suffix, a path that is stripped."""
    program = Path(__file__).with_name("routing.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.sub(r":\d+$", ":PORT", done.stdout, flags=re.MULTILINE).splitlines() == [
        "peer: users saw /42 of api.internal",
        "peer: users saw /42 of api.internal",
        "plain: None saw /42 of localhost:PORT",
        "peer: users saw /42 of users.p2p",
        "peer: users saw /42?full=1 of localhost",
    ]
