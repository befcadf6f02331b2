"""Where calls go, without time: idle clients, a hot key, and which keys move when an instance joins or leaves."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from integration.simulate.client import record
from integration.simulate.contenders import ORACLE, Maker, is_keyed
from integration.simulate.report import Cell, table
from integration.simulate.world import World, seeded
from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Picker, Strategy

SERVICE = "users"
HOT = 40
IN_FLIGHT = 320


def nodes(count: int) -> list[Node]:
    """Return fresh nodes."""
    return [Node(record(number)) for number in range(count)]


def idle(made: Strategy, *, size: int = 10, cycles: int = 1000) -> float:
    """Return the most calls of a node over the mean, if each call ends before the next begins and has its own key."""
    pick, found = made(nodes(size)), Counter[str]()
    for number in range(size * cycles):
        found[pick(Call(SERVICE, key=number)).id] += 1
    return unevenness(found, size)


def unevenness(found: Counter[str], size: int) -> float:
    """Return the greatest count over the mean of all."""
    return max(found.values()) * size / found.total()


@dataclass(frozen=True)
class Hot:
    """Load under a hot key: the busiest node over the mean, in calls, and at worst in calls that are in flight."""

    calls: float
    in_flight: float


def hot_key(made: Strategy, *, size: int = 10, calls: int = 20_000) -> Hot:
    """Return the load with a hundred keys, one of them forty times as frequent, 320 calls in flight at a time."""
    rng, some = random.Random(1), nodes(size)
    pick, found, worst = made(some), Counter[str](), 0.0
    open_calls: list[Call] = []
    for _ in range(calls):
        call = Call(SERVICE, key=max(0, rng.randrange(99 + HOT) - HOT + 1))
        node = pick(call)
        call.hold(node, node.claim())
        found[node.id] += 1
        open_calls.append(call)
        if len(open_calls) == IN_FLIGHT:
            worst = max(worst, max(one.in_flight for one in some) * size / IN_FLIGHT)
            open_calls.pop(rng.randrange(IN_FLIGHT)).release()
    for call in open_calls:
        call.release()
    return Hot(unevenness(found, size), worst)


@dataclass(frozen=True)
class Moved:
    """How many keys moved when an instance left or joined, over those that were or became its own."""

    leave: float
    join: float


def moved(made: Strategy, *, size: int = 100, keys: int = 10_000, times: int = 8) -> Moved:
    """Return what moves, as the mean of some nodes that leave and some that join."""
    some, left, joined = nodes(size + times), Counter[bool](), Counter[bool]()
    for number in range(times):
        leaver, newcomer = some[number * size // times], some[size + number]
        before = owners(made(some[:size]), keys)  # anew: a strategy may remember what it has done with a key
        after = owners(made([one for one in some[:size] if one is not leaver]), keys)
        left.update(old == leaver.id for old, new in zip(before, after, strict=True) if old != new)
        before = owners(made(some[:size]), keys)
        after = owners(made([*some[:size], newcomer]), keys)
        joined.update(new == newcomer.id for old, new in zip(before, after, strict=True) if old != new)
    return Moved(left.total() / max(1, left[True]), joined.total() / max(1, joined[True]))


def heirs(made: Strategy, *, size: int = 10, keys: int = 20_000) -> float:
    """Return the keys that the busiest heir of a node takes over when it leaves, over the mean of all heirs."""
    some = nodes(size)
    before, after = owners(made(some), keys), owners(made(some[1:]), keys)
    return unevenness(Counter(new for old, new in zip(before, after, strict=True) if old != new), size - 1)


def owners(pick: Picker, keys: int) -> list[str]:
    """Return who is picked for each key."""
    return [pick(Call(SERVICE, key=f"key {number}")).id for number in range(keys)]


def report_idle(makers: Mapping[str, Maker], **_changes: int) -> str:
    """Return the table of idle clients and of the hot key."""
    rows: dict[str, Sequence[Cell]] = {}
    for name, made in strategies(makers).items():
        with seeded(1):
            hot = hot_key(made)
            rows[name] = [idle(made), hot.calls, hot.in_flight]
    columns = ("idle: max/mean calls", "hot key: max/mean calls", "worst max/mean in flight")
    return table(f"placement: ten instances; one of 100 keys is {HOT} times as frequent as the others", rows, columns)


def report_moved(makers: Mapping[str, Maker], **_changes: int) -> str:
    """Return the table of keys that move."""
    rows: dict[str, Sequence[Cell]] = {}
    for name, made in strategies(makers).items():
        if is_keyed(made):
            found = moved(made)
            rows[name] = [found.leave, found.join, heirs(made)]
    columns = ("leave: moved/least possible", "join: moved/least possible", "max/mean of the heirs of one of 10")
    return table("moved: keys that move when one of 100 instances leaves, or one joins", rows, columns)


def strategies(makers: Mapping[str, Maker]) -> dict[str, Strategy]:
    """Return the strategies of the contenders that need no time, all but the oracle."""
    return {name: maker(World(), {}, "") for name, maker in makers.items() if name != ORACLE}


REPORTS: dict[str, Callable[..., str]] = {"placement": report_idle, "moved": report_moved}
