"""When a call is tried again: pauses, `Retry-After`, deadlines, rounds, and what a header may say."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2plb.balancing.call import Call, Fault, Outcome
from p2plb.balancing.retry import Retry
from p2plb.calling.retry_after import LONGEST_HEADER, parse_retry_after
from p2plb.repeatable import may_repeat
from tests.fakes import OK, REFUSED, RESET, UNAVAILABLE, Driver, Scripted, balancer_of, node_of

WALL = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def pause(attempt: int, retry: Retry = Retry(attempts=20), seed: int = 0) -> float | None:  # noqa: B008  it is frozen
    call = Call("users")
    call.attempt = attempt
    outcome = Outcome(error=OSError(), fault=Fault.MAYBE_PROCESSED)
    return retry.pause(call, outcome, others=True, now=0.0, rng=random.Random(seed))


def test_first_retry_at_once() -> None:
    """The first retry goes out at once: most failures are one instance's."""
    assert {pause(1, seed=seed) for seed in range(50)} == {0.0}


@pytest.mark.parametrize(("attempt", "bound"), [(2, 0.05), (3, 0.1), (4, 0.2), (5, 0.25), (19, 0.25)])
def test_full_jitter(attempt: int, bound: float) -> None:
    """F69: later retries wait for a random time from 0 to a bound that doubles up to 250 ms."""
    pauses = [pause(attempt, seed=seed) for seed in range(300)]
    assert all(one is not None and 0.0 <= one <= bound for one in pauses)
    known = [one for one in pauses if one is not None]
    assert min(known) < 0.1 * bound
    assert max(known) > 0.9 * bound


def test_never_more_than_attempts() -> None:
    """F69: the last attempt is followed by none."""
    assert pause(2, Retry(attempts=3)) is not None
    assert pause(3, Retry(attempts=3)) is None
    assert pause(1, Retry(attempts=1)) is None


def test_statuses() -> None:
    """The answers that are retried can be chosen."""
    driver = Driver(balancer_of("a", "b"), {"a": Scripted(500), "b": OK})
    driver.run(retry=Retry(statuses=[500])).release()
    assert driver.sent == ["a", "b"]
    driver = Driver(balancer_of("a", "b"), {"a": UNAVAILABLE, "b": OK})
    driver.run(retry=Retry(statuses=())).release()
    assert driver.sent == ["a"]


# --- Retry-After -------------------------------------------------------------------------------------------------

BUSY = Scripted(503, retry_after=2.0)


def test_another_node_gets_the_retry() -> None:
    """F10: who asks for a rest gets it, and the call goes on elsewhere at once."""
    driver = Driver(balancer_of("a", "b"), {"a": BUSY, "b": OK})
    driver.run().release()
    assert driver.sent == ["a", "b"]
    driver.run().release()
    assert driver.sent == ["a", "b", "b"], "later calls pass it over too"
    driver.clock.now += 2.0
    driver.run().release()
    assert driver.sent == ["a", "b", "b", "a", "b"], "until its rest is over"


def test_a_single_node_is_waited_for() -> None:
    """F10: without another node the call waits for as long as it was asked to."""
    driver = Driver(balancer_of("a"), {"a": [BUSY, OK]})
    driver.run().release()
    assert driver.sent == ["a", 2.0, "a"]


def test_all_ask_for_a_rest() -> None:
    """F10: if all say so, the last answer is the caller's, not an error of ours."""
    driver = Driver(balancer_of("a", "b"), {"a": BUSY, "b": BUSY})
    call = driver.run(retry=Retry(attempts=2))
    assert driver.sent == ["a", "b"]
    assert call.outcome is not None
    assert call.outcome.status == 503
    assert not call.outcome.response.disposed
    call.release()


def test_too_long_a_rest_is_the_callers() -> None:
    """F10: a rest longer than `max_retry_after` is not waited for, and the node's is 30 s at most."""
    driver = Driver(balancer_of("a"), {"a": Scripted(503, retry_after=3600.0)})
    call = driver.run()
    assert driver.sent == ["a"]
    assert call.outcome is not None
    assert call.outcome.status == 503
    assert driver.balancer.ejections.avoid(driver.clock() + 29)
    assert not driver.balancer.ejections.avoid(driver.clock() + 31)
    call.release()


def test_a_post_gets_its_answer() -> None:
    """F70: what must not be repeated is not, but the node rests all the same."""
    driver = Driver(balancer_of("a", "b"), {"a": BUSY, "b": OK})
    driver.run(driver.call(repeatable=False)).release()
    assert driver.sent == ["a"]
    assert node_of(driver.balancer, "a") in driver.balancer.ejections.avoid(driver.clock())


# --- deadlines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "seconds"), [(Scripted(fault=fault), 0.5) for fault in Fault] + [(UNAVAILABLE, 0.5)]
)
def test_nothing_after_the_deadline(answer: Scripted, seconds: float) -> None:
    """F09: once its time is over a call lets what it has stand."""
    late = Scripted(answer.status, answer.fault, seconds=seconds)
    driver = Driver(balancer_of("a", "b"), {"a": late, "b": OK})
    driver.run(driver.call(timeout=0.5)).release()
    assert driver.steps == ["a"]


def test_stale_after_the_deadline() -> None:
    """F07: no fresh connection either is opened after the deadline."""
    stale = Scripted(fault=Fault.MAYBE_PROCESSED, reused=True, seconds=0.5)
    driver = Driver(balancer_of("a"), {"a": stale})
    driver.run(driver.call(timeout=0.5)).release()
    assert driver.steps == ["a"]


def test_no_pause_beyond_the_deadline() -> None:
    """F10: a pause that would outlast the call is not begun: the answer is given back at once."""
    driver = Driver(balancer_of("a"), {"a": [BUSY, OK]})
    call = driver.run(driver.call(timeout=1.0))
    assert driver.steps == ["a"]
    assert call.outcome is not None
    assert call.outcome.status == 503
    call.release()


# --- rounds ------------------------------------------------------------------------------------------------------


def test_a_bad_answer_is_better_than_a_dead_node() -> None:
    """F22: with the other node known dead, a retry goes to the one that lives, not to the dead one."""
    driver = Driver(balancer_of("a", "b"), {"a": REFUSED, "b": [OK, UNAVAILABLE, OK]})
    driver.run().release()
    call = driver.run()
    assert driver.sent == ["a", "b", "b", "b"]
    assert call.outcome is not None
    assert call.outcome.status == 200
    call.release()


def test_the_dead_are_tried_when_nobody_else_is_left() -> None:
    """F21: if the last living node dies in the middle of a call, those ejected earlier get their chance."""
    driver = Driver(balancer_of("a", "b"), {"a": [REFUSED, OK], "b": [OK, RESET, REFUSED]})
    driver.run().release()
    call = driver.run()
    assert driver.sent == ["a", "b", "b", "b", "a"]
    assert call.outcome is not None
    assert call.outcome.status == 200
    call.release()


def test_each_node_once_a_round() -> None:
    """F21: with everybody dead a call asks each node once and ends with the last refusal."""
    script = dict.fromkeys("abcd", REFUSED)
    driver = Driver(balancer_of(*script), script)
    first, second = driver.run(), driver.run()
    assert sorted(str(step) for step in driver.sent) == sorted("abcd" * 2)
    assert first.outcome is not None
    assert first.outcome.fault is Fault.NEVER_SENT
    assert second.give_up is None


# --- the header --------------------------------------------------------------------------------------------------


def date(seconds: float) -> str:
    return format_datetime(WALL + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("3", 3.0),
        ("0003", 3.0),
        ("120", 120.0),
        ("9" * 30, 999_999_999.0),
        (date(90), 90.0),
        ("Fri, 20 Nov 2026 12:00:05 -0000", 5.0),
        ("Fri, 20 Nov 2026 13:00:05 +0100", 5.0),
        (date(-90), None),
        (date(0), None),
        (None, None),
        ("", None),
        ("-3", None),
        ("+3", None),
        ("1.5", None),
        ("1e9", None),
        ("nan", None),
        ("soon", None),
        ("²", None),
        ("Fri, 99 Nov 2026 12:00:05 GMT", None),
        ("Fri, 20 Nov 2026 12:00:05 +9999", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", pytest.approx(2.5159e11, rel=1e-3)),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("9" * (LONGEST_HEADER + 1), None),
    ],
)
def test_retry_after_header(value: str | None, seconds: float | None) -> None:
    """F10: seconds or an HTTP date; what is garbage, negative or past is ignored."""
    assert parse_retry_after(value, WALL.timestamp()) == seconds


@given(st.text(max_size=80) | st.from_regex(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{1,5} [\d:]{1,8} [+-]\d{1,5}"))
def test_retry_after_from_strangers(value: str) -> None:
    """F10: whatever a server writes there is a finite time or nothing."""
    seconds = parse_retry_after(value, WALL.timestamp())
    assert seconds is None or 0.0 <= seconds < 1e12


async def never(_request: Any) -> bool:
    return False


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"attempts": 0}, ValueError, "from 1 (no retry) to 20, not 0"),
        ({"attempts": 21}, ValueError, "from 1 (no retry) to 20, not 21"),
        ({"attempts": True}, TypeError, "a whole number that counts the first, not True"),
        ({"attempts": 2.0}, TypeError, "a whole number that counts the first, not 2.0"),
        ({"statuses": 503}, TypeError, "a collection of whole numbers such as {503}, not 503"),
        ({"statuses": "503"}, TypeError, "a collection of whole numbers such as {503}, not '503'"),
        ({"backoff": -1}, ValueError, "Retry(backoff=) is from 0 to 3600, not -1"),
        ({"max_backoff": float("nan")}, ValueError, "Retry(max_backoff=) is from 0 to 3600, not nan"),
        ({"max_retry_after": "5"}, TypeError, "Retry(max_retry_after=) is a number, not '5'"),
        ({"repeatable": "POST"}, TypeError, "a collection of methods: write repeatable={'POST'}"),
        ({"repeatable": True}, TypeError, "a collection of methods such as {'POST'}, or a function"),
        ({"repeatable": [b"POST"]}, TypeError, "a collection of methods such as {'POST'}, or a function"),
        ({"repeatable": {"POST, PUT"}}, ValueError, "names methods such as 'POST', not 'POST, PUT'"),
        ({"repeatable": never}, TypeError, "is a plain one: write def, not async def"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    """A wrong argument is an error at construction that says what to write."""
    with pytest.raises(error) as caught:
        Retry(**arguments)
    assert says in str(caught.value)


def test_statuses_may_be_any_collection() -> None:
    """Statuses are copied, from whatever they stand in."""
    assert Retry(statuses=(one for one in (500, 503))) == Retry(statuses=[503, 500, 500])


# --- what may be processed twice ---------------------------------------------------------------------------------

POST = httpx.Request("POST", "http://users/search")


@pytest.mark.parametrize(
    ("request_", "retry", "repeatable"),
    [
        (POST, None, False),
        (POST, Retry(), False),
        (POST, Retry(repeatable={"POST"}), True),
        (POST, Retry(repeatable=["patch", "post"]), True),
        (POST, Retry(repeatable={"PATCH"}), False),
        (POST, Retry(repeatable=lambda request: request.url.path == "/search"), True),
        (POST, Retry(repeatable=lambda request: request.url.path == "/pay"), False),
        (httpx.Request("POST", "http://users/", headers={"Idempotency-Key": "1"}), None, True),
        (httpx.Request("GET", "http://users/"), None, True),
        (httpx.Request("GET", "http://users/"), Retry(repeatable={"POST"}), True),
        (httpx.Request("GET", "http://users/"), Retry(repeatable=lambda _request: False), True),
    ],
)
def test_what_may_be_repeated(request_: httpx.Request, retry: Retry | None, repeatable: bool) -> None:
    """F70: what is given comes beside RFC 9110's methods and `Idempotency-Key`, never in their place."""
    assert may_repeat(request_, () if retry is None else retry.repeatable) is repeatable


def test_a_predicate_that_fails() -> None:
    """A predicate's error is a bug in the program and goes through as it is."""
    with pytest.raises(ZeroDivisionError):
        may_repeat(POST, lambda _request: bool(1 / 0))
