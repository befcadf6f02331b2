"""Calls that may go to named instances only: which they meet, in which order, and that they never meet another."""

import pytest

from p2plb.balancing.call import Call
from p2plb.calling.options import Among, Options
from p2plb.errors import NoInstances
from tests.fakes import NOT_PROCESSED, OK, REFUSED, RESET, UNAVAILABLE, Driver, balancer_of


def test_the_first_named_is_asked() -> None:
    """The order of the names is the order of preference, whatever the strategy would say."""
    driver = Driver(balancer_of("a", "b", "c"), {"a": OK, "b": OK, "c": OK})
    for ids in (("c", "b"), ("b", "a"), ("a",)):
        call = driver.run(driver.call(among=ids))
        assert driver.steps[-1] == ids[0]
        call.release()


def test_the_next_named_if_the_first_refuses() -> None:
    """F23: who can't be reached is passed over for the next one named, by later calls too while it is ejected."""
    driver = Driver(balancer_of("a", "b", "c"), {"b": REFUSED, "c": OK, "a": OK})
    driver.run(driver.call(among=("b", "c"))).release()
    driver.run(driver.call(among=("b", "c"))).release()
    assert driver.sent == ["b", "c", "c"]


def test_never_another_one() -> None:
    """An owner that is down is an error, and tried although it is ejected: nobody else has its data."""
    driver = Driver(balancer_of("a", "b", "c"), {"b": REFUSED, "a": OK, "c": OK})
    for _ in range(2):
        call = driver.run(driver.call(among=("b",)))
        assert call.outcome is not None
        assert call.outcome.error is not None
        call.release()
    assert driver.sent == ["b", "b"]


def test_retries_stay_with_the_named() -> None:
    """What may be tried again is tried where the call may go."""
    for answer in (UNAVAILABLE, RESET, NOT_PROCESSED):
        driver = Driver(balancer_of("a", "b", "c"), {"b": answer, "a": OK, "c": OK})
        driver.run(driver.call(among=("b",))).release()
        assert {step for step in driver.steps if isinstance(step, str)} == {"b"}


def test_nobody_named_is_in_force() -> None:
    """A name that is not in the view is nobody: the call ends, unsent, and takes nobody else."""
    driver = Driver(balancer_of("a", "b"), {"a": OK, "b": OK})
    with pytest.raises(NoInstances, match="may go to gone only"):
        driver.run(driver.call(among=("gone",)))
    assert driver.steps == []


def test_a_named_one_beside_others_that_have_left() -> None:
    """Names that have left are passed over."""
    driver = Driver(balancer_of("a", "b"), {"a": OK, "b": OK})
    driver.run(driver.call(among=("gone", "b"))).release()
    assert driver.sent == ["b"]


def test_the_bound_holds_for_its_service() -> None:
    """A redirect carries the options of its call to another service: there the names mean nothing."""
    asked = Options(among=Among("users", ("a",)))
    assert asked.ids("users") == ("a",)
    assert asked.ids("orders") is None
    assert asked.over(Options(key="k", among=Among("users", ("b",)))) == Options(key="k", among=asked.among)
    assert Call("users").among is None
