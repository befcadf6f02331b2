"""`p2plb dev`: an etcd for development, gone without a trace when it is stopped."""

import argparse
import socket
from typing import Any

from p2plb.cli import etcd
from p2plb.cli.signals import unwinding
from p2plb.cli.trouble import Trouble, Usage

HIGHEST_PORT = 65_535


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("dev", help="run an etcd for development until Ctrl-C")
    command.add_argument("--port", type=int, default=2379, help="its port on 127.0.0.1 (2379)")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run etcd until Ctrl-C."""
    check_port(arguments.port)
    with unwinding(), etcd.started(arguments.port) as node:
        print(f"etcd for development, until Ctrl-C; its data are removed then\n\n{hint(node.registry)}", flush=True)
        if node.process is not None:
            node.process.wait()
    raise Trouble("etcd has ended by itself")


def check_port(port: int) -> None:
    """Raise unless this port of the loopback can be listened on."""
    if not 0 < port <= HIGHEST_PORT:
        raise Usage(f"a port is from 1 to {HIGHEST_PORT}, not {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Trouble(f"port {port} is taken: choose another with --port ({error.strerror})") from error


def hint(registry: str) -> str:
    """Return what to type next."""
    return f"    export P2PLB_REGISTRY={registry}\n    p2plb ls"
