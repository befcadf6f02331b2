"""Simulated instances: how long the work of a call takes where it was sent.

`Queue` takes calls in the order of arrival, as many at a time as it has workers. `Shared` works at all of them at once,
as a machine with several processors does that it shares with others. Both know nothing of strategies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from typing import Protocol

from integration.simulate.world import World
from p2plb.balancing.call import Fault, Outcome
from p2plb.serving.meter import LoadMeter

Answer = Callable[[Outcome], object]
Begun = tuple[int, float]

OK = 200
REFUSED = Outcome(error=ConnectionRefusedError("simulated"), fault=Fault.NEVER_SENT)
LOST = Outcome(error=ConnectionResetError("simulated"), fault=Fault.MAYBE_PROCESSED)


@dataclass(frozen=True, slots=True)
class Job:
    """What a call asks for: `work` in seconds of a machine of speed 1, and the key that it carries."""

    number: int
    work: float
    key: object = None


class Server(Protocol):
    """What stands at an instance's address."""

    served: int

    def serve(self, job: Job, answer: Answer) -> None:
        """Take a job in and call `answer` at the head of its answer, or with an error.

        The `response` of the outcome is for how many seconds the body lasts then, None for not at all.
        """

    def wait(self, job: Job) -> float:
        """Return the seconds after which the job would be done if it came now."""


def answered(meter: LoadMeter, begun: Begun) -> Outcome:
    """Return a good answer with its report, and count the request out."""
    meter.answered(begun, OK)
    report = meter.report()
    meter.end()
    return Outcome(OK, report=report)


class Queue:
    """An instance with `workers` that take one call each, first come first served."""

    def __init__(self, world: World, *, workers: int = 1, speed: float = 1.0) -> None:
        self.up = True
        self.speed = speed
        self.served = 0
        self._world = world
        self._free = [0.0] * workers
        self._used = 0.0
        self._meter = LoadMeter(world.clock, lambda: self._used)
        self._in_work: dict[Job, Answer] = {}

    def serve(self, job: Job, answer: Answer) -> None:
        """Take a job in; a worker is busy with it for `job.work / speed`."""
        if not self.up:
            self._world.after(0.0, lambda: answer(REFUSED))
            return
        begun = self._meter.begin()
        done = max(self._world.now, self._free[0]) + job.work / self.speed
        heapreplace(self._free, done)
        self._in_work[job] = answer
        self._world.at(done, lambda: self._done(job, begun))

    def wait(self, job: Job) -> float:
        """Return the seconds until a job that came now would be done."""
        return max(0.0, self._free[0] - self._world.now) + job.work / self.speed if self.up else float("inf")

    def kill(self) -> None:
        """Lose what is in work and refuse what comes."""
        self.up = False
        lost, self._in_work = self._in_work, {}
        for answer in lost.values():
            answer(LOST)

    def start(self) -> None:
        """Come back, with nothing to do."""
        self.up = True
        self._free = [self._world.now] * len(self._free)
        self._meter = LoadMeter(self._world.clock, lambda: self._used)

    def _done(self, job: Job, begun: Begun) -> None:
        answer = self._in_work.pop(job, None)
        if answer is not None:
            self.served += 1
            self._used += job.work / self.speed
            answer(answered(self._meter, begun))


class Shared:
    """An instance that works at all its calls at once: each has up to one processor, all together `capacity`.

    `capacity` changes while calls are in work, as neighbours on the machine come and go. Each call's end is kept in
    units of attained service, which all calls gain at the same rate (processor sharing).
    """

    def __init__(self, world: World, *, capacity: float) -> None:
        self.served = 0
        self._world = world
        self._capacity = capacity
        self._attained = 0.0
        self._since = 0.0
        self._ends: list[tuple[float, int, Begun, Answer]] = []
        self._used = 0.0
        self._meter = LoadMeter(world.clock, lambda: self._used)
        self._planned = 0

    def serve(self, job: Job, answer: Answer) -> None:
        """Take a job in."""
        self._advance()
        heappush(self._ends, (self._attained + job.work, job.number, self._meter.begin(), answer))
        self._plan()

    def wait(self, job: Job) -> float:
        """Return the seconds that a job would take if nothing changed any more."""
        return job.work / min(1.0, self._capacity / (len(self._ends) + 1))

    def share(self, capacity: float) -> None:
        """Have another part of the machine from now on."""
        self._advance()
        self._capacity = capacity
        self._plan()

    def _rate(self) -> float:
        return min(1.0, self._capacity / len(self._ends)) if self._ends else 0.0

    def _advance(self) -> None:
        attained = (self._world.now - self._since) * self._rate()
        self._attained += attained
        self._used += attained * len(self._ends)
        self._since = self._world.now

    def _plan(self) -> None:
        self._planned += 1
        if self._ends:
            plan = self._planned
            seconds = max(0.0, (self._ends[0][0] - self._attained) / self._rate())
            self._world.after(seconds, lambda: self._done(plan))

    def _done(self, plan: int) -> None:
        if plan != self._planned:
            return  # something has changed since; another end is planned
        self._advance()
        _, _, begun, answer = heappop(self._ends)
        self.served += 1
        self._plan()
        answer(answered(self._meter, begun))
