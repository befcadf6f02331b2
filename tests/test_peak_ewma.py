"""Peak EWMA: what calls cost, and who is picked by it, in virtual time."""

import random
from collections import Counter

import pytest

from p2plb.balancing.attempts import Send, attempts
from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.peak import DECAY, FAILURE, Peak, faded
from p2plb.balancing.strategies.peak_ewma import PeakEwma, comparison
from tests.fakes import (
    LOCAL,
    NOT_PROCESSED,
    OK,
    REFUSED,
    RESET,
    STALE,
    TIMED_OUT,
    UNAVAILABLE,
    Clock,
    Driver,
    Scripted,
    balancer_of,
    many,
    node_of,
    nodes,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Each test draws the same numbers, in whichever order they run."""
    random.seed(7)


def seconds(peak: Peak) -> float:
    assert peak.seen is not None
    return peak.seen[0]


# --- the average -------------------------------------------------------------------------------------------------


def test_rises_at_once_and_falls_slowly() -> None:
    """A slower answer is the new average; faster ones pull it down by how long ago the last was."""
    peak = Peak()
    peak.answered(0.1, 0.0)
    peak.answered(1.0, 0.0)
    assert seconds(peak) == 1.0
    peak.answered(0.1, DECAY)
    assert seconds(peak) == pytest.approx(0.1 + 0.9 * 0.3679, rel=1e-3)


def test_a_peak_is_one_by_what_is_left() -> None:
    """What was slow long ago has faded: an answer above what is left of it is the new average."""
    peak = Peak()
    peak.answered(1.0, 0.0)
    peak.answered(0.9, DECAY)
    assert seconds(peak) == 0.9


@pytest.mark.parametrize(("pause", "cost"), [(0.01, 0.011), (1.0, 0.104), (10.0, 0.636), (100.0, 1.0)])
def test_a_fast_failure_blends_in(pause: float, cost: float) -> None:
    """F13: an error that comes fast counts as a call of a second, the more the less else is known of the time."""
    peak = Peak()
    peak.answered(0.01, 0.0)
    peak.failed(0.001, pause)
    assert seconds(peak) == pytest.approx(cost, abs=0.001)


def test_failures_of_the_unknown_and_slow_ones() -> None:
    """A first failure costs a second; one that took longer is a peak as a slow answer is."""
    first, slow = Peak(), Peak()
    first.failed(0.001, 0.0)
    slow.answered(0.01, 0.0)
    slow.failed(5.0, 0.0)
    assert (seconds(first), seconds(slow)) == (FAILURE, 5.0)


@pytest.mark.parametrize(("waited", "later", "cost"), [(0.5, 0.0, 1.0), (0.5, DECAY, 0.5), (2.0, 0.0, 2.0)])
def test_given_up(waited: float, later: float, cost: float) -> None:
    """F63: a call that was given up took at least this long: that counts if it is more than what has not faded."""
    peak = Peak()
    peak.answered(1.0, 0.0)
    peak.at_least(waited, later)
    assert seconds(peak) == cost


def test_one_failure_in_a_hundred_is_little() -> None:
    """With many calls a rare failure adds its share of a second, not a jump."""
    peak = Peak()
    for number in range(10_000):
        now = number / 100
        if number % 100:
            peak.answered(0.01, now)
        else:
            peak.failed(0.001, now)
    assert seconds(peak) == pytest.approx(0.02, abs=0.003)


def test_a_clock_that_goes_back() -> None:
    """F51: samples out of order between threads break nothing."""
    peak = Peak()
    peak.answered(1.0, 10.0)
    peak.answered(0.5, 9.0)
    assert seconds(peak) == 1.0
    assert faded(10.0, 9.0) == 1.0


# --- where samples come from -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "cost"),
    [
        (OK, 0.01),
        (Scripted(404), 0.01),
        (Scripted(500), FAILURE),
        (Scripted(429), FAILURE),
        (UNAVAILABLE, FAILURE),
        (Scripted(503, retry_after=1.0), FAILURE),
        (RESET, FAILURE),
        (TIMED_OUT, 5.0),
        (STALE, None),
        (REFUSED, None),
        (NOT_PROCESSED, None),
        (LOCAL, None),
    ],
)
def test_what_an_attempt_costs(answer: Scripted, cost: float | None) -> None:
    """F13: answers cost their time, failures a second or their time; what says nothing of the node costs nothing."""
    driver = Driver(balancer_of("a"), {"a": answer})
    driver.run(driver.call(repeatable=False), None)
    seen = node_of(driver.balancer, "a").health.peak.seen
    assert (seen and seen[0]) == (cost if cost is None else pytest.approx(cost))


# --- the picks ---------------------------------------------------------------------------------------------------


def known(seconds: float, *, at: float = 1000.0, count: int = 1) -> list[Node]:
    """Return nodes whose calls have cost this much."""
    made = many(count)
    for node in made:
        node.health.peak.answered(seconds, at)
    return made


@pytest.mark.parametrize(
    ("first", "second", "cheaper"),
    [
        ((0.1, 0.0, 0), (0.2, 0.0, 0), False),
        ((0.2, 0.0, 0), (0.1, 0.0, 0), True),
        ((0.1, 0.0, 2), (0.2, 0.0, 0), True),
        ((0.1, 0.0, 1), (0.2, 0.0, 0), False),
        ((0.1, 9.0, 0), (0.2, 0.0, 0), True),
        ((0.1, 0.0, 0), (0.1, 9.0, 0), False),
        ((0.1, 0.0, 0), (9.0, -1e6, 9), True),
        ((9.0, -1e6, 9), (0.1, 0.0, 0), False),
        (None, (0.1, 0.0, 0), False),
        ((0.1, 0.0, 0), None, True),
    ],
)
def test_who_is_cheaper(
    first: tuple[float, float, int] | None, second: tuple[float, float, int] | None, *, cheaper: bool
) -> None:
    """Seconds times calls in flight and the next one; what was long ago has faded; the unknown comes first."""
    some, claims = many(2), []
    for node, state in zip(some, (first, second), strict=True):
        if state is not None:
            node.health.peak.answered(state[0], state[1])
            claims += [node.claim() for _ in range(state[2])]
    assert comparison(some)(0, 1) is cheaper


def test_weight_makes_cheaper() -> None:
    """Of two nodes that cost the same a call to the heavier one counts less."""
    light, heavy = nodes("light")[0], nodes("heavy", weight=2.0)[0]
    for node in (light, heavy):
        node.health.peak.answered(0.1, 0.0)
    claims = [heavy.claim() for _ in range(2)]
    assert comparison([heavy, light])(0, 1)
    claims.pop().release()
    assert not comparison([heavy, light])(0, 1)


def test_the_unknown_gets_one_probe() -> None:
    """A node that has not answered yet is the first to be asked, and the last while it has not answered."""
    new, *others = nodes("new", *"abcdefghi")
    for node in others:
        node.health.peak.answered(0.01, 1000.0)
    pick = PeakEwma(clock=Clock())([new, *others])
    claims = []
    for _ in range(200):
        node = pick(Call("users"))
        claims.append(node.claim())
    assert sum(claim._claims is new._claims for claim in claims) == 1


@pytest.mark.parametrize(("pending", "others", "cheaper"), [(0, 1, False), (1, 0, True), (1, 1, False), (2, 1, True)])
def test_unknown_ones_share(pending: int, others: int, *, cheaper: bool) -> None:
    """While nobody has answered, calls go to those with the fewest in flight."""
    some = many(2)
    claims = [some[0].claim() for _ in range(pending)] + [some[1].claim() for _ in range(others)]
    assert comparison(some)(0, 1) is cheaper
    del claims


def test_an_unknown_one_that_is_busy_waits() -> None:
    """A node that has not answered its first call gets no other while somebody is known."""
    new, (old,) = nodes("new")[0], known(30.0)
    claim = new.claim()
    assert comparison([new, old])(0, 1)
    assert not comparison([old, new])(0, 1)
    claim.release()


@pytest.mark.parametrize("given_up", [0.05, 0.5])
def test_a_stalled_node_whose_calls_are_cancelled(given_up: float) -> None:
    """F63: of ten nodes one is stalled, and callers cancel after a while: it gets next to none of the calls."""
    clock, rng = Clock(), random.Random(3)
    balancer = balancer_of(*(node.id for node in many(10)), strategy=PeakEwma(clock=clock, draw=rng.random), rng=rng)
    found = Counter[str]()
    for _ in range(5000):
        one = Call("users", started=clock())
        steps = attempts(balancer, one, None, clock)
        step = next(steps)
        assert isinstance(step, Send)
        found[step.node.id] += 1
        if step.node.id == "n0000":
            clock.now += given_up
            one.abandon(clock())
        else:
            clock.now += 0.01
            one.outcome = Scripted(200).outcome()
            assert list(steps) == []
            one.release()
    assert found["n0000"] <= 0.03 * 5000


def test_the_slow_one_gets_little() -> None:
    """F08: of ten nodes one answers ten times slower: it gets next to nothing, and is not forgotten."""
    driver, found = play({"n0000": Scripted(200, seconds=0.1)}, calls=20_000, every=0.002)
    assert 2 <= found["n0000"] <= 200
    assert max(found.values()) <= 0.3 * 20_000
    assert driver.clock.now > 1000.0


@pytest.mark.parametrize("answer", [Scripted(500, seconds=0.0005), Scripted(429, seconds=0.0005)])
def test_fast_errors_do_not_attract(answer: Scripted) -> None:
    """F13: an instance that answers each call at once with an error gets less than a tenth of its share."""
    _, found = play({"n0000": answer}, calls=10_000, every=0.002)
    assert found["n0000"] < 100


def play(script: dict[str, Scripted], *, calls: int, every: float) -> tuple[Driver, Counter[str]]:
    """Send calls one after another to ten nodes, 5 ms each but for those of the script, and count who had them."""
    clock, rng = Clock(), random.Random(7)
    strategy = PeakEwma(clock=clock, draw=rng.random)
    balancer = balancer_of(*(node.id for node in many(10)), strategy=strategy, rng=rng)
    answers = {node.id: Scripted(200, seconds=0.005) for node in many(10)} | script
    found = Counter[str]()
    driver = Driver(balancer, answers, clock, on_send=lambda node: found.update([node.id]))
    for _ in range(calls):
        driver.steps.clear()
        driver.run(driver.call(repeatable=False), None).release()
        clock.now += every
    return driver, found


@pytest.mark.parametrize(("neglected", "explored"), [(29.0, 0), (31.0, 1)])
def test_the_neglected_are_explored(neglected: float, explored: int) -> None:
    """A dear node that nobody has picked for half a minute gets one call at a time, whatever it costs."""
    clock = Clock()
    cheap, dear = known(0.001, count=2)
    pick = PeakEwma(clock=clock)([cheap, dear])
    clock.now += neglected
    cheap.health.peak.answered(0.001, clock.now)
    dear.health.peak.answered(60.0, clock.now)
    claims = []
    for _ in range(50):
        node = pick(Call("users"))
        if node is dear:
            claims.append(node.claim())
        clock.now += 0.001
    assert len(claims) == explored


def test_heavy_nodes_get_more() -> None:
    """With equal costs shares follow weights: more turns, and more calls in flight at a time."""
    light, heavy = nodes("light")[0], nodes("heavy", weight=3.0)[0]
    for node in (light, heavy):
        node.health.peak.answered(0.01, 1000.0)
    pick = PeakEwma(clock=Clock())([light, heavy])
    claims = [pick(Call("users")).claim() for _ in range(400)]
    assert heavy.in_flight / light.in_flight == pytest.approx(3.0, rel=0.1)
    del claims


def test_what_is_known_outlives_the_view() -> None:
    """The costs belong to the nodes: a new picker knows what the last one did."""
    cheap, dear = known(0.01, count=2)
    dear.health.peak.answered(1.0, 1000.0)
    for _ in range(3):
        assert PeakEwma(clock=Clock())([cheap, dear])(Call("users")) is cheap


def test_wrong_argument() -> None:
    """What can't be is refused where it is written."""
    with pytest.raises(ValueError, match=r"explore=\) is from 0.1 to 86400, not 0"):
        PeakEwma(explore=0)
