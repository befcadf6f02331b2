"""Signals that are held back for a moment are heard at its end, and no other way."""

import signal
import threading

import pytest

from p2plb.testing.holding import signals_held


def test_a_signal_waits_for_the_end() -> None:
    """Ctrl-C in the block does not break it off; it is heard once it is over, and once only."""
    done = []

    def interrupted() -> None:
        with signals_held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_hold_nothing() -> None:
    """Outside of the main thread the block just runs."""
    done = []

    def work() -> None:
        with signals_held():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
