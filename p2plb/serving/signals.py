"""Does something lengthy when a signal comes, then hands the signal on to whoever had it before.

A handler runs between two bytecodes of the main thread, in the middle of whatever that was doing, perhaps holding a
lock. So the handler only puts the signal into a queue made for this (`SimpleQueue.put` is reentrant); a thread that was
started beforehand does the work and then sends the signal once more. It knows nothing of registrations.
"""

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Final

from p2plb.discovery import threads

logger = logging.getLogger("p2plb.serving")

ENDING: Final = (signal.SIGTERM, signal.SIGINT)
"""The signals by which process managers and people end a program."""
SEND_AGAIN: Final = 0.05  # seconds
_HANDED_ON_WITHIN: Final = 1.0  # seconds
_LOOPS: Final = ("asyncio.unix_events", "uvloop.loop")
"""Where the placeholders of `loop.add_signal_handler` are from; the loop itself hears of signals by another way."""


class Handover:
    """Runs `work` at the first of some signals, on a thread of its own, and hands that signal on afterwards.

    "On" is the handler that was in force at `install`: a callable is called, the default action is carried out (a
    process that SIGTERM would have ended dies of SIGTERM). An event loop that listens has heard the signal before
    anyone can hold it up, and does not hear it twice. A signal that is ignored, as SIGINT is in a shell's background
    jobs, stays ignored. What comes while `work` runs is absorbed. In a forked child, signals that were taken over
    before the fork are handed on at once.
    """

    def __init__(self, signals: Iterable[int], work: Callable[[], None]) -> None:
        self.signals = tuple(_catchable(number) for number in signals)
        self._work = work
        self._previous: dict[signal.Signals, Any] = {}
        self._inbox: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._transparent = False
        self._handed_on = False

    def install(self) -> None:
        """Take the signals over, once; `ValueError` outside the main thread, where Python can't."""
        if not self.signals or self._thread or self._previous:
            return
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("signals can be handled in the main thread only: enter there, or drain without drain_on")
        self._thread = threading.Thread(target=self._wait, name="p2plb-drain", daemon=True)
        self._thread.start()
        for number in self.signals:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._received)

    def uninstall(self) -> None:
        """Give the signals back, where nobody has taken them over since; from another thread, let them through.

        One that came shortly before and is still held up is handed on first.
        """
        self._transparent = True
        self._inbox.put(None)
        if threading.current_thread() is threading.main_thread():
            threads.join(self._thread, _HANDED_ON_WITHIN)
            for number, previous in self._previous.items():
                if signal.getsignal(number) == self._received:
                    signal.signal(number, previous)

    def after_fork(self) -> None:
        """In a forked child, where the thread does not exist: let through what was taken over."""
        self._thread = None
        self._transparent = self._transparent or bool(self._previous)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._transparent:
            self._hand_on(signal.Signals(number), frame)
        else:
            self._inbox.put(number)

    def _wait(self) -> None:
        number = self._inbox.get()
        if number is None:
            return
        caught = signal.Signals(number)
        try:
            self._work()
        except Exception:  # a process that is told to end must end, whatever the work comes to
            logger.exception("the work before %s failed", caught.name)
        self._transparent = True
        if getattr(self._previous[caught], "__module__", "") not in _LOOPS:
            self._send_on(caught)

    def _send_on(self, number: int) -> None:
        """Send the signal to the main thread until its handler has run.

        Once is not enough: a signal that comes just before the thread begins to wait for a lock does not wake it.
        """
        main = threading.main_thread().ident
        while main is not None and not self._handed_on:
            signal.pthread_kill(main, number)
            time.sleep(SEND_AGAIN)
            if signal.getsignal(number) != self._received:
                return

    def _hand_on(self, number: signal.Signals, frame: FrameType | None) -> None:
        self._handed_on = True
        previous = self._previous[number]
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _catchable(number: int) -> signal.Signals:
    caught = signal.Signals(number)
    if caught in (signal.SIGKILL, signal.SIGSTOP):
        raise ValueError(f"{caught.name} can't be caught: drain_on takes signals such as SIGTERM")
    return caught
