"""A simulated client: p2plb's real balancer and its real steps of a call, carried out in virtual time.

What an httpx transport does with sockets is done here with events; all that decides is p2plb's own.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from integration.simulate.servers import Job, Server
from integration.simulate.world import World
from p2plb.balancing.attempts import Send, Sleep, Step, attempts
from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Call, Outcome
from p2plb.balancing.retry import Retry
from p2plb.balancing.view import Strategy
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance

SERVICE = "users"
RETRY = Retry()


class Done(NamedTuple):
    """A call that was answered: when it began, the seconds until the head of its answer, by whom, and from where."""

    start: float
    seconds: float
    server: str
    zone: str


@dataclass(slots=True)
class Log:
    """What came of the calls: those that were answered, and how many failed."""

    done: list[Done] = field(default_factory=list)
    failed: int = 0


class Client:
    """One process that calls a service."""

    def __init__(
        self, world: World, servers: Mapping[str, Server], strategy: Strategy, log: Log, zone: str = ""
    ) -> None:
        self.world = world
        self.servers = servers
        self.log = log
        self.zone = zone
        self.balancer = Balancer(SERVICE, strategy, rng=random.Random(world.rng.random()))
        self._revision = 0

    def see(self, instances: Sequence[Instance]) -> None:
        """Learn who is alive, as from a registry."""
        self._revision += 1
        self.balancer.update(Snapshot(SERVICE, tuple(instances), self._revision))

    def call(self, job: Job) -> None:
        """Begin a call."""
        Flow(self, job).go()


class Flow:
    """One call on its way: carries out one step after the other as time passes."""

    __slots__ = ("_call", "_client", "_job", "_server", "_steps")

    def __init__(self, client: Client, job: Job) -> None:
        self._client, self._job, self._server = client, job, ""
        self._call = Call(SERVICE, job, key=job.key, started=client.world.now)
        self._steps: Iterator[Step] = attempts(client.balancer, self._call, RETRY, client.world.clock)

    def go(self) -> None:
        """Carry out the next step, or end."""
        step = next(self._steps, None)
        if isinstance(step, Send):
            self._server = step.node.id
            self._client.servers[self._server].serve(self._job, self._answered)
        elif isinstance(step, Sleep):
            self._call.outcome = None
            self._client.world.after(step.seconds, self.go)
        else:
            self._end()

    def _answered(self, outcome: Outcome) -> None:
        self._call.outcome = outcome
        self.go()

    def _end(self) -> None:
        call, client, outcome = self._call, self._client, self._call.outcome
        if outcome is None or outcome.status is None:
            client.log.failed += 1
            call.release()
            return
        now = client.world.now
        client.log.done.append(Done(call.started, now - call.started, self._server, client.zone))
        if outcome.response is None:
            call.release()
        else:
            client.world.after(outcome.response, call.release)


def record(number: int, **fields: object) -> Instance:
    """Return the record of one instance."""
    url = f"http://10.0.{number // 250}.{number % 250 + 1}:80"
    return Instance(f"i{number:03}", SERVICE, url, **fields)  # type: ignore[arg-type]  # fields of the record, by name
