"""Users spread over three instances, each with its part of the data; run it: `python examples/sharding/sharding.py`.

Three small HTTP servers in threads stand for the instances, and `memory://` for etcd, so nothing else is needed. With a
real etcd only the registry's URL changes.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

import p2plb
from p2plb.discovery.memory import MemoryRegistry

Users = dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """Keeps users in memory: `POST /add` takes some, `POST /bulk` returns those that it has of some ids."""

    def __init__(self, users: Users, *args: object) -> None:
        self.users = users
        super().__init__(*args)  # type: ignore[arg-type]  # as the server passes them

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/add":
            self.users.update(asked)
        found = {one: self.users[one] for one in asked if one in self.users}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Instance:
    """One server with its own data, recorded under its name until it stops."""

    def __init__(self, registry: MemoryRegistry, name: str) -> None:
        self.name = name
        self._registry = registry
        self.users: Users = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self.users))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        registry.put(p2plb.Instance(name, "users", f"http://127.0.0.1:{self._server.server_port}"))

    def crash(self) -> None:
        """Stop without a word to the registry."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def leave(self) -> None:
        """Take the record out."""
        self._registry.remove(self.name)


@contextmanager
def service(registry: MemoryRegistry) -> Iterator[dict[str, Instance]]:
    """Run three instances."""
    instances = {name: Instance(registry, name) for name in ("users-0", "users-1", "users-2")}
    try:
        yield instances
    finally:
        for one in instances.values():
            one.crash()


def main() -> None:
    """Store each user with its owner, collect them again, and lose an instance."""
    names = [f"user-{number}" for number in range(300)]
    with MemoryRegistry() as registry, service(registry) as instances, p2plb.Client(registry) as client:
        shards = p2plb.Shards(client, "users")

        def bulk(keys: list[str]) -> httpx.Request:
            return client.build_request("POST", "http://users/bulk", json=keys)

        for name in names:
            shards.post(name, "http://users/add", json={name: name.upper()})
        print("stored:", {one.name: len(one.users) for one in instances.values()})

        found: Users = {}
        for part in shards.scatter(names, bulk).succeeded:
            found |= part.result().json()
        print("collected:", len(found))

        instances["users-1"].crash()
        result = shards.scatter(names, bulk, timeout=5)
        print("answered:", sum(len(part.keys) for part in result.succeeded))
        for part in result.failed:
            print("failed:", part.instance.id, len(part.keys), type(part.error).__name__, part.maybe_processed)

        changed = threading.Event()
        watch = shards.on_change(lambda moved: changed.set() if "user-1" in moved else None)
        before = shards.owners("user-1", replicas=2)
        instances["users-1"].leave()
        changed.wait(5)
        print("user-1:", [one.id for one in before], "then", shards.owner("user-1").id)
        watch.close()


if __name__ == "__main__":
    main()
