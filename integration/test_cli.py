"""The command line against a real etcd and real servers."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.harness.commands import PATIENCE, PROGRAM, interrupt, p2plb, read_until, started
from integration.harness.etcd import Etcd
from integration.harness.records import Writer, writer
from integration.harness.servers import Server, free_port, running
from p2plb.cli import main
from p2plb.cli.listing import record
from p2plb.cli.watch import as_json, follow
from p2plb.discovery import shared
from p2plb.instance import Instance

ANNA = Instance("anna", "users", "http://127.0.0.1:8001", zone="a", weight=2.0, sdk="p2plb/9")
BEN = Instance("ben", "orders", "http://127.0.0.1:8002")


@pytest.fixture
def registry(etcd: Etcd, prefix: str) -> str:
    return etcd.registry + prefix


@pytest.fixture
def out(etcd: Etcd, prefix: str) -> Iterator[Writer]:
    with writer(etcd.url, prefix) as out:
        yield out


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    with running(2) as servers:
        yield servers


def test_ls(registry: str, out: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """`ls` prints all instances of all services, or of one; `--json` the same for programs."""
    out.put(ANNA)
    out.put(BEN)
    assert main(["ls", "--registry", registry]) == 0
    header, ben, anna = capsys.readouterr().out.splitlines()
    assert header.split() == ["SERVICE", "ID", "URL", "STATE", "ZONE", "WEIGHT", "AGE", "SDK"]
    assert ben.split()[:4] == ["orders", "ben", BEN.url, "up"]
    assert anna.split() == ["users", "anna", ANNA.url, "up", "a", "2", "-", "p2plb/9"]
    assert main(["ls", "users", "--json", "--registry", registry]) == 0
    (service,) = json.loads(capsys.readouterr().out)
    assert (service["service"], [(i["id"], i["sdk"]) for i in service["instances"]]) == ("users", [("anna", "p2plb/9")])
    assert main(["ls", "nobody", "--registry", registry]) == 0
    assert "no instances of nobody" in capsys.readouterr().out


def test_ls_tells_what_can_not_be_read(
    etcd: Etcd, registry: str, prefix: str, out: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    """F46: an instance that callers pass over is not simply missing; standard error says why."""
    out.put(ANNA)
    etcd.put(f"{prefix}/services/users/b", '{"v": 2}')
    etcd.put(f"{prefix}/services/users2/c", "nonsense")
    assert main(["ls", "users", "--registry", registry]) == 0
    said = capsys.readouterr()
    assert "anna" in said.out
    assert "1 record\n" in said.err
    assert f"{prefix}/services/users/b: version 2 is newer than this p2plb" in said.err
    assert main(["ls", "--json", "--registry", registry]) == 0
    assert "2 records\n" in capsys.readouterr().err


def test_no_etcd_is_one_line() -> None:
    """Without an etcd a command ends with 1 and one line that holds no password."""
    done = p2plb("ls", P2PLB_REGISTRY=f"etcd://me:hunter2@127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("p2plb: ")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def test_wrong_registry_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """A registry URL that makes no sense ends with 2."""
    assert main(["ls", "--registry", "zookeeper://x"]) == 2
    assert "p2plb: " in capsys.readouterr().err


def test_watch(registry: str, out: Writer) -> None:
    """`watch` prints who is there, comes, changes and goes, until Ctrl-C, which leaves no traceback."""
    out.put(ANNA)
    with started("watch", "users", "--registry", registry) as process:
        read_until(process, "+ users  anna  http://127.0.0.1:8001  up")
        out.put(replace(ANNA, state="draining"))
        read_until(process, "~ users  anna  http://127.0.0.1:8001  state up → draining")
        out.delete(ANNA)
        read_until(process, "- users  anna")
        assert interrupt(process) == 130
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_watch_finds_new_services(registry: str, out: Writer) -> None:
    """Without a name `watch` also tells of services that appear later."""
    out.put(BEN)
    with contextlib.closing(shared.hold(registry)) as hold:
        changes = follow(hold.registry, None, look=0.02)
        assert next(changes).instance == BEN
        out.put(ANNA)
        assert json.loads(as_json(next(changes))) == {"change": "added"} | json.loads(json.dumps(record(ANNA)))
        changes.close()


def test_broken_pipe_is_quiet(registry: str, out: Writer) -> None:
    """Whoever stops reading ends the command without a word."""
    command = [*PROGRAM, "watch", "users", "--registry", registry]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        out.put(ANNA)
        process.stdout.readline()
        process.stdout.close()
        out.delete(ANNA)
        assert process.wait(PATIENCE) == 1
        assert process.stderr.read() == ""


def test_curl(registry: str, out: Writer, servers: list[Server], capsys: pytest.CaptureFixture[str]) -> None:
    """`curl` sends what it is told to an instance and prints the body; `-v` says who answered."""
    for server in servers:
        out.put(server.instance)
    assert main(["curl", "users/a?b=c", "-v", "-H", "X-A: 1", "-d", "text", "--registry", registry]) == 0
    said = capsys.readouterr()
    seen = json.loads(said.out)
    assert (seen["method"], seen["target"], seen["headers"]["x-a"], seen["body"]) == ("POST", "/a?b=c", "1", "text")
    assert f"* {seen['instance']} http://127.0.0.1:" in said.err
    assert "< HTTP/1.1 200" in said.err


def test_curl_key(registry: str, out: Writer, servers: list[Server], capsys: pytest.CaptureFixture[str]) -> None:
    """The same key reaches the same instance each time, other keys reach others."""
    for server in servers:
        out.put(server.instance)

    def instance(key: str) -> str:
        main(["curl", "users/", "-X", "DELETE", "--key", key, "--registry", registry])
        return str(json.loads(capsys.readouterr().out)["instance"])

    found = [instance(str(key)) for key in range(12)]
    assert found == [instance(str(key)) for key in range(12)]
    assert len(set(found)) == 2


def test_curl_unknown_service(registry: str, out: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """A service that nobody has registered is one line on standard error, and 1."""
    out.put(ANNA)
    assert main(["curl", "usres/", "--registry", registry]) == 1
    error = capsys.readouterr().err
    assert error.startswith("p2plb: ")
    assert error.count("\n") == 1
    assert "users" in error


def test_curl_without_etcd() -> None:
    """F35: an etcd that can't be reached is one line too: the warnings of the watch say nothing that it doesn't."""
    done = p2plb("curl", "users/", P2PLB_REGISTRY=f"etcd://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("p2plb: no instance of service 'users'")
    assert done.stderr.count("\n") == 1


def test_dev(tmp_path: Path) -> None:
    """`dev` runs an etcd that works, and Ctrl-C leaves neither process nor data."""
    port = free_port()
    with started("dev", "--port", str(port), TMPDIR=str(tmp_path)) as process:
        read_until(process, f"export P2PLB_REGISTRY=etcd://127.0.0.1:{port}")
        assert main(["ls", "--registry", f"etcd://127.0.0.1:{port}"]) == 0
        assert interrupt(process) == 130
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port))
    assert list(tmp_path.iterdir()) == []


def test_version_loads_nothing_heavy() -> None:
    """`p2plb --version` does not even import httpx."""
    program = "import sys\nfrom p2plb.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
    check = "assert not {'httpx', 'asyncio', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program + check], check=True, stdout=subprocess.DEVNULL)
