"""The example runs, and the shares are what its guide says."""

import subprocess
import sys
from pathlib import Path

MISSING = (
    "(without_key=\"error\"): a call to 'users' has no key: give it extensions=p2plb.call(key=…), "
    "or the strategy a key that each request has"
)


def lines(name: str) -> list[str]:
    program = Path(__file__).with_name(name)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_example_runs() -> None:
    """Exact shares by weight, calls that stay at home, and those that ask for metadata."""
    assert lines("strategies.py") == [
        "by weight: {'a1': 30, 'a2': 10, 'b1': 10, 'b2': 10, 'c1': 10}",
        "in zone a: {'a1': 30, 'a2': 10}",
        "version 2 only: {'c1': 70}",
        "nobody has version 3: 70 calls served",
        "one call's wish: {'b1': 70}",
        "none has adapters=medical in its metadata, as call(where=) asks",
    ]


def test_the_example_of_keys_runs() -> None:
    """What has the same key stays together, and a session stays where its cookie says."""
    assert lines("keys.py") == [
        "one user, served by 1 instance",
        "400 users, served by 4 instances",
        "one conversation, served by 1 instance",
        f"ConsistentHash{MISSING}",
        "one browser, served by 1 instance",
        "without its cookie, by another",
    ]
