"""One simulated situation: who calls whom how often, what is wrong, and what came of it for one strategy.

The calls, their work and their keys are the same for each strategy in the table.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integration.simulate.client import Client, Done, Log, record
from integration.simulate.contenders import Maker
from integration.simulate.servers import Job, Queue, Server
from integration.simulate.world import World, seeded
from p2plb.instance import Instance

Draw = Callable[[random.Random], float]
Arrivals = Iterator[tuple[float, Job]]


def exponential(rng: random.Random) -> float:
    """Draw a service time of mean 1, as of many small and few large requests."""
    return rng.expovariate(1.0)


def heavy(rng: random.Random) -> float:
    """Draw a service time of mean 1 of which one in a hundred is about ten times the mean (lognormal, sigma 1.2)."""
    return rng.lognormvariate(-0.72, 1.2)


def steady(rng: random.Random) -> float:
    """Draw a service time between 0.8 and 1.2."""
    return rng.uniform(0.8, 1.2)


def poisson(setting: "Setting") -> Arrivals:
    """Yield calls at independent moments, each with a key of its own."""
    rng, now = random.Random(setting.seed), 0.0
    for number in range(setting.calls):
        now += rng.expovariate(setting.rate)
        yield now, Job(number, setting.mean * setting.work(rng), rng.getrandbits(60))


def bursts(setting: "Setting") -> Arrivals:
    """Yield the same calls, three times as dense for a tenth of each second and thinner else."""
    moment = 0.0
    before = 0.0
    for now, job in poisson(setting):
        moment += (now - before) / (3.0 if moment % 1.0 < 0.1 else 0.7 / 0.9)  # 0.1 · 3 + 0.9 · 0.78 = 1
        before = now
        yield moment, job


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Clients that send calls at random moments (Poisson) to instances; times in seconds.

    `load` is the part of the instances' power that the work takes, `power` what one instance does in a second, and
    `arrivals` yields the calls with their moments. `script` makes things happen on the stage.
    """

    clients: int = 10
    size: int = 10
    power: float = 1.0
    load: float = 0.6
    mean: float = 0.010
    work: Draw = exponential
    calls: int = 100_000
    warm: float = 0.1
    arrivals: Callable[["Setting"], Arrivals] = poisson
    seed: int = 1
    script: Callable[["Stage"], None] = lambda _stage: None
    server: Callable[[World], Server] = Queue
    zones: Sequence[str] = ("",)

    @property
    def rate(self) -> float:
        """Calls in a second, of all clients."""
        return self.load * self.size * self.power / self.mean

    @property
    def seconds(self) -> float:
        """How long the clients send."""
        return self.calls / self.rate


@dataclass
class Stage:
    """What a script may touch while the calls go on."""

    setting: Setting
    world: World
    servers: dict[str, Any]
    clients: list[Client]
    records: list[Instance]
    log: Log

    def publish(self) -> None:
        """Tell the clients who is alive, one after the other within 10 ms, as a watch does."""
        seen = tuple(self.records)
        for client in self.clients:
            self.world.after(self.world.rng.uniform(0.0, 0.01), lambda client=client: client.see(seen))  # type: ignore[misc]  # defaults of lambdas

    def join(self, record: Instance) -> Any:
        """Let one instance more appear, and return its server."""
        made = self.servers[record.id] = self.setting.server(self.world)
        self.records.append(record)
        self.publish()
        return made

    def leave(self, record: Instance) -> None:
        """Take one instance out of the registry; it goes on serving."""
        self.records.remove(record)
        self.publish()


@dataclass(frozen=True)
class Result:
    """The figures of one strategy in one setting."""

    log: Log
    counted: list[Done]
    servers: Mapping[str, Any]

    def quantile(self, part: float) -> float:
        """Return the seconds within which this part of the calls was answered."""
        ordered = sorted(one.seconds for one in self.counted)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)]

    def shares(self) -> Counter[str]:
        """Return how many calls each instance answered."""
        return Counter(one.server for one in self.counted)

    def unevenness(self) -> float:
        """Return the load of the busiest instance over the mean."""
        found = self.shares()
        return max(found.values()) * len(found) / found.total()


def play(setting: Setting, maker: Maker) -> Result:
    """Let a strategy live through a setting."""
    with seeded(setting.seed):
        stage = build(setting, maker)
        setting.script(stage)
        start_all(stage, setting.arrivals(setting))
        stage.world.run()
    start = setting.warm * setting.seconds
    return Result(stage.log, [one for one in stage.log.done if one.start >= start], stage.servers)


def build(setting: Setting, maker: Maker) -> Stage:
    """Return the stage at the beginning: all instances up and known to all clients, zones dealt out in turn."""
    world, log, zones = World(setting.seed), Log(), setting.zones
    records = [record(number, zone=zones[number % len(zones)]) for number in range(setting.size)]
    servers = {one.id: setting.server(world) for one in records}
    clients = []
    for number in range(setting.clients):
        zone = zones[number % len(zones)]
        clients.append(Client(world, servers, maker(world, servers, zone), log, zone))
        clients[-1].see(records)
    return Stage(setting, world, servers, clients, records, log)


def start_all(stage: Stage, jobs: Arrivals) -> None:
    """Let the calls begin, each at its moment, from one client or another."""
    world, clients, rng = stage.world, stage.clients, random.Random(stage.setting.seed)

    def send(job: Job) -> None:
        following()
        rng.choice(clients).call(job)

    def following() -> None:
        planned = next(jobs, None)
        if planned is not None:
            moment, job = planned
            world.at(moment, lambda: send(job))

    following()
