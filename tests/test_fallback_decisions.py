"""The way of a call as data: which way a call sets out, and when it may still go to the fallback."""

from typing import Any

import httpx
import pytest

from p2plb.balancing.call import Call, Ending, Fault, GiveUp, Outcome, Via
from p2plb.calling.fallback import Bypass, falls_back, first_way, host_of, usable
from tests.fakes import Clock

OLD = "http://old:80"


@pytest.mark.parametrize(
    ("fallback", "share", "roll", "bypassed", "via"),
    [
        (None, 1.0, 0.5, False, Via.PEER),
        (None, 1.0, 0.5, True, Via.PLAIN),
        (None, 0.0, 0.5, False, Via.PEER),  # passed over because https was asked: the dial has nothing to turn to
        (OLD, 1.0, 0.999, False, Via.PEER),
        (OLD, 1.0, 0.5, True, Via.FALLBACK),
        (OLD, 0.25, 0.24, False, Via.PEER),
        (OLD, 0.25, 0.25, False, Via.FALLBACK),
        (OLD, 0.0, 0.0, False, Via.FALLBACK),
    ],
)
def test_the_first_way(fallback: str | None, share: float, roll: float, bypassed: bool, via: Via) -> None:
    """`share` of the calls go to instances, the others to the fallback; a bypass takes all of them away."""
    assert first_way(fallback, share, lambda: roll, bypassed=bypassed) is via


def test_no_dice_without_need() -> None:
    """At share 1 nothing is rolled."""
    assert first_way(OLD, 1.0, lambda: 1 // 0, bypassed=False) is Via.PEER


@pytest.mark.parametrize(
    ("fallback", "secure", "found"),
    [(None, True, None), (OLD, False, OLD), (OLD, True, None), ("https://old", True, "https://old")],
)
def test_https_is_never_served_in_clear(fallback: str | None, secure: bool, found: str | None) -> None:
    """F73: who asked for https does not fall back to http."""
    assert usable(fallback, secure=secure) == found


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://Old:8000", "old:8000"),
        ("http://old:80", "old"),
        ("https://old:443", "old"),
        ("http://old:443", "old:443"),
        ("http://[::80]", "[::80]"),
        ("http://[::1]:80", "[::1]"),
    ],
)
def test_its_own_host(origin: str, host: str) -> None:
    """The Host header of a fallback is what httpx would write."""
    assert host_of(origin) == host == httpx.Request("GET", origin).headers["host"]


def failed(fault: Fault) -> Outcome:
    return Outcome(error=OSError(), fault=fault)


@pytest.mark.parametrize(
    ("ended", "repeatable", "replayable", "expected"),
    [
        (GiveUp(Ending.NO_INSTANCES), False, False, True),
        (GiveUp(Ending.NO_CONNECTION), True, True, False),
        (Outcome(200), True, True, False),
        (Outcome(503), True, True, False),
        (Outcome(421), True, True, False),
        (failed(Fault.NEVER_SENT), False, False, True),
        (failed(Fault.NEVER_PROCESSED), False, True, True),
        (failed(Fault.NEVER_PROCESSED), True, False, False),
        (failed(Fault.MAYBE_PROCESSED), True, True, True),
        (failed(Fault.MAYBE_PROCESSED), False, True, False),
        (failed(Fault.MAYBE_PROCESSED), True, False, False),
        (failed(Fault.LOCAL), True, True, False),
    ],
    ids=str,
)
def test_after_the_last_attempt(ended: Any, repeatable: bool, replayable: bool, expected: bool) -> None:
    """F06: what may have been processed goes to the fallback only if it may be processed twice; an answer stays."""
    call = Call("users", repeatable=repeatable, replayable=replayable, timeout=1.0)
    if isinstance(ended, GiveUp):
        call.give_up = ended
    else:
        call.outcome = ended
    assert falls_back(call, 0.5) is expected
    assert not falls_back(call, 1.0), "the deadline has passed"


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("", []),
        ("0", []),
        ("1", ["users", "orders", ""]),
        ("users", ["users"]),
        ("users, orders", ["users", "orders"]),
        ("user", []),
        ("users2,1,", ["users", "orders", ""]),
        ("users,", ["users"]),
    ],
)
def test_what_is_bypassed(text: str, covered: list[str]) -> None:
    """`1` is everything, else the variable is a list of names; a name that a route has left empty is none."""
    bypass = Bypass(lambda: text)
    assert [name for name in ("users", "orders", "") if bypass.covers(name, 0.0)] == covered


def test_the_environment_is_read_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running process can be switched, and reading costs nothing worth mentioning."""
    clock, bypass = Clock(), Bypass()
    monkeypatch.delenv("P2PLB_BYPASS", raising=False)
    assert not bypass.covers("users", clock())
    monkeypatch.setenv("P2PLB_BYPASS", "users")
    assert not bypass.covers("users", clock() + 0.9)
    assert bypass.covers("users", clock() + 1.0)
    monkeypatch.setenv("P2PLB_BYPASS", "")
    assert not bypass.covers("users", clock() + 2.0)
