"""The life of one registration: entered, up, drained, left.

The record looks after itself (`record.py`); here is what happens around it, on the threads of whoever registers:
starting returns at once, waiting is a choice, and leaving never takes long. It knows no registry, and nothing of how a
record is made.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from p2plb import forks
from p2plb.discovery.registry import AnnouncementState
from p2plb.errors import RegistrationError
from p2plb.instance import Instance
from p2plb.serving.record import Record, Terms
from p2plb.serving.signals import Handover

_LOOK_AGAIN: Final = 0.05
_SETTLED: Final = (AnnouncementState.UP, AnnouncementState.FAILED, AnnouncementState.GONE)


class Registration:
    """One registration of this process: a context manager, sync and async, made by `p2plb.register`.

    Entering, or `start`, begins; leaving, or `stop`, drains and takes the record out. Every method may be called from
    any thread, and those that block have an async twin for asyncio and trio. A forked child has no part in it.
    """

    def __init__(
        self, terms: Terms, *, required: bool, timeout: float, drain_on: Iterable[int], drain_grace: float
    ) -> None:
        self._record = Record(terms, self._wake_waiters)
        self._required = required and terms.enabled
        self._timeout = timeout
        self._grace = drain_grace
        self._signals = Handover(drain_on if terms.enabled else (), self._leave)
        self._drained = self._left = False
        self._make_locks()
        forks.watch(self)

    @property
    def state(self) -> AnnouncementState:
        """Where the record stands: waiting (also before the start), retrying, up, failed or gone."""
        return self._record.state

    @property
    def error(self) -> Exception | None:
        """What is wrong or what it waits for, None if all is well."""
        return self._record.error

    @property
    def instance(self) -> Instance | None:
        """The record as it is announced; None before the start, and while the own address is being looked for."""
        return self._record.instance

    def start(self) -> Self:
        """Begin to register and return at once; a second start changes nothing.

        Raises `RegistrationError` if the registry takes no registrations, `ValueError` for a wrong registry URL or for
        `drain_on` outside the main thread. One that failed to start is over.
        """
        try:
            self._signals.install()
            self._record.begin()
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the record stands in the registry and return whether it does.

        Raises `RegistrationError` for what waiting can't heal: access denied, identity taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.state in _SETTLED, timeout)
        if self.state is AnnouncementState.FAILED:
            raise RegistrationError(f"{self._text()}: {self.error}") from self.error
        return self.state is AnnouncementState.UP

    def update(
        self,
        *,
        weight: float | None = None,
        zone: str | None = None,
        priority: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Change what is given, as soon as possible; returns at once. `ValueError` or `TypeError` for wrong values."""
        changes = {"weight": weight, "zone": zone, "priority": priority, "metadata": metadata}
        self._record.change({name: value for name, value in changes.items() if value is not None})

    def drain(self) -> None:
        """Tell clients to send no more calls, and return when the grace for those on their way is over.

        The server should go on serving until then. Draining twice waits once; nobody waits for a record that does not
        stand in the registry, and if it is put later it says `draining` too.
        """
        with self._leaving:
            if not self._drained:
                known = self.state is AnnouncementState.UP
                self._record.drain()
                time.sleep(self._grace if known else 0)
            self._drained = True

    def stop(self) -> None:
        """Drain, take the record out, and let the registry go; idempotent.

        Takes the grace and at most about a second more, also if the registry can't be reached.
        """
        try:
            self._leave()
        finally:
            self._record.close()
            self._wake_waiters()
            self._signals.uninstall()

    close = stop

    async def wait_async(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  the twin of `wait`
        """Wait as `wait` does, without blocking the event loop."""
        import anyio  # noqa: PLC0415  only async programs need to load it

        with anyio.move_on_after(timeout):
            while self.state not in _SETTLED:  # noqa: ASYNC110  another thread settles it, on no event loop
                await anyio.sleep(_LOOK_AGAIN)
        return self.wait(0)

    async def drain_async(self) -> None:
        """Drain as `drain` does, without blocking the event loop."""
        await _in_thread(self.drain)

    async def stop_async(self) -> None:
        """Stop as `stop` does, without blocking the event loop; a cancellation does not cut it short."""
        try:
            await _in_thread(self.stop)
        finally:
            self._signals.uninstall()  # once more: this may be the main thread, the other is not

    def __enter__(self) -> Self:
        self.start()
        try:
            self._check_required(not self._required or self.wait(self._timeout))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            self._signals.install()
            await _in_thread(self._record.begin)
            self._check_required(not self._required or await self.wait_async(self._timeout))
        except BaseException:
            await self.stop_async()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop_async()

    def after_fork(self) -> None:
        """In a forked child: the record has seen to itself; nobody holds these locks there."""
        self._signals.after_fork()
        self._make_locks()

    def _make_locks(self) -> None:
        self._leaving = threading.RLock()
        self._changed = threading.Condition()

    def _leave(self) -> None:
        self._record.bar()
        with self._leaving:
            try:
                self.drain()
            finally:
                if not self._left:
                    self._record.withdraw()
                self._left = True

    def _wake_waiters(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _check_required(self, up: bool) -> None:
        if not up:
            raise RegistrationError(f"{self._text()} within {self._timeout:g} s ({self.state}: {self.error})")

    def _text(self) -> str:
        return f"{self._record.name} was not registered in {self._record.where}"


async def _in_thread(function: Callable[[], object]) -> None:
    from p2plb.serving.offloop import in_thread  # noqa: PLC0415  only async programs need to load it

    await in_thread(function)
