"""Moving a service over by steps, and back; run it: `python examples/fallback/moving.py`.

One small HTTP server is the old way to the service (a load balancer, a Kubernetes Service), two are its instances, and
`memory://` stands for etcd, so nothing else is needed.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from p2plb import Client, Instance, Policy
from p2plb.discovery.memory import MemoryRegistry


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def servers(count: int) -> Iterator[list[str]]:
    """Run servers and give their origins."""
    running = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(count)]
    threads = [threading.Thread(target=server.serve_forever) for server in running]
    for thread in threads:
        thread.start()
    try:
        yield [f"http://127.0.0.1:{server.server_address[1]}" for server in running]
    finally:
        for server, thread in zip(running, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def served(client: Client, calls: int = 200) -> dict[str, int]:
    """Return by which way calls were served; a failure ends the program."""
    ways: Counter[str] = Counter()
    for _ in range(calls):
        response = client.get("http://users/42").raise_for_status()
        ways[str(response.extensions["p2plb"].via)] += 1
    return dict(sorted(ways.items()))


def main() -> None:
    with servers(3) as (old, *peers), MemoryRegistry() as registry:
        with Client(registry, policy=Policy(fallback=old)) as client:
            print("nobody registered:", served(client))

        for number, url in enumerate(peers):
            registry.put(Instance(f"users-{number}", "users", url))
        for share in (0.05, 0.5, 1.0):
            with Client(registry, policy=Policy(fallback=old, share=share)) as client:
                print(f"share {share}:", served(client))

        with Client(registry, policy=Policy(fallback=old)) as client:
            served(client)
            os.environ["P2PLB_BYPASS"] = "users"
            time.sleep(1)  # it is looked at once a second
            print("bypassed:", served(client))
            print("went to the fallback:", client.stats().services["users"].fallbacks)
            del os.environ["P2PLB_BYPASS"]


if __name__ == "__main__":
    main()
