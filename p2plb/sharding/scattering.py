"""What became of a scatter: one part for each owner, each with an answer or an error.

Pure: it reads what answers and errors of every httpx family have, and sends nothing.
"""

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from p2plb.instance import Instance

Key = TypeVar("Key")
Response = TypeVar("Response")
MISDIRECTED: Final = 421  # RFC 9110: the server did not look at the request


class NotSent(TimeoutError):
    """The time of a scatter was over before a part of it was sent."""


@dataclass(frozen=True, slots=True)
class Part(Generic[Key, Response]):
    """One owner's part of a scatter.

    `error` is None if it succeeded: an answer that httpx calls a success. Else it says why not; `response` is there if
    there was an answer at all, and `maybe_processed` is False only if the request was certainly not carried out.
    """

    instance: Instance
    keys: tuple[Key, ...]
    response: Response | None = None
    error: Exception | None = None
    maybe_processed: bool = True

    def result(self) -> Response:
        """Return the answer of a part that succeeded, or raise the error of one that did not."""
        if self.error is not None or self.response is None:
            raise self.error or AssertionError("a part has an answer or an error")
        return self.response


@dataclass(frozen=True, slots=True)
class Scattered(Generic[Key, Response]):
    """What became of a scatter: its parts, in the order in which their first keys were given."""

    parts: tuple[Part[Key, Response], ...]

    @property
    def succeeded(self) -> tuple[Part[Key, Response], ...]:
        """The parts that were answered with success."""
        return tuple(part for part in self.parts if part.error is None)

    @property
    def failed(self) -> tuple[Part[Key, Response], ...]:
        """The parts that were not."""
        return tuple(part for part in self.parts if part.error is not None)

    @property
    def failed_keys(self) -> list[Key]:
        """The keys of all parts that failed."""
        return [key for part in self.failed for key in part.keys]


def answered(instance: Instance, keys: tuple[Key, ...], response: Response) -> Part[Key, Response]:
    """Return the part that an answer makes."""
    found: Any = response
    try:
        found.raise_for_status()
    except Exception as error:  # each family has its own
        return Part(instance, keys, response, error, found.status_code != MISDIRECTED or bool(found.history))
    return Part(instance, keys, response)


def failed(instance: Instance, keys: tuple[Key, ...], request: Any, error: Any) -> Part[Key, Any]:
    """Return the part that an error makes. If it is of another request, this one was answered with a redirect."""
    served = getattr(error, "p2plb", None)
    if served is None:
        return Part(instance, keys, None, error, not isinstance(error, NotSent))
    return Part(instance, keys, None, error, served.maybe_processed or error.request is not request)
