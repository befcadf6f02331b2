"""Shards over a real etcd: instances in processes of their own say what they own, and callers go to them."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

import p2plb
from integration.harness.etcd import Etcd
from tests.contract_registry import Heard, until

SERVER = """
import sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import p2plb

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if p2plb.owns(self.path, timeout=20) else 421)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
options = {"registry": sys.argv[2], "drain_grace": 0.2}
with p2plb.register("users", id=sys.argv[1], host="127.0.0.1", port=server.server_port, **options):
    sys.stdin.read()
"""
KEYS = [f"/user-{number}" for number in range(60)]


@contextmanager
def server(name: str, registry: str, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an instance until its stdin is closed or the block ends."""
    command, env = [sys.executable, "-c", SERVER, name, registry], {**os.environ, "PYTHONHASHSEED": str(seed)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def test_instances_and_callers_agree(etcd: Etcd, prefix: str) -> None:
    """F85: each key's owner says that it is his, whatever hash seeds; F23: when he leaves, the next one says so."""
    registry = etcd.registry + prefix
    with ExitStack() as stack:
        processes = {f"i{n}": stack.enter_context(server(f"i{n}", registry, n)) for n in range(3)}
        client = stack.enter_context(p2plb.Client(registry, trust_env=False, start_timeout=20))
        shards = p2plb.Shards(client, "users")
        until(lambda: known(client) == set(processes))
        owners = {key: shards.owner(key).id for key in KEYS}
        assert set(owners.values()) == set(processes)
        until(lambda: {shards.get(key, f"http://users{key}").status_code for key in KEYS} == {200})

        changed = threading.Event()
        watch = shards.on_change(lambda _moved: changed.set())
        probe = client.registry.watch("users", heard := Heard())
        heard.waits_for(*processes)  # and so has who listens to changes
        probe.close()
        leaver, victim = owners[KEYS[0]], next(one for one in processes if one != owners[KEYS[0]])
        processes[leaver].communicate(b"")
        until(lambda: known(client) == set(processes) - {leaver})
        until(lambda: {shards.get(key, f"http://users{key}").status_code for key in KEYS} == {200})
        assert {key for key in KEYS if shards.owner(key).id != owners[key]} == {k for k in KEYS if owners[k] == leaver}
        assert changed.wait(20)
        watch.close()

        processes[victim].kill()
        processes[victim].wait()
        lost = next(key for key in KEYS if owners[key] == victim)
        with pytest.raises(httpx.ConnectError):
            shards.get(lost, f"http://users{lost}")


def known(client: p2plb.Client) -> set[str]:
    try:
        client.wait_ready("users", timeout=20)
    except p2plb.NoInstances:
        return set()
    return {node.id for node in client.stats().services["users"].nodes}
