"""Which instances of a snapshot are in force, and why the others are not."""

from collections.abc import Callable
from typing import Any

import pytest

from p2plb.balancing.view import select
from p2plb.instance import Instance
from tests.fakes import instance


def chosen(*instances: Instance, **options: Any) -> tuple[list[str], dict[str, str]]:
    found, left_out = select(instances, **options)
    return [one.id for one in found], {one.id: reason for one, reason in left_out}


A, B = instance("a"), instance("b")
DRAINING = instance("draining", state="draining")
DOWN = instance("down", state="down")
STRANGE = instance("strange", state="rebooting")
SECOND = instance("second", priority=2)
THIRD = instance("third", priority=3)
EMPTY = instance("empty", weight=0.0)
SECURE = instance("secure", url="https://secure.example")
SPARE = instance("spare", priority=1, state="draining")


@pytest.mark.parametrize(
    ("instances", "ids", "left_out"),
    [
        ([], [], {}),
        ([A, B], ["a", "b"], {}),
        ([A, DRAINING], ["a"], {"draining": "draining"}),
        ([A, STRANGE], ["a"], {"strange": "draining"}),
        ([DRAINING, STRANGE], ["draining", "strange"], {}),
        ([A, DOWN, DRAINING], ["a"], {"down": "down", "draining": "draining"}),
        ([DOWN, DRAINING], ["draining"], {"down": "down"}),
        ([DOWN], ["down"], {}),
        ([A, SECOND], ["a", "second"], {}),
        ([SECOND, THIRD], ["second", "third"], {}),
        ([SECOND, DRAINING], ["second"], {"draining": "draining"}),
        ([DRAINING, SPARE], ["draining", "spare"], {}),
        ([A, EMPTY], ["a"], {"empty": "weight 0"}),
        ([EMPTY], ["empty"], {}),
        ([EMPTY, DRAINING], ["empty"], {"draining": "draining"}),
        ([EMPTY, SECOND], ["second"], {"empty": "weight 0"}),
        ([A, SECURE], ["a", "secure"], {}),
    ],
)
def test_who_is_in_force(instances: list[Instance], ids: list[str], left_out: dict[str, str]) -> None:
    """F02: up before draining before down, weight 0 only if all have it; priorities leave nobody out."""
    assert chosen(*instances) == (ids, left_out)


def test_https_asked() -> None:
    """F73: who asked for https is never sent to an instance that is recorded with http, be it the only one."""
    reason = "https was asked and its record says http"
    assert chosen(A, SECURE, secure=True) == (["secure"], {"a": reason})
    assert chosen(A, secure=True) == ([], {"a": reason})


def misses_a_key(one: Instance) -> bool:
    return bool(one.metadata["canary"])


@pytest.mark.parametrize(
    ("only", "ids"),
    [
        (lambda one: one.id == "b", ["b"]),
        (lambda _one: False, []),
        (lambda one: one.id == "draining", ["draining"]),
        (misses_a_key, ["canary"]),
    ],
)
def test_only(only: Callable[[Instance], bool], ids: list[str]) -> None:
    """A filter comes before state and weight; F82: a record on which it fails is left out, the others are not lost."""
    canary = instance("canary", metadata={"canary": True}, state="draining")
    found, left_out = chosen(A, B, DRAINING, canary, only=only)
    assert found == ids
    assert left_out["a"] == "only= leaves it out"
