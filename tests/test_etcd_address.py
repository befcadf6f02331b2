"""`p2plb.etcd(…)` and what the environment adds to it and to URLs: who wins, and what is wrong, without a network."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import p2plb
from p2plb.discovery import urls
from p2plb.discovery.etcd import address
from p2plb.discovery.etcd.address import EtcdURL
from p2plb.discovery.shared import Table

HOST = ("h1:2379",)
LOGIN = {"P2PLB_ETCD_USER": "env", "P2PLB_ETCD_PASSWORD": "geheim"}
FILES = {"P2PLB_ETCD_CA": "e-ca", "P2PLB_ETCD_CERT": "e-cert", "P2PLB_ETCD_KEY": "e-key"}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("P2PLB_ETCD_")]:
        monkeypatch.delenv(name)
    yield
    address._warn_of_plain_password.cache_clear()


@pytest.mark.parametrize(
    ("url", "environ", "meaning"),
    [
        ("etcd://h1", {}, EtcdURL(HOST)),
        ("etcd://h1", LOGIN, EtcdURL(HOST, user="env", password="geheim")),
        ("etcd://me@h1", LOGIN, EtcdURL(HOST, user="me", password="geheim")),
        ("etcd://me:pw@h1", LOGIN, EtcdURL(HOST, user="me", password="pw")),
        ("etcd://me@h1", {"P2PLB_ETCD_PASSWORD_FILE": "f"}, EtcdURL(HOST, user="me", password_file="f")),
        ("etcd://me:pw@h1", {**LOGIN, "P2PLB_ETCD_PASSWORD_FILE": "f"}, EtcdURL(HOST, user="me", password="pw")),
        ("etcd://h1", {"P2PLB_ETCD_PASSWORD": "unused"}, EtcdURL(HOST)),
        ("etcd://h1", FILES, EtcdURL(HOST)),
        ("etcds://h1", FILES, EtcdURL(HOST, tls=True, ca="e-ca", cert="e-cert", key="e-key")),
        ("etcds://h1?ca=c", FILES, EtcdURL(HOST, tls=True, ca="c", cert="e-cert", key="e-key")),
        ("etcds://h1?cert=c&key=k", FILES, EtcdURL(HOST, tls=True, ca="e-ca", cert="c", key="k")),
        ("etcds+grpc://h1", {"P2PLB_ETCD_CA": ""}, EtcdURL(HOST, tls=True, driver="grpc")),
    ],
)
def test_what_a_url_says_wins_over_the_environment(url: str, environ: dict[str, str], meaning: EtcdURL) -> None:
    """The environment adds what the URL leaves away; a certificate and its key are never taken apart."""
    assert urls.parse(url, environ) == meaning


@pytest.mark.parametrize(
    ("environ", "hint"),
    [
        ({"P2PLB_ETCD_USER": "env"}, "set P2PLB_ETCD_PASSWORD or P2PLB_ETCD_PASSWORD_FILE"),
        ({**LOGIN, "P2PLB_ETCD_PASSWORD_FILE": "f"}, "both set; keep one"),
    ],
)
def test_what_is_wrong_with_the_environment(environ: dict[str, str], hint: str) -> None:
    """A user without a password, or with two, is an error at once, which repeats neither."""
    with pytest.raises(ValueError, match=f"^((?!geheim).)*{hint}"):
        urls.parse("etcd://h1", environ)


def built(monkeypatch: pytest.MonkeyPatch, *hosts: str, **options: Any) -> EtcdURL:
    def build(self: EtcdURL) -> EtcdURL:
        return self

    monkeypatch.setattr(EtcdURL, "build", build)
    return cast("EtcdURL", p2plb.etcd(*hosts, **options))


@pytest.mark.parametrize(
    ("hosts", "options", "meaning"),
    [
        (["h1"], {}, EtcdURL(HOST)),
        (["h2:7", "H1"], {"prefix": "/team/"}, EtcdURL(("h1:2379", "h2:7"), "/team")),
        (["h1"], {"ca": "c"}, EtcdURL(HOST, tls=True, ca="c")),
        (["h1"], {"tls": True, "driver": "grpc"}, EtcdURL(HOST, tls=True, driver="grpc")),
        (["h1"], {"user": "me", "password_file": Path("f")}, EtcdURL(HOST, user="me", password_file="f")),
        (
            ["h1"],
            {"ca": Path("c"), "cert": Path("d"), "key": Path("k")},
            EtcdURL(HOST, tls=True, ca="c", cert="d", key="k"),
        ),
    ],
)
def test_what_arguments_mean(
    hosts: list[str], options: dict[str, Any], meaning: EtcdURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments say the same as a URL; a file for TLS switches TLS on."""
    assert built(monkeypatch, *hosts, **options) == meaning


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment adds the user, and TLS with its files."""
    for name, value in (LOGIN | FILES).items():
        monkeypatch.setenv(name, value)
    files = {"tls": True, "cert": "e-cert", "key": "e-key"}
    assert built(monkeypatch, "h1", ca="c", user="me") == EtcdURL(HOST, user="me", password="geheim", ca="c", **files)  # type: ignore[arg-type]  # of one type each
    assert built(monkeypatch, "h1", tls=False) == EtcdURL(HOST, user="env", password="geheim")


@pytest.mark.parametrize(
    ("hosts", "options", "hint"),
    [
        ([], {}, 'write p2plb.etcd("10.0.0.1:2379"'),
        (["etcd://h1"], {}, "no URLs"),
        (["me:geheim@h1"], {}, "no URLs"),
        ([["h1", "h2"]], {}, 'write p2plb.etcd("10.0.0.1:2379", "10.0.0.2:2379"'),
        (["h 1"], {}, "host or host:2379"),
        (["h1:x"], {}, "number from 1 to 65535"),
        (["h1"], {"prefix": "team"}, "begins with '/'"),
        (["h1"], {"driver": "http"}, '"gateway" or "grpc", not \'http\''),
        (["h1"], {"tls": False, "ca": "c"}, "leave tls=False away"),
        (["h1"], {"user": "me"}, "needs a password"),
        (["h1"], {"password": "geheim"}, "user and password go together"),
        (["h1"], {"user": "me", "password": "geheim", "password_file": "f"}, "not both"),
        (["h1"], {"key": "k"}, "give cert as well"),
    ],
)
def test_wrong_arguments(hosts: list[Any], options: dict[str, Any], hint: str) -> None:
    """An error says what to write instead, and repeats no secret."""
    with pytest.raises(ValueError, match=re.escape(hint)) as caught:
        p2plb.etcd(*hosts, **options)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("name", ["user", "password", "password_file", "ca", "cert", "key"])
def test_arguments_are_strings(name: str) -> None:
    """What is of another type is refused at once, not in a thread later on, and not repeated."""
    with pytest.raises(TypeError, match=f"^{name} is a string, not a bytes$"):
        p2plb.etcd("h1", **{name: b"geheim"})  # type: ignore[arg-type]  # that is the subject


def test_a_registry_belongs_to_whoever_made_it() -> None:
    """It is not the process's own for the equal URL: closing it takes nothing from anybody else."""
    table = Table()
    hold = table.hold("etcd://127.0.0.1:1")
    with p2plb.etcd("127.0.0.1:1") as mine:
        assert isinstance(mine, p2plb.Registry)
        assert mine is not hold.registry
        assert table.hold(mine).registry is mine
    assert hold.registry.status().error != "it was closed"
    hold.close()
    table.evict(linger=0.0)


def test_a_password_in_the_clear_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """F44: a password on its way over plain HTTP to another machine is worth one warning, without the password."""
    for _ in range(3):
        p2plb.etcd("10.0.0.1", "127.0.0.1", user="me", password="geheim").close()
    p2plb.etcd("127.0.0.1", "[::1]:1", user="me", password="geheim").close()
    p2plb.etcd("10.0.0.2", user="me", password="geheim", tls=True).close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "the password for etcd goes to 10.0.0.1:2379 in the clear: write etcds://, or give ca="
    )


HIDE = "import sys; sys.modules['etcd3'] = None;"
BUILD = "import p2plb; p2plb.etcd('h1', driver='grpc')"


@pytest.mark.parametrize(
    ("code", "environ", "hint"),
    [
        (HIDE + BUILD, {}, "pip install 'p2plb[etcd3]'"),
        (BUILD, {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "upb"}, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python"),
    ],
)
def test_an_import_that_fails_says_what_to_do(code: str, environ: dict[str, str], hint: str) -> None:
    """Without python-etcd3, or beside a protobuf that its code is too old for, `ImportError` names the ways out."""
    child = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environ, capture_output=True, text=True, check=False
    )
    last = child.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert hint in last
    assert "etcd://" in last
