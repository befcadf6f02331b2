"""What a call waits for before it is sent: the first view of its service, and a slot under the client's limits."""

import pytest

from p2plb.balancing.attempts import Wait, attempts
from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Ending, Fault
from p2plb.balancing.retry import Retry
from p2plb.balancing.slots import Slots
from tests.fakes import OK, RESET, UNAVAILABLE, Driver, Script, balancer_of, first_fit, node_of, snapshot

ALL_OK: Script = {"a": OK, "b": OK, "c": OK}


# --- nobody there ------------------------------------------------------------------------------------------------


def test_empty_view_fails_at_once() -> None:
    """F21: once the registry has answered that there is nobody, a call does not wait."""
    driver = Driver(balancer_of(), {})
    call = driver.run()
    assert driver.steps == []
    assert call.give_up is not None
    assert call.give_up.ending is Ending.NO_INSTANCES


def test_cold_start_is_one_wait() -> None:
    """F28: calls that come during the cold start share one wait; after it calls fail at once, until a view comes."""
    driver = Driver(Balancer("users", first_fit, start_timeout=3.0), ALL_OK)
    balancer, clock = driver.balancer, driver.clock
    early = attempts(balancer, driver.call(), Retry(), clock)
    first = next(early)
    clock.now += 2.0
    late = Driver(balancer, ALL_OK, clock)
    call = late.run()
    assert isinstance(first, Wait)
    assert first.seconds == 3.0
    assert late.steps == ["wait 1"]
    assert call.give_up is not None
    assert next(early, None) is None
    at_once = Driver(balancer, ALL_OK, clock)
    assert at_once.run().give_up is not None
    assert at_once.steps == []
    balancer.update(snapshot("a"))
    at_once.run().release()
    assert at_once.steps == ["a"]


def test_answered_meanwhile() -> None:
    """F28: the first view ends the wait."""
    balancer = Balancer("users", first_fit)
    driver = Driver(balancer, ALL_OK, on_wait=lambda _step: balancer.update(snapshot("a")))
    driver.run().release()
    assert driver.steps == ["wait 3", "a"]


def test_cold_start_within_the_deadline() -> None:
    """The wait for the first view is no longer than the call's own time."""
    driver = Driver(Balancer("users", first_fit), ALL_OK)
    driver.run(driver.call(timeout=0.5))
    assert driver.steps == ["wait 0.5"]


def test_all_leave_in_mid_call() -> None:
    """A call whose nodes leave while it is tried keeps its last real error and no claim."""
    driver = Driver(balancer_of("a", "b"), {"a": RESET})
    driver.on_send = lambda _node: driver.balancer.update(snapshot(revision=2))
    call = driver.run()
    assert driver.sent == ["a"]
    assert call.give_up is None
    assert call.outcome is not None
    assert call.outcome.fault is Fault.MAYBE_PROCESSED
    call.release()


def test_node_leaves_in_mid_call() -> None:
    """F81: the claim on a node that has left is released with the call."""
    driver = Driver(balancer_of("a", "b"), ALL_OK)
    left = node_of(driver.balancer, "a")
    driver.on_send = lambda _node: driver.balancer.update(snapshot("b", revision=2))
    call = driver.run()
    assert driver.steps == ["a"]
    assert (left.retired, left.in_flight) == (True, 1)
    call.release()
    assert left.in_flight == 0


# --- limits ------------------------------------------------------------------------------------------------------


def test_no_slot_no_connection() -> None:
    """A call under limits waits for a slot until the pool timeout; then no node was asked or blamed."""
    slots = Slots(1)
    assert slots.take()
    driver = Driver(balancer_of("a"), ALL_OK)
    call = driver.run(driver.call(slots=slots, pool_timeout=2.0))
    assert driver.steps == ["wait 2"]
    assert call.give_up is not None
    assert call.give_up.ending is Ending.NO_CONNECTION
    call.release()
    assert slots.taken == 1
    assert not driver.balancer.ejections.avoid(driver.clock())


@pytest.mark.parametrize(
    ("pool_timeout", "timeout", "steps"),
    [(5.0, 1.0, ["wait 1"]), (1.0, 5.0, ["wait 1"]), (None, 2.0, ["wait 2"])],
)
def test_slot_wait_is_bounded(pool_timeout: float | None, timeout: float, steps: list[str]) -> None:
    """A wait for a slot ends with the pool timeout or the call's deadline, whichever is first."""
    slots = Slots(1)
    slots.take()
    driver = Driver(balancer_of("a"), ALL_OK)
    driver.run(driver.call(slots=slots, pool_timeout=pool_timeout, timeout=timeout))
    assert driver.steps == steps


def test_slot_comes_back() -> None:
    """A call that waits without a bound goes on when another call ends, and gives its slot back, once."""
    slots = Slots(1)
    slots.take()
    driver = Driver(balancer_of("a"), ALL_OK, on_wait=lambda _step: slots.give_back())
    call = driver.run(driver.call(slots=slots))
    assert driver.steps == ["wait for ever", "a"]
    assert slots.taken == 1
    call.release()
    call.release()
    assert slots.taken == 0


def test_slot_is_snatched() -> None:
    """A woken call that finds its slot taken again waits for the rest of its time, not anew."""
    slots = Slots(1)
    slots.take()
    driver = Driver(balancer_of("a"), ALL_OK)

    def half_the_time(step: Wait) -> None:
        driver.clock.now += 1.0

    driver.on_wait = half_the_time
    driver.run(driver.call(slots=slots, pool_timeout=2.0))
    assert driver.steps == ["wait 2", "wait 1"]


def test_slot_is_kept_between_attempts() -> None:
    """A call keeps its slot while it is retried: it can't lose its place half-way."""
    slots = Slots(1)
    driver = Driver(balancer_of("a", "b"), {"a": UNAVAILABLE, "b": OK})
    taken: list[int] = []
    driver.on_send = lambda _node: taken.append(slots.taken)
    call = driver.run(driver.call(slots=slots))
    assert taken == [1, 1]
    call.release()
    assert slots.taken == 0
