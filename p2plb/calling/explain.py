"""The text of `NoInstances`: what was looked for, where, how old, and who was passed over and why."""

import difflib
from functools import lru_cache

from p2plb.balancing.balancer import Balancer
from p2plb.discovery.registry import RegistryStatus

SHOWN = 5


def explain(balancer: Balancer, status: RegistryStatus, now: float, fallback: str | None = None) -> str:
    """Return why nobody can serve a call of this balancer's service, and what would help if the name is unknown."""
    return _situation(balancer, status, now) + _ways_out(balancer, fallback)


def _situation(balancer: Balancer, status: RegistryStatus, now: float) -> str:
    view = balancer.view
    if view is None:
        why = status.error or "it has not answered yet"
        return f"no instance of service {balancer.service!r}: nothing is known from {status.url} so far ({why})"
    text = f"no instance of service {balancer.service!r} in {status.url} at revision {view.snapshot.revision}"
    if status.age is not None:
        text += f", {status.age:.1f} s old"
    if status.error is not None and not status.connected:
        text += f" (the registry is away: {status.error})"
    passed = [f"{i.id} at {i.url}: {reason}" for i, reason in view.left_out]
    passed += [f"{n.id} at {n.instance.url}: {e.reason}" for n, e in balancer.ejections.reasons(now).items()]
    if status.skipped:
        text += f"; records that could not be read (the log says why): {status.skipped}"
    others = tuple(name for name in status.names if name != balancer.service)
    if passed:
        more = f"; and {len(passed) - SHOWN} more" if len(passed) > SHOWN else ""
        text += "; passed over: " + "; ".join(passed[:SHOWN]) + more
    elif near := nearest(balancer.service, others):
        text += "; did you mean " + " or ".join(repr(name) for name in near) + "?"
    elif others:
        text += "; it knows " + ", ".join(others[:SHOWN])
    return text


def _ways_out(balancer: Balancer, fallback: str | None) -> str:
    if fallback is not None and balancer.secure and not fallback.startswith("https:"):
        return f"; its fallback {fallback} is passed over: https was asked"
    if fallback is not None or (balancer.view is not None and balancer.view.snapshot.instances):
        return ""
    name = balancer.service
    return f" (a Policy(fallback=…) would serve; if {name!r} is a host, by_host(only=…) says what services are)"


@lru_cache(64)  # comparing with thousands of names takes long, and a wrong name is wrong for each call
def nearest(name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that look like `name`."""
    return tuple(difflib.get_close_matches(name, names, n=3, cutoff=0.5))
