"""What URLs mean under three routes; run it: `python examples/routing/routing.py`.

One small HTTP server stands for the instance of each service and for the plain host, and a fixed list for etcd.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import p2plb
from p2plb import Client, Policy


class Handler(BaseHTTPRequestHandler):
    """Answers with the path and the Host header that it sees."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path} of {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def server() -> Iterator[int]:
    """Run a server and give its port."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield running.server_address[1]
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def show(client: Client, *urls: str) -> None:
    for url in urls:
        response = client.get(url)
        served = response.extensions["p2plb"]
        print(f"{served.via}: {served.service} saw {response.text}")


def main() -> None:
    with server() as port, p2plb.static({"users": [f"127.0.0.1:{port}"]}) as registry:
        with Client(registry, services={"users": Policy(host="api.internal")}) as client:
            show(client, "http://users/42", "http://users:9000/42", f"http://localhost:{port}/42")

        with Client(registry, route=p2plb.by_host(only={"users"}, suffix=".p2p")) as client:
            show(client, "http://users.p2p/42")

        with Client(registry, route=p2plb.by_path({"/users": "users"}, host="localhost", strip=True)) as client:
            show(client, "http://localhost/users/42?full=1")


if __name__ == "__main__":
    main()
