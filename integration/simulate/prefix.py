"""Replicas of a language model that keep the beginnings of conversations, and stream their answers.

A turn of a conversation whose earlier turns a replica still has in its cache begins soon; elsewhere all of it is read
first. A replica streams a bounded number of answers at a time, so a call has two times: to the first token, which is
what the user waits for and what the client measures, and the stream after it, which is what occupies the replica.
"""

import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from heapq import heapreplace

from integration.simulate.contenders import Maker
from integration.simulate.report import Cell, table
from integration.simulate.servers import OK, Answer, Job
from integration.simulate.setting import Setting, play
from integration.simulate.world import World
from p2plb.balancing.call import Outcome

READ_ALL = 1.2
"""Seconds to read a conversation that is not in the cache."""
READ_LAST = 0.1
STREAM = 3.0
"""Mean seconds of the stream."""
AT_A_TIME = 8
KEPT = 60
"""How many conversations a replica keeps."""
CONVERSATIONS = 400
"""How many are under way at a time; each has ten turns on the average, then another begins."""


class Replica:
    """A replica with a cache of conversations and a bounded number of streams at a time."""

    def __init__(self, world: World) -> None:
        self.served = 0
        self.hits = 0
        self._world = world
        self._free = [0.0] * AT_A_TIME
        self._cache = OrderedDict[object, None]()

    def serve(self, job: Job, answer: Answer) -> None:
        """Take a turn in; the answer begins once there is room and the conversation is read."""
        reading = self._read(job.key)
        head = max(self._world.now, self._free[0]) + reading
        heapreplace(self._free, head + job.work)
        self.served += 1
        self._world.at(head, lambda: answer(Outcome(OK, response=job.work)))

    def wait(self, job: Job) -> float:
        """Return the seconds to the first token if a turn came now."""
        reading = READ_LAST if job.key in self._cache else READ_ALL
        return max(0.0, self._free[0] - self._world.now) + reading

    def _read(self, conversation: object) -> float:
        hit = conversation in self._cache
        self._cache[conversation] = None
        self._cache.move_to_end(conversation)
        if len(self._cache) > KEPT:
            self._cache.popitem(last=False)
        self.hits += hit
        return READ_LAST if hit else READ_ALL


def turns(setting: Setting) -> Iterator[tuple[float, Job]]:
    """Yield the turns of conversations, each a call with the conversation as its key."""
    rng, now = random.Random(setting.seed), 0.0
    open_ones, begun = list(range(CONVERSATIONS)), CONVERSATIONS
    for number in range(setting.calls):
        now += rng.expovariate(setting.rate)
        at = rng.randrange(CONVERSATIONS)
        if rng.random() < 0.1:
            open_ones[at], begun = begun, begun + 1
        yield now, Job(number, setting.mean * setting.work(rng), f"conversation {open_ones[at]}")


SETTING = Setting(
    clients=2, size=10, power=AT_A_TIME, mean=STREAM, load=0.7, calls=20_000, server=Replica, arrivals=turns
)


def report(makers: Mapping[str, Maker], **changes: int) -> str:
    """Return the table: hits of the cache and times to the first token."""
    rows = {name: row(replace(SETTING, **changes), maker) for name, maker in makers.items()}  # type: ignore[arg-type]  # whole numbers, by name
    columns = ("hit rate", "p50 s", "p99 s", "p99.9 s", "max/mean load")
    return table("prefix: replicas of a language model; hits of the cache, seconds to the first token", rows, columns)


def row(setting: Setting, maker: Maker) -> list[Cell]:
    """Return the figures of one strategy."""
    result = play(setting, maker)
    hits = sum(server.hits for server in result.servers.values()) / setting.calls
    return [hits, *(result.quantile(part) for part in (0.5, 0.99, 0.999)), result.unevenness()]
