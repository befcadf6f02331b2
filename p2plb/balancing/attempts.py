"""The heart: how one call goes on, as a plain generator of steps.

It knows nothing of sockets, threads or event loops. A driver carries each step out (httpx/transport.py has two, of
about twenty lines), writes what came of a `Send` to `call.outcome`, and goes on. When the generator ends, the call has
either `outcome` (an answer or the last real error) or `give_up`.

    wait for the first view → take a slot → { pick and claim a node → Send → (Send fresh) → enough? → Sleep } …
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Attempt, Call, Ending, Fault, GiveUp, Outcome
from p2plb.balancing.gate import Gate
from p2plb.balancing.node import Node
from p2plb.balancing.retry import Retry, is_free
from p2plb.observe.events import AttemptEnded, AttemptStarted, emit

Clock = Callable[[], float]
SERVER_ERROR = 500
TURNED_AWAY = frozenset({421, 429})


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request to the node, on an idle lane if there is one; `fresh`: on a new one."""

    node: Node
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait, perhaps 0 s. It stands before each new attempt: an answer in `call.outcome` must be disposed of first."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait at a gate until `ready()`, for at most `seconds` (None: for ever)."""

    gate: Gate
    ready: Callable[[], bool]
    seconds: float | None


Step = Send | Sleep | Wait


def attempts(balancer: Balancer, call: Call, retry: Retry | None, clock: Clock = time.monotonic) -> Iterator[Step]:
    """Yield the steps of one call; afterwards `call.outcome` or `call.give_up` says how it ended."""
    yield from first_view(balancer, call, clock)
    yield from _slot(call, clock)
    while call.give_up is None:
        node = balancer.claim(call, clock())
        if node is None:
            call.give_up = GiveUp(Ending.NO_INSTANCES) if call.outcome is None else None
            return
        yield from _attempt(balancer, call, retry, node, clock)
        pause = _pause(balancer, call, retry, clock())
        if pause is None:
            return
        call.let_go()
        yield Sleep(pause)


def first_view(balancer: Balancer, call: Call, clock: Clock) -> Iterator[Wait]:
    """Yield the wait for the registry's first list, if there is none yet and the call has patience left."""
    if balancer.view is not None:
        return
    now = clock()
    seconds = balancer.patience(now)
    if (left := call.left(now)) is not None:
        seconds = min(seconds, left)
    if seconds > 0:
        yield Wait(balancer.gate, balancer.ready, seconds)


def _slot(call: Call, clock: Clock) -> Iterator[Step]:
    if call.take_slot() or call.slots is None:
        return
    started = clock()
    bounds = [b for b in (call.pool_timeout, call.left(started)) if b is not None]
    ends = started + min(bounds) if bounds else None
    while not call.take_slot():
        seconds = None if ends is None else ends - clock()
        if seconds is not None and seconds <= 0:
            call.give_up = GiveUp(Ending.NO_CONNECTION)
            return
        yield Wait(call.slots.gate, call.slots.free, seconds)


def _attempt(balancer: Balancer, call: Call, retry: Retry | None, node: Node, clock: Clock) -> Iterator[Step]:
    call.attempt += 1
    call.tried.add(node)
    yield from _send(call, Send(node), clock)
    if retry is not None and retry.attempts > 1 and _was_stale(call) and not call.is_over(clock()):
        # The server closed the idle connection as the request left: that says nothing of its health (F07).
        yield from _send(call, Send(node, fresh=True), clock)
    _learn(balancer, node, call, clock())


def _send(call: Call, step: Send, clock: Clock) -> Iterator[Step]:
    node = step.node
    call.outcome = None
    call.sent_at = clock()
    if call.observers:
        emit(call.observers, AttemptStarted(call.service, node.instance, call.attempt))
    yield step
    outcome, seconds = _outcome(call), clock() - call.sent_at
    call.history.append(Attempt(node.instance, outcome.reason, seconds, outcome.reused, outcome.fault))
    if call.observers:
        event = AttemptEnded(call.service, node.instance, call.attempt, seconds, outcome.status, outcome.error)
        emit(call.observers, event)


def _was_stale(call: Call) -> bool:
    outcome = _outcome(call)
    lost = outcome.reused and outcome.fault is Fault.MAYBE_PROCESSED and not outcome.timed_out
    return lost and call.repeatable and call.replayable


def _learn(balancer: Balancer, node: Node, call: Call, now: float) -> None:
    outcome = _outcome(call)
    if outcome.fault is Fault.NEVER_SENT and not call.is_over(now):
        balancer.ejections.refused(node, now, outcome.reason)
    if outcome.status is None:
        if outcome.timed_out or (outcome.fault is Fault.MAYBE_PROCESSED and not outcome.reused):
            node.health.peak.failed(now - call.sent_at, now)
        return
    if node.health.refusals:
        balancer.ejections.answered(node, now)
    if outcome.retry_after is not None:
        balancer.ejections.rest(node, outcome.retry_after, now, f"answered {outcome.status} with Retry-After")
    if outcome.status < SERVER_ERROR and outcome.status not in TURNED_AWAY:
        node.health.sample(now - call.sent_at, now)
        node.health.report = outcome.report or node.health.report
    else:  # an error that comes fast must not look like a fast instance
        node.health.peak.failed(now - call.sent_at, now)


def _pause(balancer: Balancer, call: Call, retry: Retry | None, now: float) -> float | None:
    outcome = _outcome(call)
    if call.is_over(now):
        return None
    if is_free(outcome, call):
        call.attempt -= 1
        return 0.0 if balancer.untried(call) else None
    if retry is None or not retry.retries(outcome):
        return None
    others = balancer.others(call, now)
    if not others:
        call.tried.clear()  # a new round: a node that answered badly is a better bet than one that is ejected
    return retry.pause(call, outcome, others=others, now=now, rng=balancer.rng)


def _outcome(call: Call) -> Outcome:
    if call.outcome is None:
        raise AssertionError("a driver carries each Send out and sets call.outcome")
    return call.outcome
