"""Registers a server that is another program, whatever it is written in, and ends it only when callers know.

    p2plb dev                                                              # an etcd, in another terminal
    python examples/register/wrapper.py --port 8001 -- hypercorn app:app --bind 127.0.0.1:8001
    p2plb curl hello/

SIGTERM and Ctrl-C drain: callers are told, the server goes on for the grace, and only then hears of it.
"""

import argparse
import signal
import subprocess
import sys

from p2plb import register

ENDING = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Run the server until it ends, and return its exit status."""
    parser = argparse.ArgumentParser(description="Registers a server that is another program.")
    parser.add_argument("--service", default="hello")
    parser.add_argument("--port", type=int, required=True, help="the one on which the server listens")
    parser.add_argument("--registry", help="default: P2PLB_REGISTRY, else etcd://127.0.0.1:2379")
    parser.add_argument("--drain-grace", type=float, default=1.0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    # A process group of its own, so that a Ctrl-C in the terminal does not reach the server before its callers.
    with subprocess.Popen(options.command, process_group=0) as server:
        for number in ENDING:
            signal.signal(number, lambda *_: server.terminate())
        try:
            with register(
                options.service,
                port=options.port,
                registry=options.registry,
                drain_on=ENDING,
                drain_grace=options.drain_grace,
            ):
                return server.wait()
        finally:
            server.terminate()  # else one that can't be registered would go on, and this program wait for it


if __name__ == "__main__":
    sys.exit(main())
