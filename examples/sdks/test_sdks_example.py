"""Each SDK works with three replicas, and says what its guide promises; a dead proxy in the environment takes nothing.

The SDKs run in processes of their own: their imports are slow, and their warnings are theirs.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leaks import no_leaks

__all__ = ["no_leaks"]

HERE = Path(__file__).parent
PROMISED = {
    "with_openai.py": r"""sync: process \d+: hello hello
one conversation: 10 calls, 1 replica
without a key: 3 replicas
closed with the SDK: True
async: process \d+: hello hello in 2 attempts
closed with the SDK: True
""",
    "with_anthropic.py": r"""sync: process \d+: hello hello
the same streamed: True in 2 attempts
async: process \d+: hello hello in 1 attempt
""",
    "with_ollama.py": r"""sync: process \d+: hello hello
the same streamed: True in 3 attempts
async: process \d+: hello hello in 1 attempt
""",
    "with_qdrant.py": """upsert: completed
found by 3 replicas in 8 attempts
async: found 1
""",
    "with_langchain.py": r"""invoke: process \d+: hello hello
all the same: True in 6 attempts
""",
    "killed.py": r"""answered: 100 by 2 replicas
died with calls in its hands: True
a stream that had begun: (APIConnectionError|RemoteProtocolError|ReadError)
the next call: 200
""",
}


@pytest.mark.parametrize("example", PROMISED)
def test_the_example_runs(example: str) -> None:
    """F70: the SDK's calls go to the replicas, the POSTs that a killed one died with too, and nothing is left open."""
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, str(HERE / "replicas.py"), sys.executable, str(HERE / example)]
    environment = {**os.environ, **proxies, "PYTHONWARNINGS": "error::ResourceWarning"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(PROMISED[example], done.stdout), done.stdout
