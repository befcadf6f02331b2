"""Options that several commands share, and the registry that they name."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from p2plb.cli.trouble import arguments_checked, troubles
from p2plb.discovery.registry import Registry
from p2plb.instance import check_name


def add_registry(command: argparse.ArgumentParser) -> None:
    """Add `--registry`."""
    command.add_argument(
        "--registry",
        metavar="URL",
        help="where instances are recorded, such as etcd://127.0.0.1:2379 (default: $P2PLB_REGISTRY, else that)",
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    command.add_argument("--json", action="store_true", help="print JSON, one document a line")


def check_service(name: str | None) -> None:
    """Raise unless a name, if there is one, may be a service's."""
    if name is not None:
        with arguments_checked():
            check_name(name, "a service name")


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Registry]:
    """Give the registry that the command line or the environment names."""
    from p2plb.discovery import shared  # noqa: PLC0415  only commands that need a registry load it

    with arguments_checked():
        hold = shared.hold(arguments.registry)
    try:
        with troubles():
            yield hold.registry
    finally:
        hold.close()
