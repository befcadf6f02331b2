"""Load for the long checks: many calls in flight in the background, and what the client saw of each.

with Load(registry, asynchronous=True, in_flight=16, count=20_000) as load:
    while load.runs(0.5):
        break_something()
print(load.log.answers)
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from integration.harness.journal import Answer
from p2plb import AsyncClient, Client
from p2plb.observe.events import Observer

SERVICE = "users"
ENDLESS = 10**9


@dataclass
class Log:
    """What the client saw, in any order; appending is atomic."""

    answers: list[Answer] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Answer]:
        """Return the calls that ended with an error or with another status than 200."""
        return [answer for answer in self.answers if answer.error or answer.status != httpx.codes.OK]

    def answered(self, number: int, response: httpx.Response) -> None:
        """Note an answer."""
        body_id = response.json().get("id") if response.is_success else None
        self.answers.append(Answer(str(number), response.request.method, response.status_code, body_id))
        if len(response.extensions["p2plb"].attempts) > 1:
            self.repeated.append(str(number))

    def broke(self, number: int, method: str, error: Exception) -> None:
        """Note an error."""
        self.answers.append(Answer(str(number), method, error=f"{type(error).__name__}: {error}"))


class Load:
    """Calls in flight from entering to leaving, or until `count` calls are made; `pause` seconds lie between two."""

    def __init__(
        self,
        registry: str,
        *,
        asynchronous: bool,
        in_flight: int,
        method: str = "GET",
        count: int = ENDLESS,
        pause: float = 0.0,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.log = Log()
        self._settings: dict[str, Any] = {"observers": observers, "trust_env": False}
        self._registry = registry
        self._in_flight = in_flight
        self._method = method
        self._pause = pause
        self._numbers = iter(range(count))  # shared by all workers: `next` of a range is atomic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_async if asynchronous else self._run_threads)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def runs(self, seconds: float) -> bool:
        """Wait so long, and say whether calls are still being made."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def _turns(self) -> Iterator[int]:
        """Yield the number of the next call for one worker until it is told to stop."""
        for number in self._numbers:
            if self._stop.is_set():
                return
            yield number

    def _request(self, number: int) -> dict[str, Any]:
        return {"method": self._method, "url": f"http://{SERVICE}/{number}", "headers": {"x-request-id": str(number)}}

    def _run_threads(self) -> None:
        with (
            Client(self._registry, **self._settings) as client,
            ThreadPoolExecutor(self._in_flight) as pool,
        ):
            for _ in pool.map(lambda _: self._work(client), range(self._in_flight)):
                pass  # an error of a worker is raised here

    def _work(self, client: httpx.Client) -> None:
        for number in self._turns():
            try:
                self.log.answered(number, client.request(**self._request(number)))
            except httpx.HTTPError as error:
                self.log.broke(number, self._method, error)
            self._stop.wait(self._pause)

    def _run_async(self) -> None:
        asyncio.run(self._async_workers())

    async def _async_workers(self) -> None:
        async with AsyncClient(self._registry, **self._settings) as client:
            await asyncio.gather(*(self._async_work(client) for _ in range(self._in_flight)))

    async def _async_work(self, client: httpx.AsyncClient) -> None:
        for number in self._turns():
            try:
                self.log.answered(number, await client.request(**self._request(number)))
            except httpx.HTTPError as error:
                self.log.broke(number, self._method, error)
            await asyncio.sleep(self._pause)
