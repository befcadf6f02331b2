"""Being called, for ASGI applications: a lifespan that registers while the application runs.

    app = FastAPI(lifespan=p2plb.lifespan("users", port=8001, also=my_lifespan))

A lifespan starts before most servers open their port and often in several processes behind one port, and it runs in
tests too, where no port is ever opened. What that means for a registration is decided here; the rest is `lifetime.py`.
"""

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext, suppress
from typing import Any, Unpack

from p2plb.discovery import shared
from p2plb.discovery.registry import Registry
from p2plb.errors import DiscoveryError
from p2plb.serving import environment
from p2plb.serving.lifetime import Registration
from p2plb.serving.offloop import in_thread
from p2plb.serving.registration import DEFAULT_TIMEOUT, RegisterOptions, register
from p2plb.serving.signals import ENDING

ApplicationLifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class Lifespan:
    """An ASGI lifespan, as Starlette and FastAPI take it, that registers the application; made by `p2plb.lifespan`.

    It may run any number of times, one after the other.
    """

    def __init__(self, service: str, also: ApplicationLifespan | None, options: RegisterOptions) -> None:
        if also is not None and (not callable(also) or inspect.isasyncgenfunction(also)):
            raise TypeError("also is a function from the application to an async context manager: @asynccontextmanager")
        self.registration: Registration | None = None
        """The registration of the running application; None before its start, and if P2PLB_REGISTER=0."""
        self._service = service
        self._also = also
        self._options = options
        if environment.enabled():
            with suppress(environment.NoPort):  # a module that is imported for other ends need not know the port
                self._registration()

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[Any]:
        """Start what the application starts, then register; at the end drain first. Yields the application's state."""
        async with self._also(app) if self._also else nullcontext() as state:
            if not environment.enabled():
                yield state
                return
            self.registration = self._registration()
            async with self.registration:
                await self._check_registry()
                yield state

    def _registration(self) -> Registration:
        """Return a new registration of the address, whichever of the processes behind it this one is."""
        options = self._options.copy()
        options["required"] = False
        if options.get("id") is None:
            options["id"] = environment.identity() or environment.BY_ADDRESS
        if threading.current_thread() is threading.main_thread():
            options.setdefault("drain_on", ENDING)
        else:  # as under a TestClient: signals can't be handled here, nor do they come here
            options["drain_on"] = ()
        return register(self._service, **options)

    async def _check_registry(self) -> None:
        """Fail the start if the registry is required and does not answer; the record can't be waited for here."""
        if self._options.get("required"):
            timeout = self._options.get("timeout", DEFAULT_TIMEOUT)
            await in_thread(lambda: _ask(self._options.get("registry"), self._service, timeout))


def lifespan(service: str, *, also: ApplicationLifespan | None = None, **options: Unpack[RegisterOptions]) -> Lifespan:
    """Return an ASGI lifespan that registers the application as an instance of `service` while it runs.

    `also` is the application's own lifespan: it starts first, ends last, and its state is passed on. `options` are
    those of `p2plb.register`, with other defaults: the id is made from the address unless given, so that all workers
    behind one port share one record, and SIGTERM and SIGINT drain where the server handles them with `signal.signal` in
    this thread (uvicorn, also under gunicorn). With `required` the start fails unless the registry answers within
    `timeout`. Nothing waits for the record, because servers open their port only after the start: it is put when the
    port answers, and never in tests where no port is opened. With P2PLB_REGISTER=0 only `also` runs.
    """
    return Lifespan(service, also, options)


def _ask(source: Registry | str | None, service: str, timeout: float) -> None:
    """Raise `DiscoveryError` unless the registry tells of the service within `timeout` seconds."""
    answered = threading.Event()
    with closing(shared.hold(source)) as hold, closing(hold.registry.watch(service, lambda _snapshot: answered.set())):
        if not answered.wait(timeout):
            status = hold.registry.status()
            raise DiscoveryError(f"{status.url} has not answered within {timeout:g} s: {status.error or 'no word yet'}")
