"""How one call goes on, told as data: what each node answers, and the exact steps that follow."""

from typing import Any

import pytest

from p2plb.balancing.attempts import Send, attempts
from p2plb.balancing.call import Call, Fault, Outcome
from p2plb.balancing.retry import Retry
from p2plb.balancing.slots import Slots
from p2plb.observe.events import AttemptEnded, AttemptStarted, Event
from tests.fakes import (
    LOCAL,
    MISDIRECTED,
    NOT_PROCESSED,
    OK,
    REFUSED,
    RESET,
    STALE,
    TIMED_OUT,
    UNAVAILABLE,
    Clock,
    Driver,
    Script,
    Scripted,
    balancer_of,
    in_flight,
    node_of,
)

ALL_OK: Script = {"a": OK, "b": OK, "c": OK}
GET: dict[str, Any] = {}
POST: dict[str, Any] = {"repeatable": False}
GENERATOR: dict[str, Any] = {"replayable": False}
"""Three kinds of request: one that may be repeated, one that must not be processed twice, one that can't be resent."""


def drive(script: Script, kind: dict[str, Any], retry: Retry | None = Retry()) -> Driver:  # noqa: B008  it is frozen
    """Run one call over the nodes of a script, and check that it leaves no claim behind."""
    driver = Driver(balancer_of(*script), script)
    call = driver.run(driver.call(**kind), retry)
    assert all(answer.disposed for answer in driver.unwanted[:-1]), "each answer that is not the last is disposed of"
    call.release()
    assert in_flight(driver.balancer) == 0
    return driver


def test_one_send() -> None:
    """An answer at once: one step, held until its body is closed."""
    driver = Driver(balancer_of("a"), ALL_OK)
    call = driver.run()
    assert driver.steps == ["a"]
    assert call.outcome is not None
    assert call.outcome.status == 200
    assert not call.outcome.response.disposed
    assert in_flight(driver.balancer) == 1
    call.release()
    call.release()
    assert in_flight(driver.balancer) == 0


@pytest.mark.parametrize(
    ("kind", "script", "steps"),
    [
        # Never sent: on to each other node once, whatever the method.
        (GET, {"a": REFUSED, "b": OK}, ["a", "b"]),
        (POST, {"a": REFUSED, "b": OK}, ["a", "b"]),
        (GENERATOR, {"a": REFUSED, "b": OK}, ["a", "b"]),
        (POST, {"a": REFUSED, "b": REFUSED, "c": REFUSED}, ["a", "b", "c"]),
        (POST, dict.fromkeys("abcdefgh", REFUSED), list("abcdefgh")),
        # Never processed: the same, if the body can be sent again.
        (POST, {"a": NOT_PROCESSED, "b": OK}, ["a", "b"]),
        (POST, {"a": MISDIRECTED, "b": OK}, ["a", "b"]),
        (POST, {"a": MISDIRECTED, "b": MISDIRECTED}, ["a", "b"]),
        (GENERATOR, {"a": NOT_PROCESSED, "b": OK}, ["a"]),
        (GENERATOR, {"a": MISDIRECTED, "b": OK}, ["a"]),
        # Maybe processed: only what may be repeated and can be.
        (GET, {"a": RESET, "b": OK}, ["a", "b"]),
        (POST, {"a": RESET, "b": OK}, ["a"]),
        (GENERATOR, {"a": RESET, "b": OK}, ["a"]),
        (GET, {"a": TIMED_OUT, "b": OK}, ["a", "b"]),
        (GET, {"a": UNAVAILABLE, "b": OK}, ["a", "b"]),
        (POST, {"a": UNAVAILABLE, "b": OK}, ["a"]),
        (GENERATOR, {"a": UNAVAILABLE, "b": OK}, ["a"]),
        # Stale: once more on a fresh connection to the same node.
        (GET, {"a": [STALE, OK], "b": OK}, ["a", "a!"]),
        (GET, {"a": STALE, "b": OK}, ["a", "a!", "b"]),
        (POST, {"a": STALE, "b": OK}, ["a"]),
        (GENERATOR, {"a": STALE, "b": OK}, ["a"]),
        # Our own fault, and answers that speak of the request, stand.
        (GET, {"a": LOCAL, "b": OK}, ["a"]),
        (GET, {"a": Scripted(404), "b": OK}, ["a"]),
        (GET, {"a": Scripted(500), "b": OK}, ["a"]),
        # One after the other: refusals do not count as attempts.
        (GET, {"a": REFUSED, "b": RESET, "c": OK}, ["a", "b", "c"]),
        (GET, {"a": RESET, "b": REFUSED, "c": OK}, ["a", "b", "c"]),
    ],
)
def test_which_node_next(kind: dict[str, Any], script: Script, steps: list[str]) -> None:
    """F01, F05, F07, F15, F67, F70: what is sent again, and where to."""
    assert drive(script, kind).sent == steps


def test_attempts_bound() -> None:
    """F69: an idempotent call is sent `attempts` times and then lets the last real error stand."""
    driver = drive({"a": RESET, "b": RESET, "c": RESET, "d": RESET}, GET)
    assert [step for step in driver.steps if isinstance(step, str)] == ["a", "b", "c"]
    again = Driver(driver.balancer, driver.script)
    call = again.run(retry=Retry(attempts=1))
    assert again.steps == ["a"]
    assert call.outcome is not None
    assert call.outcome.fault is Fault.MAYBE_PROCESSED
    assert call.give_up is None
    call.release()


def test_refusals_are_no_attempts() -> None:
    """Nodes that refuse use up no attempt: eight of nine dead, one that resets, and it is still tried three times."""
    script: Script = {**dict.fromkeys("abcdefgh", REFUSED), "i": [RESET, RESET, OK]}
    driver = Driver(balancer_of(*script), script)
    call = driver.run()
    sent = [step for step in driver.steps if isinstance(step, str)]
    assert sent[:9] == list("abcdefghi")
    assert sent.count("i") == 3
    assert call.outcome is not None
    assert call.outcome.status == 200
    call.release()


@pytest.mark.parametrize(
    ("script", "steps"),
    [
        ({"a": RESET, "b": OK}, ["a"]),
        ({"a": STALE, "b": OK}, ["a"]),
        ({"a": UNAVAILABLE, "b": OK}, ["a"]),
        ({"a": REFUSED, "b": OK}, ["a", "b"]),
        ({"a": MISDIRECTED, "b": OK}, ["a", "b"]),
    ],
)
def test_without_retries(script: Script, steps: list[str]) -> None:
    """`retry=None`: a node that has certainly done nothing is still passed over, all else stands."""
    assert drive(script, GET, None).sent == steps


def test_stale_lane_ejects_nobody() -> None:
    """F07: a connection closed under a request says nothing of the node's health; a refusal does."""
    driver = drive({"a": [STALE, OK], "b": OK}, GET)
    assert not driver.balancer.ejections.avoid(driver.clock())
    driver = drive({"a": REFUSED, "b": OK}, GET)
    assert driver.balancer.ejections.avoid(driver.clock()) == {node_of(driver.balancer, "a")}


def test_stale_then_refused() -> None:
    """F01: the server of an idle connection is gone for good: fresh connection refused, on to the next."""
    driver = drive({"a": [STALE, REFUSED], "b": OK}, GET)
    assert driver.sent == ["a", "a!", "b"]
    assert node_of(driver.balancer, "a") in driver.balancer.ejections.avoid(driver.clock())


def test_history() -> None:
    """Each sending is in the history, with its node, reason, time and meaning."""
    driver = Driver(balancer_of("a", "b"), {"a": [STALE, REFUSED], "b": Scripted(200, seconds=0.5, reused=True)})
    call = driver.run()
    found = [(one.instance.id, one.reason, round(one.seconds, 6), one.reused, one.fault) for one in call.history]
    assert found == [
        ("a", "OSError: scripted", 0.01, True, Fault.MAYBE_PROCESSED),
        ("a", "OSError: scripted", 0.01, False, Fault.NEVER_SENT),
        ("b", "200", 0.5, True, None),
    ]
    served = call.served()
    assert (served.service, served.via, served.attempts) == ("users", "peer", tuple(call.history))
    assert served.instance is not None
    assert served.instance.id == "b"
    assert served.maybe_processed
    call.release()


def test_certainly_not_processed() -> None:
    """F05, F70: who got an error can tell whether anything may have been done."""
    driver = Driver(balancer_of("a"), {"a": [REFUSED, RESET]})
    refused, reset = driver.run(driver.call(**POST)), driver.run(driver.call(**POST))
    assert not refused.served().maybe_processed
    assert reset.served().maybe_processed
    assert refused.served().instance is None
    for call in (refused, reset):
        call.release()


# --- what is learnt ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "latency"),
    [
        (OK, 0.01),
        (Scripted(404), 0.01),
        (Scripted(500), None),
        (Scripted(429), None),
        (Scripted(503, retry_after=1.0), None),
        (MISDIRECTED, None),
        (RESET, None),
        (REFUSED, None),
        (TIMED_OUT, None),
        (LOCAL, None),
    ],
)
def test_latency_is_of_answers(answer: Scripted, latency: float | None) -> None:
    """F13: errors, refusals and fast rejections never make a node look fast."""
    driver = drive({"a": answer}, POST, None)
    found = node_of(driver.balancer, "a").latency
    assert found == pytest.approx(latency)


@pytest.mark.parametrize("answer", [RESET, TIMED_OUT, LOCAL, Scripted(500), NOT_PROCESSED])
def test_only_refusals_eject(answer: Scripted) -> None:
    """F87: shortages of our own and failures after the connection stood eject nobody."""
    driver = drive({"a": answer}, POST, None)
    assert not driver.balancer.ejections.avoid(driver.clock())


def test_deadline_blames_nobody() -> None:
    """A connection that the call's own deadline cut short is no refusal."""
    driver = Driver(balancer_of("a", "b"), {"a": Scripted(fault=Fault.NEVER_SENT, seconds=0.5)})
    call = driver.run(driver.call(timeout=0.5))
    assert driver.steps == ["a"]
    assert not driver.balancer.ejections.avoid(driver.clock())
    call.release()


def test_events() -> None:
    """Observers get each sending's beginning and end, with the number of the attempt."""
    seen: list[Event] = []
    driver = Driver(balancer_of("a", "b"), {"a": REFUSED, "b": OK})
    call = driver.run(driver.call(observers=[seen.append]))
    a, b = (node_of(driver.balancer, i).instance for i in "ab")
    refused, answered = call.history
    error = seen[1].error if isinstance(seen[1], AttemptEnded) else None
    assert isinstance(error, OSError)
    assert seen == [
        AttemptStarted("users", a, 1),
        AttemptEnded("users", a, 1, refused.seconds, None, error),
        AttemptStarted("users", b, 1),
        AttemptEnded("users", b, 1, answered.seconds, 200, None),
    ]
    call.release()


# --- cancelled ---------------------------------------------------------------------------------------------------


def cancelled(latency: float | None, after: float) -> Driver:
    """Cancel a call `after` seconds into its sending."""
    driver = Driver(balancer_of("a"), ALL_OK)
    node_of(driver.balancer, "a").health.latency = latency
    call = driver.call(slots=Slots(1))
    steps = attempts(driver.balancer, call, Retry(), driver.clock)
    assert isinstance(next(steps), Send)
    driver.clock.now += after
    call.abandon(driver.clock())
    assert in_flight(driver.balancer) == 0
    assert call.slots is not None
    assert call.slots.taken == 0
    assert [one.reason for one in call.history] == ["cancelled"]
    return driver


@pytest.mark.parametrize(("latency", "after", "rises"), [(None, 3.0, True), (1.0, 3.0, True), (1.0, 0.5, False)])
def test_cancelled_took_at_least_this_long(latency: float | None, after: float, rises: bool) -> None:
    """F63: a cancelled attempt is no failure, but news of a stalled node if it took longer than the mean."""
    driver = cancelled(latency, after)
    node = node_of(driver.balancer, "a")
    assert node.latency is not None
    assert (node.latency > (latency or 0.0)) is rises
    assert not driver.balancer.ejections.avoid(driver.clock())


def test_cancelled_between_attempts() -> None:
    """F64: a call that is cancelled while it pauses or waits says nothing of any node."""
    clock = Clock()
    balancer = balancer_of("a")
    call = Call("users", started=clock())
    steps = attempts(balancer, call, Retry(), clock)
    next(steps)
    call.outcome = Outcome(error=OSError(), fault=Fault.MAYBE_PROCESSED)
    next(steps)
    clock.now += 5.0
    call.abandon(clock())
    assert node_of(balancer, "a").latency is None
    assert len(call.history) == 1
    assert in_flight(balancer) == 0


def test_driver_must_answer() -> None:
    """A driver that forgets to carry a Send out is told so, instead of a call that ends in silence."""
    steps = attempts(balancer_of("a"), Call("users"), Retry(), Clock())
    next(steps)
    with pytest.raises(AssertionError, match="carries each Send out"):
        next(steps)


def test_abandoned_after_its_answer() -> None:
    """F63: what breaks once the answer is there says nothing of the node, and is no attempt."""
    driver = Driver(balancer_of("a"), ALL_OK)
    call = driver.run()
    driver.clock.now += 60.0
    call.abandon(driver.clock())
    assert [one.reason for one in call.history] == ["200"]
    assert node_of(driver.balancer, "a").latency == pytest.approx(0.01)
    assert in_flight(driver.balancer) == 0
