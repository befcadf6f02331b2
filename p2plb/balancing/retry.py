"""Whether a call is tried again, and after how long. Pure: an outcome goes in, seconds or None come out.

Never sent (or said by the server to be never processed) is free: it moves on to a node not tried yet, for any method,
and counts neither as an attempt nor against `attempts`. Anything else is repeated only if the request may be processed
twice (`repeatable.may_repeat`) and its body can be sent twice.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from p2plb.balancing.call import Call, Fault, Outcome
from p2plb.instance import check_number
from p2plb.repeatable import Repeatable, check_repeatable

STATUSES: Final = frozenset({429, 502, 503, 504})
"""The statuses that elastic-transport retries; they speak of this instance or this moment."""
MISDIRECTED: Final = 421
MAX_ATTEMPTS: Final = 20


@dataclass(frozen=True)
class Retry:
    """How often and when a call is tried again, on another node if there is one.

    `attempts` counts the first. The first retry goes out at once, the next ones after a random time between 0 and
    `backoff` · 2^n seconds, at most `max_backoff` (full jitter; Envoy's 25 ms and ten times that). `statuses` are
    answers that are retried like errors. A `Retry-After` keeps calls away from that node for so long (at most 30 s);
    if there is no other node the call waits for it, unless it is longer than `max_retry_after` seconds.
    `repeatable` says which requests may be processed twice beside those that always may (RFC 9110's idempotent methods,
    and whatever carries `Idempotency-Key`): methods such as `{"POST"}`, or a function from a request to a bool.
    """

    attempts: int = 3
    statuses: Iterable[int] = STATUSES
    backoff: float = 0.025
    max_backoff: float = 0.25
    max_retry_after: float = 5.0
    repeatable: Repeatable = ()

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise TypeError(f"Retry(attempts=) is a whole number that counts the first, not {self.attempts!r}")
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ValueError(f"Retry(attempts=) is from 1 (no retry) to {MAX_ATTEMPTS}, not {self.attempts}")
        for name in ("backoff", "max_backoff", "max_retry_after"):
            check_number(getattr(self, name), f"Retry({name}=)", 0, 3600)
        statuses = frozenset(self.statuses) if isinstance(self.statuses, Iterable) else None
        if statuses is None or not all(isinstance(status, int) for status in statuses):
            raise TypeError(f"Retry(statuses=) is a collection of whole numbers such as {{503}}, not {self.statuses!r}")
        object.__setattr__(self, "statuses", statuses)
        object.__setattr__(self, "repeatable", check_repeatable(self.repeatable, "Retry(repeatable=)"))

    def pause(self, call: Call, outcome: Outcome, *, others: bool, now: float, rng: random.Random) -> float | None:
        """Return the seconds to wait before the next attempt, None to let the outcome stand.

        `others` says whether a node is left that is neither ejected nor tried.
        """
        if not self.retries(outcome) or not (call.repeatable and call.replayable) or call.attempt >= self.attempts:
            return None
        pause = 0.0
        if call.attempt > 1:
            pause = rng.uniform(0.0, min(self.max_backoff, self.backoff * 2.0 ** (call.attempt - 1)))
        if outcome.retry_after is not None and not others:
            if outcome.retry_after > self.max_retry_after:
                return None
            pause = max(pause, outcome.retry_after)
        return pause if call.deadline is None or now + pause < call.deadline else None

    def retries(self, outcome: Outcome) -> bool:
        """Whether an outcome of this kind is worth another attempt."""
        if outcome.error is not None:
            return outcome.fault is Fault.MAYBE_PROCESSED
        return outcome.status in frozenset(self.statuses)


def is_free(outcome: Outcome, call: Call) -> bool:
    """Whether another node may get the request, whatever its method: it certainly was not processed."""
    if outcome.fault is Fault.NEVER_SENT:
        return True  # the body was not touched either
    return call.replayable and (outcome.fault is Fault.NEVER_PROCESSED or outcome.status == MISDIRECTED)
