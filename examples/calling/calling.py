"""One client, two services, each with a policy of its own; run it: `python examples/calling/calling.py`.

Three small HTTP servers in threads stand for the instances, and `memory://` for etcd, so nothing else is needed. With a
real etcd only the registry's URL changes.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import p2plb
from p2plb import Client, ConsistentHash, Policy, Retry, RoundRobin


class Handler(BaseHTTPRequestHandler):
    """Answers with its own port, the path and the Host header."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        port = self.connection.getsockname()[1]
        body = f"{port} {self.path} Host: {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def instances(count: int) -> Iterator[list[int]]:
    """Run servers and give their ports."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(count)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield [server.server_address[1] for server in servers]
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def main() -> None:
    with instances(3) as ports:
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        with Client(
            f"static://users={addresses}&orders={addresses}",
            policy=Policy(strategy=RoundRobin(), retry=Retry(attempts=2), timeout=5),
            services={"orders": Policy(strategy=ConsistentHash(p2plb.header("x-customer")))},
        ) as client:
            served = Counter(client.get("http://users/42").text.split()[0] for _ in range(30))
            print("users, in turn:", sorted(served.values()))

            headers = {"x-customer": "ada"}
            owners = {client.get("http://orders/7", headers=headers).text.split()[0] for _ in range(10)}
            print("orders of one customer, instances:", len(owners))

            response = client.get("http://users/42", extensions=p2plb.call(key="42", timeout=1))
            who = response.extensions["p2plb"]
            print("served by", who.instance.id, "via", who.via, "in", len(who.attempts), "attempt")
            print("it saw:", response.text.partition(" ")[2])

            try:
                client.get("http://user/42")
            except p2plb.NoInstances as error:
                print("NoInstances:", str(error).partition("; ")[2])

            nodes = client.stats().services["users"].nodes
            print("stats:", ", ".join(f"{node.state} {node.in_flight} in flight" for node in nodes))


if __name__ == "__main__":
    main()
