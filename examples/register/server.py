"""A service in one file: it serves with the standard library alone, registers itself, and leaves in good order.

    p2plb dev                                    # an etcd, in another terminal
    python examples/register/server.py           # as often as you like, also with --port
    p2plb curl hello/

Ctrl-C or SIGTERM drains it: callers are told first, calls on their way are answered, then it ends.
"""

import argparse
import contextlib
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from p2plb import register


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with who it is."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = f"hello from process {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that the base class gives it
        """Keep quiet."""


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description="A service that registers itself.")
    parser.add_argument("--service", default="hello")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--registry", help="default: P2PLB_REGISTRY, else etcd://127.0.0.1:2379")
    parser.add_argument("--id", help="default: random")
    parser.add_argument("--ttl", type=int, default=10)
    parser.add_argument("--drain-grace", type=float, default=1.0)
    options = parser.parse_args()

    with ThreadingHTTPServer(("", options.port), Hello) as server:
        registration = register(
            options.service,
            port=server.server_port,
            registry=options.registry,
            id=options.id,
            ttl=options.ttl,
            drain_on=(signal.SIGTERM, signal.SIGINT),
            drain_grace=options.drain_grace,
        )
        with contextlib.suppress(KeyboardInterrupt), registration:
            server.serve_forever()


if __name__ == "__main__":
    main()
