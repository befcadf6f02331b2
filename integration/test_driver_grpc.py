"""The driver over gRPC: the tests of drivers again, in child processes, but for those of what both drivers share.

python-etcd3's generated code loads only with protobuf's implementation in Python, which has to be chosen before the
interpreter starts; and gRPC's threads have no place in a process that forks, as this one does.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.harness.drivers import ENVIRONMENT

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "pytest", "-n", "0", "-rs"]
IN_CHILD = {ENVIRONMENT: "grpc", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}


@pytest.mark.skipif(ENVIRONMENT in os.environ, reason="this is the child")
@pytest.mark.parametrize(
    "files",
    [
        ["test_driver_contract.py", "test_driver_faults.py"],
        ["test_driver_auth.py"],
    ],
)
def test_the_same_over_grpc(files: list[str]) -> None:
    """Whatever the gateway's driver is tested for, the one over gRPC does as well."""
    child = subprocess.run(
        [*COMMAND, *(HERE / file for file in files)],
        env=os.environ | IN_CHILD,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    assert " passed" in child.stdout
