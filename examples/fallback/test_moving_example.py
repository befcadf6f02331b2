"""The example runs, and no call fails at any step."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_example_runs() -> None:
    """Nobody registered, three shares, bypassed: each step serves all calls, by the ways that its guide promises."""
    program = Path(__file__).with_name("moving.py")
    environment = {name: value for name, value in os.environ.items() if name != "P2PLB_BYPASS"}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "nobody registered: {'fallback': 200}"
    assert "'fallback'" in lines[1]
    assert "'fallback'" in lines[2]
    assert "'peer'" in lines[2]
    assert lines[3:] == ["share 1.0: {'peer': 200}", "bypassed: {'fallback': 200}", "went to the fallback: 200"]
