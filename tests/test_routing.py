"""Routes: which service a request is for, and what path its instance sees."""

from typing import Any

import httpx
import pytest

from p2plb.calling.routing import by_host, by_path, default_route, make_route


def request(url: str) -> httpx.Request:
    return httpx.Request("GET", url)


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("http://users/42", "users"),
        ("https://users/42", "users"),
        ("ws://users/", "users"),
        ("wss://users/", "users"),
        ("http://USERS/", "users"),
        ("http://user-data_2/", "user-data_2"),
        ("http://me:secret@users/", "users"),
        ("http://users:80/", "users"),  # httpx drops the scheme's own port
        ("http://users:8080/", None),
        ("http://minio:9000/", None),
        ("http://localhost/", None),
        ("http://users./", None),
        ("http://users.example/", None),
        ("http://127.0.0.1/", None),
        ("http://[::1]/", None),
        ("http://2users/", None),
        ("http://" + "u" * 63 + "/", "u" * 63),
        ("ftp://users/", None),
        ("http://bücher/", None),
        ("http://xn--bcher-kva/", None),
        ("http://user%2Ds/", None),
        ("http://2130706433/", None),
        ("http://users:443/", None),
        ("https://users:443/", "users"),
        ("wss://users:443/", "users"),
        ("http://orders@users/", "users"),
        ("http://users@orders:1/", "orders"),
        ("http://orders:8080/", "orders"),
        ("http://Named.Service:1/", "named.service"),
    ],
)
def test_default_route(url: str, service: str | None) -> None:
    """One label without a port is a service, and so is each key of `services=`; all else is a host."""
    assert default_route(["orders", "named.service"])(request(url)) == service


@pytest.mark.parametrize(
    ("options", "url", "service"),
    [
        ({"only": {"users"}}, "http://users:8001/", "users"),
        ({"only": {"users"}}, "http://orders/", None),
        ({"only": ["localhost"]}, "http://localhost:1/", "localhost"),
        ({"only": ()}, "http://users/", None),
        ({"suffix": ".p2p"}, "http://users.p2p/", "users"),
        ({"suffix": ".p2p"}, "http://users/", None),
        ({"suffix": ".p2p"}, "http://a.users.p2p/", None),
        ({"suffix": ".p2p"}, "http://.p2p/", None),
        ({"suffix": ".p2p", "only": ["users"]}, "http://users.p2p:99/", "users"),
        ({"suffix": ".p2p"}, "http://users.p2p:99/", None),
        ({"suffix": ".p2p"}, "http://USERS.P2P/", "users"),
        ({"suffix": ".p2p"}, "http://users.p2p./", None),
        ({"suffix": ".svc.internal"}, "http://users.svc.internal/", "users"),
    ],
)
def test_by_host(options: dict[str, Any], url: str, service: str | None) -> None:
    """Hosts, limited to some or with a suffix."""
    assert by_host(**options)(request(url)) == service


PREFIXES = {"/users": "users", "/users/admin": "admin", "/orders": "orders"}


@pytest.mark.parametrize(
    ("url", "service", "target"),
    [
        ("http://gateway/users", "users", b"/"),
        ("http://gateway/users/", "users", b"/"),
        ("http://gateway/users/42?x=%2F", "users", b"/42?x=%2F"),
        ("http://gateway/users?x=/users", "users", b"/?x=/users"),
        ("http://gateway/users/admin/1", "admin", b"/1"),
        ("http://gateway/users/administrator", "users", b"/administrator"),
        ("http://gateway/users%2F42", None, b"/users%2F42"),
        ("http://gateway/users2", None, b"/users2"),
        ("http://gateway/", None, b"/"),
        ("http://gateway:8080/orders/a%20b", "orders", b"/a%20b"),
        ("http://elsewhere/users", None, b"/users"),
        ("ftp://gateway/users", None, b"/users"),
    ],
)
def test_by_path(url: str, service: str | None, target: bytes) -> None:
    """F76: the longest prefix of whole segments wins; nothing of the rest of a path is decoded or changed."""
    stripped, whole = by_path(PREFIXES, host="gateway", strip=True), by_path(PREFIXES, host="gateway")
    assert stripped(request(url)) == whole(request(url)) == service
    assert stripped.target(request(url)) == target
    assert whole.target(request(url)) == request(url).url.raw_path


@pytest.mark.parametrize(
    ("host", "url"), [("::1", "http://[::1]/a"), ("10.0.0.7", "http://10.0.0.7/a"), ("bücher", "http://bücher/a")]
)
def test_by_path_on_any_host(host: str, url: str) -> None:
    """A path may be routed on an address and on an international name as well."""
    assert by_path({"/a": "a"}, host=host)(request(url)) == "a"


def test_by_path_for_all() -> None:
    """`/` takes every path, on any host."""
    route = by_path({"/": "web", "/api": "api"}, strip=True)
    assert [route(request(url)) for url in ("http://a/", "http://b/x/y", "http://c/api/1")] == ["web", "web", "api"]
    assert route.target(request("http://b/x/y?z")) == b"/x/y?z"


def test_make_route() -> None:
    """A name takes every request; a function is taken as it is."""
    assert make_route("users", ())(request("http://anything:1/")) == "users"
    route = by_host()
    assert make_route(route, ()) is route
    assert make_route(None, ["x"])(request("http://x:1/")) == "x"


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: by_host(only="users"), TypeError, "write only={'users'}"),
        (lambda: by_host(only=["a b"]), ValueError, "a service name that is a host is 1 to 128 of the letters"),
        (lambda: by_host(only=["Users"]), ValueError, "no URL can name 'Users': write 'users'"),
        (lambda: by_host(suffix=7), TypeError, "a string such as '.p2p', not 7"),  # type: ignore[arg-type]  # wrong
        (lambda: by_host(suffix="p2p"), ValueError, "starts with a dot and is lower case, such as '.p2p', not 'p2p'"),
        (lambda: by_host(suffix=".P2P"), ValueError, "not '.P2P'"),
        (lambda: by_host(suffix=".p2p:80"), ValueError, "not '.p2p:80'"),
        (lambda: by_path({"/a": "a"}, host="Gateway"), ValueError, "in lower case and without a port: 'Gateway'"),
        (lambda: by_path({"/a": "a"}, host="gateway:80"), ValueError, "without a port: 'gateway:80'"),
        (lambda: by_path({"/a": "a"}, host="http://gateway"), ValueError, "a host such as 'gateway'"),
        (lambda: by_path({"/a": "a"}, host=7), ValueError, "a host such as"),  # type: ignore[arg-type]  # wrong
        (lambda: by_path({"users": "users"}), ValueError, "a path prefix is like /users"),
        (lambda: by_path({"/users/": "users"}), ValueError, "without / at its end: '/users/'"),
        (lambda: by_path({"": "users"}), ValueError, "a path prefix is like /users"),
        (lambda: by_path({"/ü": "users"}), ValueError, "percent-encoded"),
        (lambda: by_path({"/a?b": "users"}), ValueError, "a path prefix is like /users"),
        (lambda: by_path({7: "users"}), ValueError, "a path prefix is like /users"),  # type: ignore[dict-item]  # wrong
        (lambda: by_path({"/users": ""}), ValueError, "the service that by_path() maps /users to is 1 to 128"),
        (lambda: by_path({"/users": None}), TypeError, "is a string, not None"),  # type: ignore[dict-item]  # wrong
        (lambda: make_route("", ()), ValueError, "route=, if it is the name of a service, is 1 to 128"),
        (lambda: make_route("a/b", ()), ValueError, "not 'a/b'"),
        (lambda: make_route(7, ()), TypeError, "a function from a request to a name, not 7"),  # type: ignore[arg-type]  # wrong
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], says: str) -> None:
    """A wrong argument is an error at construction that says what to write."""
    with pytest.raises(error) as caught:
        make()
    assert says in str(caught.value)
