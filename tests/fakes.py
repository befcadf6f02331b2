"""Builders for tests of the data plane: instances, nodes, balancers, and a driver in virtual time.

The driver carries out the steps of `attempts` against a script that says what each node answers. Nothing here sleeps.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from p2plb.balancing.attempts import Send, Sleep, Wait, attempts
from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Call, Fault, Outcome
from p2plb.balancing.node import Node
from p2plb.balancing.retry import Retry
from p2plb.balancing.view import Picker, Strategy
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def instance(id: str, service: str = "users", **fields: Any) -> Instance:  # noqa: A002  the word of the record
    """Return an instance; its address is made from its id."""
    return Instance(id, service, **{"url": f"http://{id}.example:80", **fields})


def nodes(*ids: str, **fields: Any) -> list[Node]:
    """Return a node for each id."""
    return [Node(instance(one, **fields)) for one in ids]


def many(count: int, **fields: Any) -> list[Node]:
    """Return `count` nodes."""
    return nodes(*(f"n{number:04}" for number in range(count)), **fields)


def snapshot(*instances: Instance | str, service: str = "users", revision: int = 1) -> Snapshot:
    """Return a snapshot of instances, given by id or as they are."""
    made = [instance(one, service) if isinstance(one, str) else one for one in instances]
    return Snapshot(service, tuple(sorted(made, key=lambda one: one.id)), revision)


def first_fit(nodes: Sequence[Node]) -> Picker:
    """Pick the first node, by id, that is not to be avoided: a strategy that a test can foretell."""
    return lambda call: next((node for node in nodes if node not in call.avoid), nodes[0])


def balancer_of(*instances: Instance | str, strategy: Strategy = first_fit, **options: Any) -> Balancer:
    """Return a balancer with these instances in force."""
    made = Balancer("users", strategy, **options)
    made.update(snapshot(*instances))
    return made


def node_of(balancer: Balancer, id: str) -> Node:  # noqa: A002  the word of the record
    """Return the node with this id in the view in force."""
    assert balancer.view is not None
    return next(node for node in balancer.view.nodes if node.id == id)


class Answer:
    """The head of an answer, with a body that somebody has to dispose of."""

    disposed = False


@dataclass(frozen=True)
class Scripted:
    """What a node does with one request, and how long that takes."""

    status: int | None = None
    fault: Fault | None = None
    seconds: float = 0.01
    reused: bool = False
    timed_out: bool = False
    retry_after: float | None = None

    def outcome(self) -> Outcome:
        """Return what the driver makes of it."""
        if self.status is not None:
            return Outcome(self.status, Answer(), reused=self.reused, retry_after=self.retry_after)
        return Outcome(error=OSError("scripted"), fault=self.fault, timed_out=self.timed_out, reused=self.reused)


OK = Scripted(200)
REFUSED = Scripted(fault=Fault.NEVER_SENT)
NOT_PROCESSED = Scripted(fault=Fault.NEVER_PROCESSED)
RESET = Scripted(fault=Fault.MAYBE_PROCESSED)
STALE = Scripted(fault=Fault.MAYBE_PROCESSED, reused=True)
TIMED_OUT = Scripted(fault=Fault.MAYBE_PROCESSED, seconds=5.0, timed_out=True, reused=True)
LOCAL = Scripted(fault=Fault.LOCAL)
MISDIRECTED = Scripted(421)
UNAVAILABLE = Scripted(503)

Script = Mapping[str, Scripted | Sequence[Scripted]]
DEFAULT_RETRY = Retry()
MAX_STEPS = 60


@dataclass
class Driver:
    """Carries steps out in virtual time and writes them down.

    `steps` has for each Send the node's id (with "!" if fresh), for each Sleep its seconds, for each Wait a string.
    Each node answers by its script; the last line of it is repeated. `on_wait` plays the other threads; without it a
    wait ends with its time.
    """

    balancer: Balancer
    script: Script
    clock: Clock = field(default_factory=Clock)
    on_wait: Callable[[Wait], object] | None = None
    on_send: Callable[[Node], object] = lambda _node: None
    steps: list[str | float] = field(default_factory=list)
    unwanted: list[Answer] = field(default_factory=list)
    _asked: dict[str, int] = field(default_factory=dict)

    def call(self, **options: Any) -> Call:
        """Return a call that starts now."""
        return Call("users", started=self.clock(), **options)

    def run(self, call: Call | None = None, retry: Retry | None = DEFAULT_RETRY) -> Call:
        """Take a call to its end; what it still holds is for the caller to release."""
        call = self.call() if call is None else call
        for step in attempts(self.balancer, call, retry, self.clock):
            assert len(self.steps) < MAX_STEPS, f"no end to it: {self.steps[-8:]}"
            self._dispose(call)
            match step:
                case Send():
                    self._send(step, call)
                case Sleep():
                    self.steps.append(round(step.seconds, 6))
                    self.clock.now += step.seconds
                case Wait():
                    self._wait(step)
        return call

    @property
    def sent(self) -> list[str | float]:
        """The steps without sleeps of 0 s."""
        return [step for step in self.steps if step != 0.0]

    def _dispose(self, call: Call) -> None:
        if call.outcome is not None and call.outcome.response is not None:
            assert not in_flight(self.balancer), "an answer is disposed of before the next node is claimed"
            call.outcome.response.disposed = True
            call.outcome = None

    def _send(self, step: Send, call: Call) -> None:
        node = step.node
        assert node.in_flight, "a call is counted while it is sent"
        self.steps.append(f"{node.id}!" if step.fresh else node.id)
        self.on_send(node)
        answer = self._answer(node.id)
        self.clock.now += answer.seconds
        call.outcome = answer.outcome()
        if call.outcome.response is not None:
            self.unwanted.append(call.outcome.response)

    def _answer(self, id: str) -> Scripted:  # noqa: A002  the word of the record
        script = self.script[id]
        lines = [script] if isinstance(script, Scripted) else script
        number = self._asked.get(id, 0)
        self._asked[id] = number + 1
        return lines[min(number, len(lines) - 1)]

    def _wait(self, step: Wait) -> None:
        self.steps.append("wait for ever" if step.seconds is None else f"wait {step.seconds:g}")
        if self.on_wait is not None:
            self.on_wait(step)
        else:
            assert step.seconds is not None, "nobody would wake this call"
            self.clock.now += step.seconds


def in_flight(balancer: Balancer) -> int:
    """Return how many calls are in flight on all nodes."""
    return sum(node.in_flight for node in balancer.view.nodes) if balancer.view is not None else 0


@contextmanager
def hurried_threads() -> Iterator[None]:
    """Have threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
