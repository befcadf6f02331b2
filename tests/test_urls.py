"""Registry URLs: what they mean, what is wrong with them, and that no secret is ever repeated."""

import re
import subprocess
import sys

import pytest

from p2plb.discovery import urls
from p2plb.discovery.etcd.address import EtcdURL
from p2plb.discovery.etcd.registry import EtcdRegistry
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.static import StaticRegistry
from p2plb.discovery.urls import MemoryURL, parse


@pytest.mark.parametrize(
    ("url", "meaning"),
    [
        ("etcd://127.0.0.1", EtcdURL(("127.0.0.1:2379",))),
        ("etcd://h1:2379,h2:1234/", EtcdURL(("h1:2379", "h2:1234"))),
        ("etcd://h2:1234,H1", EtcdURL(("h1:2379", "h2:1234"))),
        ("etcd://[::1]:2379,[2001:DB8::1]", EtcdURL(("[2001:db8::1]:2379", "[::1]:2379"))),
        ("etcd://h1/team/eu/", EtcdURL(("h1:2379",), "/team/eu")),
        ("ETCD://h1", EtcdURL(("h1:2379",))),
        (" etcd://h1\n", EtcdURL(("h1:2379",))),
        ("etcd://me:p%40ss%3A%2F@h1", EtcdURL(("h1:2379",), user="me", password="p@ss:/")),
        ("etcd://me:hunt/e?r@h1", EtcdURL(("h1:2379",), user="me", password="hunt/e?r")),
        ("etcds://h1", EtcdURL(("h1:2379",), tls=True)),
        ("etcd+grpc://h1", EtcdURL(("h1:2379",), driver="grpc")),
        ("etcds+grpc://h1/x?ca=c", EtcdURL(("h1:2379",), "/x", tls=True, ca="c", driver="grpc")),
        (
            "etcds://h1/x?ca=/etc/ca.pem&cert=c.pem&key=k%20.pem",
            EtcdURL(("h1:2379",), "/x", tls=True, ca="/etc/ca.pem", cert="c.pem", key="k .pem"),
        ),
        ("memory://", MemoryURL("")),
        ("memory://tests", MemoryURL("tests")),
    ],
)
def test_what_urls_mean(url: str, meaning: object) -> None:
    """Equal meanings are equal values, whatever the order of hosts or the letters' case."""
    assert parse(url) == meaning


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("127.0.0.1:2379", "starts with etcd://"),
        ("", "starts with etcd://"),
        ("etdc://h1", "did you mean etcd://"),
        ("redis://h1", "starts with etcd://, etcds://, etcd+grpc://, etcds+grpc://, memory:// or static://"),
        ("http://h1:2379", "write etcd://host:2379"),
        ("https://h1:2379", "write etcds://host:2379"),
        ("dns://users", "not in this version; write static://"),
        ("etcd://", "host or host:2379"),
        ("etcd://h1,,h2", "host or host:2379"),
        ("etcd://::1:2379", "brackets"),
        ("etcd://h1:0", "port"),
        ("etcd://h1:65536", "port"),
        ("etcd://h1:23x9", "port"),
        ("etcd://h1:", "port"),
        ("etcd://h 1", "host or host:2379"),
        ("etcd://h1#x", "no etcd URL"),
        ("etcd://me@h1", "set P2PLB_ETCD_PASSWORD or P2PLB_ETCD_PASSWORD_FILE"),
        ("etcd://:pw@h1", "user:password"),
        ("etcd://me:@h1", "user:password"),
        ("etcd://h1/a b", "prefix"),
        ("etcd://h1//a", "prefix"),
        ("etcd://h1?ca=x", "write etcds://"),
        ("etcds://h1?cacert=x", "not 'cacert'"),
        ("etcds://h1?ca=", "name a file"),
        ("etcds://h1?ca=a&ca=b", "each stand once"),
        ("etcds://h1?cert=a", "cert and key together"),
        ("memory://a/b", "after memory://"),
        ("static://", "write static://"),
        ("static://users", "write static://"),
        ("static://users=", "write static://"),
        ("static://users=a&users=b", "each once"),
    ],
)
def test_what_is_wrong(url: str, hint: str) -> None:
    """An error says what to write instead."""
    with pytest.raises(ValueError, match=re.escape(hint)):
        parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "etcd://me:hunter2@h1:x",
        "etcd://me:hunter2@h1/a b",
        "etcd://me:hunter2@",
        "etcd://me:hunter2",
        "etcd://me:hunter2@x@h1",
        "etcd:/me:hunter2@h1",
        "etdc://me:hunter2@h1",
        "http://me:hunter2@h1",
        "etcd+grpc://me:hunter2@h1:x",
        "memory://me:hunter2@h1",
        "static://me:hunter2@h1",
        "etcds://me:hunter2@h1?pw=hunter2",
        "me:hunter2@h1",
    ],
)
def test_no_secret_is_repeated(url: str) -> None:
    """Whatever is wrong with a URL, its text stays out of the error."""
    with pytest.raises(ValueError, match=r"^[^@]+$") as caught:
        urls.build(url)
    assert "hunt" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_has_no_repr() -> None:
    """What holds the password does not show it, and neither does the registry."""
    assert "hunter2" not in repr(parse("etcd://me:hunter2@h1"))
    with urls.build("etcd://me:hunter2@h1") as registry:
        assert "hunter2" not in registry.url + registry.status().url + repr(registry) + repr(vars(registry))


def test_what_is_built() -> None:
    """Each kind of URL gives its kind of registry; nothing is connected yet."""
    with urls.build("etcds://h1:1,[::1]/team") as etcd, urls.build("memory://m") as memory:
        assert isinstance(etcd, EtcdRegistry)
        assert etcd.status().url == "etcds://[::1]:2379,h1:1/team"
        assert isinstance(memory, MemoryRegistry)
        assert memory.url == "memory://m"
    with urls.build("static://users=10.0.0.7:80,https://h:8443;weight=2&orders=[::1]:90") as static:
        assert isinstance(static, StaticRegistry)
        found = {snapshot.service: [each.url for each in snapshot.instances] for snapshot in static.list()}
        assert found == {"orders": ["http://[::1]:90"], "users": ["http://10.0.0.7:80", "https://h:8443"]}


def test_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL the environment names it, else it is etcd on this machine, and texts say that this was a guess."""
    monkeypatch.delenv("P2PLB_REGISTRY", raising=False)
    with urls.build() as registry:
        assert registry.url == "etcd://127.0.0.1:2379"
        assert registry.status().url == "etcd://127.0.0.1:2379 (the default: give a registry URL or set P2PLB_REGISTRY)"
    monkeypatch.setenv("P2PLB_REGISTRY", "etcd://h7")
    with urls.build() as registry:
        assert registry.status().url == "etcd://h7:2379"


def test_not_even_a_url() -> None:
    """Something else than text is a TypeError that says so."""
    with pytest.raises(TypeError, match="not a int"):
        parse(7)  # type: ignore[arg-type]  # the mistake is the subject


def test_importing_is_light() -> None:
    """What is heavy, httpx and cachetools, is loaded when a registry is needed, not before."""
    code = (
        "import sys, p2plb.discovery.shared, p2plb.discovery.urls, p2plb.discovery.etcd.records;"
        "print(sorted({'httpx', 'httpcore', 'anyio', 'cachetools'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
