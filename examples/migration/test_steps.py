"""The steps are taken, and at each switch nothing fails."""

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STEPS = {
    "plain httpx": (0, 0),
    "share 0.05": (1, 15),
    "share 0.5": (20, 80),
    "share 1": (100, 100),
    "bypass": (0, 0),
    "no fallback": (100, 100),
}
"""What per cent of the calls instances may serve."""
LINE = re.compile(r"(.+): (\d+) calls during the switch, (\d+) after it, (\d+) failed, (\d+)% by instances")


def test_no_call_fails_at_any_step() -> None:
    """F24: from plain httpx over three shares and the bypass to p2plb alone; every trace is whole."""
    program = HERE / "steps.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr
    *lines, traces = done.stdout.splitlines()
    for line, (name, (least, most)) in zip(lines, STEPS.items(), strict=True):
        step = LINE.fullmatch(line)
        assert step, line
        assert (step[1], step[4]) == (name, "0")
        assert int(step[2]) > 0 or name == "plain httpx"
        assert least <= int(step[5]) <= most, line
    found = re.fullmatch(r"traces: (\d+) of (\d+) whole", traces)
    assert found
    assert found[1] == found[2]


def test_the_guide_shows_the_whole_difference() -> None:
    """What must be changed in the code is what the guide says, line by line."""
    old, new = ((HERE / name).read_text().split('"""', 2)[2].splitlines() for name in ("before.py", "orders.py"))
    changed = [line[0] + line[2:] for line in difflib.ndiff(old, new) if line[0] in "+-" and line[2:]]
    shown = (HERE / "README.md").read_text().split("```diff\n")[1].split("```")[0].splitlines()
    assert changed == [line for line in shown if line[:1] in ("+", "-")]
