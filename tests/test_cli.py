"""The command line without a network: how it parses, what it prints, with what it exits."""

import json
import re
import socket
import subprocess
import sys
from unittest.mock import Mock

import httpx
import pytest

from p2plb.cli import curl, dev, etcd, listing, main, text, watch
from p2plb.cli.trouble import Trouble, arguments_checked, troubles
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance


def users(*ids: str, state: str = "up") -> Snapshot:
    return Snapshot("users", tuple(Instance(i, "users", "http://10.0.0.7:8000", state=state) for i in ids), 3)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names the program and its version."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"p2plb \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("argv", [[], ["sing"], ["curl"], ["ls", "--port", "1"], ["dev", "--port", "x"]])
def test_wrong_usage_is_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What the parser does not understand ends with 2 and a usage line."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: p2plb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["curl", "/users"], "SERVICE/PATH"),
        (["curl", "ftp://users/"], "SERVICE/PATH"),
        (["curl", "users/", "-H", "no colon"], "Name: value"),
        (["dev", "--port", "70000"], "from 1 to 65535"),
        (["demo", "--seconds", "0"], "greater than 0"),
        (["ls", "a b", "--registry", "memory://"], "a service name is"),
        (["watch", "bad/name", "--registry", "memory://"], "a service name is"),
        (["curl", "user s/x", "--registry", "memory://"], "a service name is"),
        (["curl", "users/", "--timeout", "-1", "--registry", "memory://"], "--timeout is from"),
        (["curl", "users/", "--timeout", "nan", "--registry", "memory://"], "--timeout is from"),
        (["curl", "users/", "--timeout", "inf", "--registry", "memory://"], "--timeout is from"),
    ],
)
def test_nonsense_is_two(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What makes no sense ends with 2 and one line that says what would."""
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("p2plb: ")
    assert said in error
    assert error.count("\n") == 1


def test_tls_files_of_no_use_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A path that no system knows is trouble, and harmless to the terminal."""
    assert main(["ls", "--registry", "etcds://127.0.0.1:1?ca=%00"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("p2plb: can't use the TLS files")
    assert error.rstrip("\n").isprintable()


def test_a_driver_that_is_not_installed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A registry URL that needs a package says which, instead of a traceback."""
    monkeypatch.setitem(sys.modules, "etcd3", None)
    assert main(["ls", "--registry", "etcd+grpc://127.0.0.1:1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'p2plb[etcd3]'" in line


def test_closed_streams_are_nothing_to_fail_of() -> None:
    """`p2plb ls >&-` ends well, though nobody will read it."""
    command = [sys.executable, "-W", "error", "-m", "p2plb.cli", "ls", "--registry", "memory://"]
    for closing in ("exec >&-", "exec 2>&-", "exec >&- 2>&-"):
        script = f'{closing}; "$@"'
        done = subprocess.run(["/bin/sh", "-c", script, "sh", *command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_can_not_be_read_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """F46: of many records the first ones are shown, without what steers a terminal, and on standard error."""
    listing.tell_skipped([(f"/p2plb/services/users/i{number}\x1b", "version 2 is newer") for number in range(40)])
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert lines[0].endswith("40 records")
    assert lines[1] == "  /p2plb/services/users/i0\ufffd: version 2 is newer"
    assert len(lines) == 1 + listing.SHOWN_RECORDS
    listing.tell_skipped([])
    assert capsys.readouterr().err == ""


def test_troubles() -> None:
    """What the library reports of the registry or the network ends a command with one line."""
    with pytest.raises(Trouble, match=r"^etcd is away$"), troubles():
        raise DiscoveryError("etcd is\naway")
    with pytest.raises(Trouble, match=r"^ReadError$"), troubles():
        raise httpx.ReadError("")


def test_a_bug_is_no_trouble() -> None:
    """A bug keeps its traceback: it is neither the network's fault nor the user's."""
    with pytest.raises(TypeError), troubles(), arguments_checked():
        raise TypeError("x")


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends any command with 130 and no traceback."""
    monkeypatch.setattr(dev, "check_port", Mock(side_effect=KeyboardInterrupt))
    assert main(["dev"]) == 130


def test_taken_port_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """`dev` on a port that is taken says so, and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["dev", "--port", str(taken.getsockname()[1])]) == 1
    assert "is taken: choose another with --port" in capsys.readouterr().err


def test_gist_of_a_log() -> None:
    """Of an etcd that does not start the user sees what and why, not the log between."""
    assert etcd.gist("etcd is not ready:\nwarn 1\nwarn 2\nbind: taken\n") == "etcd is not ready: bind: taken"
    assert etcd.gist("no etcd") == "no etcd"


def test_terminal_is_safe() -> None:
    """What a registry holds can't steer the terminal."""
    assert text.clean("a\x1b[2Jb\r\nc") == "a\ufffd[2Jb\ufffd\ufffdc"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (-3, "0s"), (59.4, "59s"), (61, "1m"), (7200, "2h"), (200_000, "2d")],
)
def test_ago(seconds: float | None, said: str) -> None:
    """Ages are short."""
    assert text.ago(seconds) == said


def test_columns() -> None:
    """Plain tables are aligned and have no trailing blanks."""
    assert text.columns([["A", "B"], ["long", "x"]]) == ["A     B", "long  x"]


def test_tables_do_not_need_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same table appears with rich and without; markup of the registry's is text."""
    for pretty in (True, False):
        monkeypatch.setattr(text, "pretty", lambda pretty=pretty: pretty)
        text.print_table(["ID", "ZONE"], [["anna", "[red]z\x1b"]])
        lines = capsys.readouterr().out.splitlines()
        assert [line.split() for line in lines] == [["ID", "ZONE"], ["anna", "[red]z\ufffd"]]


def test_row_and_document() -> None:
    """`ls` shows an instance by what it says of itself, in JSON without derived fields."""
    instance = Instance("a1", "users", "http://10.0.0.7:8000", zone="z\x1b", weight=2.0, started=1000.0, sdk="p2plb/1")
    assert listing.row(instance, 1090.0) == ("users", "a1", instance.url, "up", "z\x1b", "2", "1m", "p2plb/1")
    document = json.loads(json.dumps(listing.document(Snapshot("users", (instance,), 7))))
    assert document["revision"] == 7
    assert document["instances"][0]["url"] == "http://10.0.0.7:8000"
    assert "host" not in document["instances"][0]


def test_changes() -> None:
    """`watch` tells who came, who went and what changed, and nothing of who stayed as they were."""
    before = users("gone", "same")
    after = Snapshot("users", (*users("new").instances, *users("same").instances), 4)
    assert [(change.kind, change.instance.id) for change in watch.changes(before, after)] == [
        ("removed", "gone"),
        ("added", "new"),
    ]
    assert [watch.as_line(change) for change in watch.changes(users("a"), users("a", state="draining"))] == [
        "~ users  a  http://10.0.0.7:8000  state up → draining"
    ]
    (added,) = watch.changes(users(), users("a"))
    assert json.loads(watch.as_json(added)) | {"change": "added", "id": "a"} == json.loads(watch.as_json(added))


@pytest.mark.parametrize(
    ("target", "url"),
    [("users/a?b=c", "http://users/a?b=c"), ("users", "http://users"), ("https://users/x", "https://users/x")],
)
def test_curl_target(target: str, url: str) -> None:
    """The target of `curl` may be written short or as a URL."""
    assert curl.target_url(target) == url


def test_curl_service() -> None:
    """In the short form everything before the path is the service; a URL is the client's to judge."""
    assert [curl.service_of(target) for target in ("a.b/x", "users?q", "http://u/x")] == ["a.b", "users", None]


def test_curl_headers() -> None:
    """Headers are written as curl's are."""
    assert curl.parse_headers(["X-A: b: c", "Y:"]) == [("X-A", "b: c"), ("Y", "")]
