"""One instance of the demo: a small HTTP server in a process of its own that registers itself.

    python -m p2plb.cli.demo.instance NAME PORT REGISTRY

It ends with SIGTERM, after it has drained, or when its standard input ends because whoever started it is gone. Without
a registry (`-`) it only serves.
"""

import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from p2plb import register
from p2plb.discovery.registry import Registry
from p2plb.serving.registration import Registration

SERVICE = "demo"
TTL = 2
WORK = 0.002
"""Seconds that a request takes."""


class Handler(BaseHTTPRequestHandler):
    """Answers each GET after a moment of work."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with the name of the instance."""
        time.sleep(WORK)
        body = f"{self.path} from {sys.argv[1]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server that has nothing to say of connections which a caller resets."""

    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until told to end."""
    name, port, registry = sys.argv[1:]
    threading.Thread(target=end_with_parent, daemon=True).start()
    registered = (
        nullcontext() if registry == "-" else registration(name, int(port), registry, drain_on=(signal.SIGTERM,))
    )
    with Server(("127.0.0.1", int(port)), Handler) as server, registered:
        server.serve_forever()


def registration(name: str, port: int, registry: str | Registry, **how: Any) -> Registration:
    """Return what keeps an instance of the demo in the registry."""
    return register(SERVICE, host="127.0.0.1", port=port, registry=registry, ttl=TTL, metadata={"name": name}, **how)


def end_with_parent() -> None:
    """End the process at once when standard input ends."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
