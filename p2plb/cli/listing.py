"""`p2plb ls`: who is registered."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from p2plb.cli import options, text
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance

HEADERS = ("SERVICE", "ID", "URL", "STATE", "ZONE", "WEIGHT", "AGE", "SDK")
SHOWN_RECORDS = 10
SHOWN_KEY = 200


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("ls", help="list services and their instances")
    command.add_argument("service", nargs="?", help="only this service")
    options.add_registry(command)
    options.add_json(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List all services or one of them; on standard error, what could not be read of them."""
    options.check_service(arguments.service)
    with options.opened(arguments) as registry:
        snapshots = [found for found in registry.list() if arguments.service in (None, found.service)]
        skipped = registry.unreadable()
        where = registry.url
    if arguments.json:
        print(json.dumps([document(snapshot) for snapshot in snapshots]))
    elif rows := list(table(snapshots, time.time())):
        text.print_table(HEADERS, rows)
    else:
        print(f"no instances{' of ' + arguments.service if arguments.service else ''} in {where}")
    prefix = f"/{arguments.service}/" if arguments.service else ""
    tell_skipped([(key, reason) for key, reason in skipped if prefix in key])
    return 0


def tell_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    """Say which records can't be read, and why: to callers these instances do not exist."""
    if skipped:
        count = f"{len(skipped)} record{'s' if len(skipped) > 1 else ''}"
        lines = [f"passed over, because callers can't read them: {count}"]
        lines += [f"  {key[:SHOWN_KEY]}: {reason}" for key, reason in skipped[:SHOWN_RECORDS]]
        print("\n".join(map(text.clean, lines)), file=sys.stderr)


def table(snapshots: Iterable[Snapshot], now: float) -> Iterable[tuple[object, ...]]:
    """Return one row for each instance; `now` is wall time."""
    return (row(instance, now) for snapshot in snapshots for instance in snapshot.instances)


def row(instance: Instance, now: float) -> tuple[object, ...]:
    """Return the cells of one instance."""
    age = None if instance.started is None else now - instance.started
    return (
        instance.service,
        instance.id,
        instance.url,
        instance.state,
        instance.zone or "-",
        f"{instance.weight:g}",
        text.ago(age),
        instance.sdk or "-",
    )


def document(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot ready for JSON."""
    return {
        "service": snapshot.service,
        "revision": snapshot.revision,
        "instances": [record(instance) for instance in snapshot.instances],
    }


def record(instance: Instance) -> dict[str, Any]:
    """Return an instance ready for JSON, without what only repeats its url."""
    return {name: value for name, value in asdict(instance).items() if name not in {"scheme", "host", "port"}}
