"""What is told in a forked child."""

import os

import pytest

from p2plb import forks


class Whole:
    """Something that begins anew."""

    told = 0

    def after_fork(self) -> None:
        Whole.told += 1


class Torn:
    """Something that a fork has caught in the middle of a change."""

    def after_fork(self) -> None:
        raise KeyError("torn")


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_one_that_fails_keeps_no_other_from_beginning_anew(caplog: pytest.LogCaptureFixture) -> None:
    """F58: all are told, in whatever order, and the failure is logged."""
    watched: list[forks.Forked] = [Whole(), Whole(), Torn(), Whole(), Torn(), Whole()]
    for one in watched:
        forks.watch(one)
    child = os.fork()
    if child == 0:
        logged = [record.getMessage() for record in caplog.records]
        os._exit(Whole.told if logged == ["after a fork, Torn could not begin anew"] * 2 else 99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
