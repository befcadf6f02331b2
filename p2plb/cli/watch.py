"""`p2plb watch`: changes of the registry as they come."""

import argparse
import json
import queue
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from p2plb.cli import listing, options, text
from p2plb.discovery.registry import Registry
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance

LOOK_FOR_SERVICES = 2.0
"""Seconds between two lists that look for services which did not exist before."""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("watch", help="print changes as they come, until Ctrl-C")
    command.add_argument("service", nargs="?", help="only this service (default: all)")
    options.add_registry(command)
    options.add_json(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print each change until Ctrl-C."""
    options.check_service(arguments.service)
    say = as_json if arguments.json else as_line
    with options.opened(arguments) as registry:
        for change in follow(registry, arguments.service):
            print(say(change), flush=True)
    return 0


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one instance: `added`, `changed` or `removed`."""

    kind: str
    instance: Instance
    before: Instance | None = None


def follow(registry: Registry, service: str | None, look: float = LOOK_FOR_SERVICES) -> Generator[Change, None, None]:
    """Yield the changes of one service or of all, first what is there already; never ends by itself."""
    news: queue.SimpleQueue[Snapshot] = queue.SimpleQueue()
    known: dict[str, Snapshot] = {}
    names = _names(registry)  # also tells at once if the registry can't be reached
    with ExitStack() as watches:
        while True:
            for name in ({service} if service else names) - known.keys():
                known[name] = Snapshot(name, ())
                watches.callback(registry.watch(name, news.put).close)
            yield from _told(news, known, look)
            if service is None:
                with suppress(DiscoveryError):  # the registry is away for a while; the watches go on
                    names = _names(registry)


def _names(registry: Registry) -> set[str]:
    return {found.service for found in registry.list()}


def _told(news: "queue.SimpleQueue[Snapshot]", known: dict[str, Snapshot], seconds: float) -> Iterator[Change]:
    """Yield the changes that come within so many seconds."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            snapshot = news.get(timeout=left)
        except queue.Empty:
            return
        yield from changes(known[snapshot.service], snapshot)
        known[snapshot.service] = snapshot


def changes(before: Snapshot, after: Snapshot) -> list[Change]:
    """Return what happened between two snapshots of one service."""
    old = {instance.id: instance for instance in before.instances}
    new = {instance.id: instance for instance in after.instances}
    removed = [Change("removed", instance) for name, instance in old.items() if name not in new]
    added = [Change("added", instance) for name, instance in new.items() if name not in old]
    changed = [
        Change("changed", instance, old[name]) for name, instance in new.items() if old.get(name, instance) != instance
    ]
    return removed + added + changed


def as_line(change: Change) -> str:
    """Return a change for people."""
    mark = {"added": "+", "removed": "-", "changed": "~"}[change.kind]
    instance = change.instance
    differences = _differences(change.before, instance) if change.before else instance.state
    return text.clean(f"{mark} {instance.service}  {instance.id}  {instance.url}  {differences}")


def _differences(before: Instance, after: Instance) -> str:
    old, new = listing.record(before), listing.record(after)
    return ", ".join(f"{name} {old[name]} → {new[name]}" for name in new if old[name] != new[name])


def as_json(change: Change) -> str:
    """Return a change as one line of JSON."""
    return json.dumps({"change": change.kind, **listing.record(change.instance)})
