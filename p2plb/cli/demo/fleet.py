"""The processes of the demo: started, killed, drained, and none left at the end.

It knows how a process is doing, not what callers think of it. Where the registry is in memory the processes can't
register themselves; then the fleet does it for them.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from p2plb.cli.demo.instance import registration
from p2plb.discovery.registry import Registry
from p2plb.testing.etcd import free_port
from p2plb.testing.holding import signals_held

GRACE = 0.2
"""Seconds between saying that an instance leaves and its end, where the fleet speaks for it (the demo waits for it)."""
PATIENCE = 5.0
"""Seconds that a process has to end once its standard input has ended; it takes milliseconds."""


class Member:
    """One instance: its name, its process and what was done to it."""

    def __init__(self, name: str, registry: str | Registry) -> None:
        self.name = name
        self.port = free_port()
        self.killed: float | None = None
        """When it was killed, by the monotonic clock."""
        self._told = False
        self._registration = (
            None if isinstance(registry, str) else registration(name, self.port, registry, drain_grace=GRACE)
        )
        where = registry if isinstance(registry, str) else "-"
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "p2plb.cli.demo.instance", name, str(self.port), where],
            stdin=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the demo alone; it ends its processes
        )
        if self._registration:
            self._registration.start()

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    @property
    def state(self) -> str:
        """Say how the process is doing."""
        if self._process.poll() is None:
            return "draining" if self._told else "running"
        return "killed" if self.killed is not None else "drained" if self._told else "ended"

    def kill(self) -> None:
        """Kill it with whatever it is doing."""
        self.killed = time.monotonic()
        self._process.kill()
        self._process.wait()

    def drain(self) -> None:
        """Tell it to leave; it says so in the registry, answers what it has begun, and ends."""
        self._told = True
        if self._registration:
            self._registration.close()
        self._process.terminate()

    def close(self) -> None:
        """End it, however it is doing."""
        if self._registration:
            self._registration.close()
        self._process.kill()
        self._process.wait(PATIENCE)
        if self._process.stdin:
            self._process.stdin.close()


class Fleet:
    """All instances that the demo has ever started, in that order."""

    def __init__(self, registry: str | Registry, ending: ExitStack) -> None:
        self.members: list[Member] = []
        self._registry = registry
        self._ending = ending

    def start(self, name: str) -> Member:
        """Start one more instance; it takes calls as soon as it is registered."""
        with signals_held():
            member = Member(name, self._registry)
            self._ending.callback(member.close)
        self.members.append(member)
        return member


@contextmanager
def fleet(registry: str | Registry) -> Iterator[Fleet]:
    """Give an empty fleet; at the end none of its processes is left."""
    with ExitStack() as ending:
        yield Fleet(registry, ending)
