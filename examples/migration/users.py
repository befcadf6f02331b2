"""The service `users`: it registers itself, unless P2PLB_REGISTER=0, and says in each answer who gave it.

    PORT=8001 python examples/migration/users.py

The answer also has the header by which a trace goes on here, so that one can see that it arrived.
"""

import contextlib
import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from p2plb import register

PORT = int(os.environ["PORT"])


class Users(BaseHTTPRequestHandler):
    """Knows every user."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer at once."""
        user = {"name": "Ada", "served_by": PORT, "traceparent": self.headers["traceparent"]}
        body = json.dumps(user).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


def main() -> None:
    """Serve until a signal comes."""
    ends = (signal.SIGTERM, signal.SIGINT)
    with (
        ThreadingHTTPServer(("127.0.0.1", PORT), Users) as server,
        contextlib.suppress(KeyboardInterrupt),
        register("users", port=PORT, drain_on=ends),
    ):
        server.serve_forever()


if __name__ == "__main__":
    main()
