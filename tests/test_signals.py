"""Signals: something lengthy is done first, then the signal goes on. Real signals, to this process itself."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from p2plb.serving.signals import Handover

PATIENCE = 20.0


class Previous:
    """The handler that a program had before."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.called = threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.got.append(number)
        self.called.set()


@pytest.fixture(name="previous")
def _previous() -> Iterator[Previous]:
    previous = Previous()
    before = signal.signal(signal.SIGUSR1, previous)
    yield previous
    signal.signal(signal.SIGUSR1, before)


def test_the_work_is_done_before_the_signal_goes_on(previous: Previous) -> None:
    """The handler that was there before is called once, after the work, in the main thread."""
    done: list[bool] = []
    handover = Handover([signal.SIGUSR1], lambda: done.append(not previous.got))
    handover.install()
    signal.raise_signal(signal.SIGUSR1)
    assert previous.called.wait(PATIENCE)
    assert done == [True]
    assert previous.got == [signal.SIGUSR1]
    handover.uninstall()


def test_the_handler_returns_at_once_and_more_signals_are_absorbed(previous: Previous) -> None:
    """While the work lasts, the main thread goes on and an impatient second signal changes nothing."""
    go_on = threading.Event()

    def work() -> None:
        go_on.wait(PATIENCE)

    handover = Handover([signal.SIGUSR1], work)
    handover.install()
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    assert not previous.got
    go_on.set()
    assert previous.called.wait(PATIENCE)
    assert previous.got == [signal.SIGUSR1]
    handover.uninstall()


def test_a_failure_of_the_work_does_not_keep_the_signal(previous: Previous, caplog: pytest.LogCaptureFixture) -> None:
    """A program that is told to end must end."""

    def work() -> None:
        raise ZeroDivisionError

    handover = Handover([signal.SIGUSR1], work)
    handover.install()
    signal.raise_signal(signal.SIGUSR1)
    assert previous.called.wait(PATIENCE)
    assert "the work before SIGUSR1 failed" in caplog.text
    handover.uninstall()


def test_afterwards_the_previous_handler_is_back(previous: Previous) -> None:
    """Leaving gives the signal back, and does nothing for one that comes later."""
    handover = Handover([signal.SIGUSR1], pytest.fail)
    handover.install()
    assert signal.getsignal(signal.SIGUSR1) is not previous
    handover.uninstall()
    handover.uninstall()
    assert signal.getsignal(signal.SIGUSR1) is previous


def test_a_later_handler_is_left_alone(previous: Previous) -> None:
    """Who took the signal over since keeps it, and may still call ours, which then lets the signal through."""
    handover = Handover([signal.SIGUSR1], pytest.fail)
    handover.install()
    ours = signal.getsignal(signal.SIGUSR1)
    later = Previous()
    signal.signal(signal.SIGUSR1, later)
    handover.uninstall()
    assert signal.getsignal(signal.SIGUSR1) is later
    assert callable(ours)
    ours(signal.SIGUSR1, None)
    assert previous.got == [signal.SIGUSR1]


def test_an_ignored_signal_stays_ignored(previous: Previous) -> None:
    """A background job of a shell ignores SIGINT and must go on serving when it comes."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    handover = Handover([signal.SIGUSR1], pytest.fail)
    handover.install()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    handover.uninstall()


def test_a_forked_child_lets_signals_through(previous: Previous) -> None:
    """F58: the thread that would do the work is not there."""
    handover = Handover([signal.SIGUSR1], pytest.fail)
    handover.install()
    handover.after_fork()
    signal.raise_signal(signal.SIGUSR1)
    assert previous.got == [signal.SIGUSR1]
    handover.uninstall()


def test_what_was_made_before_a_fork_may_be_installed_after_it(previous: Previous) -> None:
    """F58: a child that starts what its parent only prepared has its signals worked off like anybody's."""
    done: list[bool] = []
    handover = Handover([signal.SIGUSR1], lambda: done.append(not previous.got))
    handover.after_fork()
    handover.install()
    signal.raise_signal(signal.SIGUSR1)
    assert previous.called.wait(PATIENCE)
    assert done == [True]
    handover.uninstall()


def test_outside_the_main_thread_it_says_what_to_do() -> None:
    """Python handles signals in the main thread only."""
    told: list[str] = []

    def install() -> None:
        with pytest.raises(ValueError, match="signals can be handled in the main thread only") as caught:
            Handover([signal.SIGUSR1], pytest.fail).install()
        told.append(str(caught.value))

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    assert told


def test_without_signals_any_thread_will_do() -> None:
    """A registration without `drain_on` has no thread for signals and no demand on the caller's."""
    before = threading.active_count()
    thread = threading.Thread(target=Handover((), pytest.fail).install)
    thread.start()
    thread.join()
    assert threading.active_count() == before


def test_a_loop_that_listens_hears_the_signal_once(previous: Previous) -> None:
    """F02: it can't be held up; a second SIGTERM would tell it to end at once, in the middle of leaving."""
    heard: list[int] = []
    worked = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, heard.append, 1)
        handover = Handover([signal.SIGUSR1], worked.set)
        handover.install()
        signal.raise_signal(signal.SIGUSR1)
        assert await asyncio.to_thread(worked.wait, PATIENCE)
        await asyncio.to_thread(handover.uninstall)  # which ends the thread that would send the signal on
        handover.uninstall()
        await asyncio.sleep(0)
        loop.remove_signal_handler(signal.SIGUSR1)

    asyncio.run(main())
    assert heard == [1]


def test_the_default_action_is_carried_out() -> None:
    """F02: a process that would have died of the signal dies of it, after the work."""
    program = (
        "import signal, sys, threading\n"
        "from p2plb.serving.signals import Handover\n"
        "Handover([signal.SIGTERM], lambda: print('worked', flush=True)).install()\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "threading.Event().wait(20)\n"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (child.returncode, child.stdout, child.stderr) == (-signal.SIGTERM, "worked\n", "")
