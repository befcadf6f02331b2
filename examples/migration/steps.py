"""Moves `orders` over to p2plb under load, by steps and back; run it: `python examples/migration/steps.py`.

A real etcd, three instances of `users` and the old way to them (a fourth server, which nobody registers), a process of
`orders`, and a browser that never stops placing orders. A step replaces the process of `orders`, as Kubernetes does
after `kubectl set env deployment/orders USERS_SHARE=0.5`: a new one starts, then the old one drains and ends. On the
way one instance of `users` is killed and one drained. Prints a line a step; exit status 1 if a call failed or a trace
broke.
"""

import functools
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import p2plb
from p2plb.serving.lifetime import Registration
from p2plb.testing.etcd import EtcdNode, running_etcd

HERE = Path(__file__).parent
PATIENCE = 60.0
IN_FLIGHT = 4
PAUSE = 0.1
"""Seconds between two calls during a switch: programs that start need the processor too."""

_ports = itertools.count(random.randrange(10_000, 19_000))  # below those that the kernel gives to outgoing connections


@dataclass(frozen=True)
class Step:
    """Which application serves `orders`, in which environment, and what happens to `users` during the switch to it.

    Once the switch is over the step is measured by `calls`.
    """

    name: str
    application: str
    environment: Mapping[str, str]
    trouble: Callable[[], object] = lambda: None
    calls: int = 40


class Program:
    """A program of this folder in a process and on a port of its own; its spans go to a file."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], spans: Path) -> None:
        self.port = free_port()
        self._registration: Registration | None = None
        outside = {name: value for name, value in os.environ.items() if not name.startswith("P2PLB_")}
        env = {**outside, "PORT": str(self.port), "PYTHONWARNINGS": "error", **environment}
        with spans.open("ab") as stdout:
            self._process = subprocess.Popen([sys.executable, *command], cwd=HERE, stdout=stdout, env=env)

    def register(self, registry: p2plb.Registry) -> None:
        """Register what can't do it itself."""
        self._registration = p2plb.register("orders", port=self.port, registry=registry, drain_grace=0.3).start()

    def drain(self) -> None:
        """Let it leave in good order."""
        if self._registration:
            self._registration.stop()
        self._process.terminate()

    def wait(self) -> None:
        """Wait for its end."""
        self._process.wait(PATIENCE)

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        if self._registration:
            self._registration.stop()
        self._process.kill()
        self.wait()


@dataclass
class Tally:
    """What the browser saw: errors, and what `users` had answered to `orders`."""

    errors: list[str] = field(default_factory=list)
    users: list[dict[str, Any]] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Count the calls that have ended."""
        return len(self.errors) + len(self.users)

    def has(self, calls: int) -> bool:
        """Whether so many calls have ended."""
        return self.calls >= calls


class Browser:
    """Places orders all the time, a few at a time; each begins a trace."""

    def __init__(self, client: p2plb.Client) -> None:
        self.tally = Tally()
        self.pause = 0.0
        self._client = client
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._place_orders) for _ in range(IN_FLIGHT)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _place_orders(self) -> None:
        while not self._over.wait(self.pause):
            tally = self.tally
            try:
                response = self._client.post("http://orders/orders/42").raise_for_status()
                tally.users.append(response.json()["customer"])
            except httpx.HTTPError as error:
                tally.errors.append(f"{error!r} {getattr(error, '__notes__', '')}")


class Fleet:
    """The processes of `orders` and `users`, all in one etcd, as one client sees them."""

    def __init__(self, etcd: EtcdNode, stack: ExitStack) -> None:
        registry = stack.enter_context(p2plb.etcd(f"127.0.0.1:{etcd.port}"))
        self.client = stack.enter_context(p2plb.Client(registry, trust_env=False))
        self.spans = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2plb-migration-")), "spans.jsonl")
        self._url = etcd.registry
        self._registry = registry
        self._stack = stack
        self._orders: Program | None = None

    def start(self, *command: str, **environment: str) -> Program:
        """Start a program; it is ended at the end."""
        program = Program(command, environment | {"P2PLB_REGISTRY": self._url}, self.spans)
        self._stack.callback(program.kill)
        return program

    def switch(self, step: Step) -> None:
        """Replace the process of `orders`."""
        old, self._orders = self._orders, self._start_orders(step)
        new = {self._orders.port}
        until(lambda: new <= self.ports("orders"))
        step.trouble()
        if old:
            old.drain()
        until(lambda: new == self.ports("orders"))

    def _start_orders(self, step: Step) -> Program:
        program = self.start("traced.py", step.application, **step.environment)
        if step.application == "before:app":  # which knows nothing of p2plb
            program.register(self._registry)
        return program

    def end_orders(self) -> None:
        """Drain the last process of `orders` and wait for its end."""
        if self._orders:
            self._orders.drain()
            self._orders.wait()

    def ports(self, service: str) -> set[int]:
        """Return the ports of those whom the client calls for a service."""
        self.client.wait_ready(service, timeout=PATIENCE)
        return {httpx.URL(node.url).port or 0 for node in self.client.stats().services[service].nodes}


class Migration:
    """The steps taken under the browser's load."""

    def __init__(self, fleet: Fleet, old_way: int) -> None:
        self.failed = 0
        self.answers: list[dict[str, Any]] = []
        self._fleet = fleet
        self._old_way = old_way

    def take(self, steps: Sequence[Step]) -> None:
        """Take one step after the other, and say how each did."""
        self._fleet.switch(steps[0])  # before it nobody serves
        with Browser(self._fleet.client) as browser:
            for step in steps:
                switching, browser.pause = Tally(), PAUSE
                browser.tally = switching
                if step is not steps[0]:
                    self._fleet.switch(step)
                settled, browser.pause = Tally(), 0.0
                browser.tally = settled
                until(functools.partial(settled.has, step.calls))
                self._report(step, switching, settled)

    def _report(self, step: Step, switching: Tally, settled: Tally) -> None:
        errors = switching.errors + settled.errors
        by_instances = sum(user["served_by"] != self._old_way for user in settled.users) / settled.calls
        calls = f"{switching.calls} calls during the switch, {settled.calls} after it"
        print(f"{step.name}: {calls}, {len(errors)} failed, {by_instances:.0%} by instances", *errors[:3], flush=True)
        self.failed += len(errors)
        self.answers += switching.users + settled.users


def free_port() -> int:
    """Return a port that nobody listens on."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("ports do not run out")


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def traced() -> InMemorySpanExporter:
    """Trace what this process calls, and return where its spans are."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    HTTPXClientInstrumentor().instrument(tracer_provider=provider)
    return exporter


def parents(spans: Iterable[str]) -> dict[str, str | None]:
    """Return for each span, as it was exported, its parent."""
    loaded = [json.loads(span) for span in spans]
    return {span["context"]["span_id"]: span["parent_id"] for span in loaded}


def is_whole(user: Mapping[str, Any], parents: Mapping[str, str | None]) -> bool:
    """Whether what reached `users` leads over two spans of `orders` to the browser's, which has no parent."""
    span: str | None = "0x" + user["traceparent"].split("-")[2]
    for _ in ("client in orders", "server in orders", "browser"):
        if span is None or span not in parents:
            return False
        span = parents[span]
    return span is None


def main() -> int:
    exporter = traced()
    with running_etcd() as etcd, ExitStack() as stack:
        fleet = Fleet(etcd, stack)
        old_way = fleet.start("users.py", P2PLB_REGISTER="0")
        first, second, third = (fleet.start("users.py") for _ in range(3))
        until(lambda: fleet.ports("users") == {first.port, second.port, third.port})

        old = {"USERS_URL": f"http://127.0.0.1:{old_way.port}"}
        migration = Migration(fleet, old_way.port)
        migration.take(
            [
                Step("plain httpx", "before:app", old),
                Step("share 0.05", "orders:app", old | {"USERS_SHARE": "0.05"}, calls=200),
                Step("share 0.5", "orders:app", old | {"USERS_SHARE": "0.5"}, trouble=first.kill),
                Step("share 1", "orders:app", old, trouble=second.drain),
                Step("bypass", "orders:app", old | {"P2PLB_BYPASS": "users"}),
                Step("no fallback", "orders:app", {}),
            ]
        )
        fleet.end_orders()
        exported = [span.to_json() for span in exporter.get_finished_spans()]
        family = parents(exported + fleet.spans.read_text().splitlines())
        whole = sum(is_whole(user, family) for user in migration.answers)
        print(f"traces: {whole} of {len(migration.answers)} whole")
        return int(migration.failed > 0 or whole < len(migration.answers))


if __name__ == "__main__":
    sys.exit(main())
