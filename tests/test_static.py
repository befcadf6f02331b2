"""Fixed lists: the grammar of `static://`, the same as a mapping, and what is wrong with either."""

from typing import Any

import pytest

import p2plb
from p2plb.discovery import urls
from p2plb.discovery.registry import Registry
from p2plb.discovery.static import StaticRegistry
from p2plb.errors import RegistrationError
from p2plb.instance import Instance
from tests.contract_registry import Heard, instance

PLAIN = {"weight": 1.0, "priority": 0, "zone": "", "keepalive": None, "metadata": {}}


def rows(registry: Registry) -> dict[str, list[dict[str, Any]]]:
    """Return what a registry holds, of each instance its URL and what differs from the defaults."""
    with registry:
        return {found.service: [row(one) for one in found.instances] for found in registry.list()}


def row(one: Instance) -> dict[str, Any]:
    said = {name: getattr(one, name) for name, default in PLAIN.items() if getattr(one, name) != default}
    return {"url": one.url, **said}


def users(*found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {"users": list(found)}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("static://users=10.0.0.7:80", users({"url": "http://10.0.0.7:80"})),
        ("static://users=10.0.0.7", users({"url": "http://10.0.0.7"})),
        ("static://users=http://10.0.0.7:80", users({"url": "http://10.0.0.7:80"})),
        ("static://users=https://b.example:8443", users({"url": "https://b.example:8443"})),
        ("static://users=https://b.example", users({"url": "https://b.example"})),
        ("static://users=[::1]:80", users({"url": "http://[::1]:80"})),
        ("static://users=https://[2001:db8::1]:443", users({"url": "https://[2001:db8::1]:443"})),
        ("static://users=a:1,b:2", users({"url": "http://a:1"}, {"url": "http://b:2"})),
        ("static://users=a:1, b:2", users({"url": "http://a:1"}, {"url": "http://b:2"})),
        ("static://users=a:1;weight=2,b:2", users({"url": "http://a:1", "weight": 2.0}, {"url": "http://b:2"})),
        ("static://users=a:1;weight=0.5;zone=eu", users({"url": "http://a:1", "weight": 0.5, "zone": "eu"})),
        ("static://users=a:1 ; priority=1", users({"url": "http://a:1", "priority": 1})),
        ("static://users=a:1&orders=b:2", {"orders": [{"url": "http://b:2"}], "users": [{"url": "http://a:1"}]}),
        (
            "static://users=a:1,https://b;weight=2&orders=[::1]:90;zone=x",
            {
                "orders": [{"url": "http://[::1]:90", "zone": "x"}],
                "users": [{"url": "http://a:1"}, {"url": "https://b", "weight": 2.0}],
            },
        ),
    ],
)
def test_the_grammar(url: str, found: object) -> None:
    """A row of the guide's table each: services, addresses, weights, priorities, zones, https, IPv6."""
    assert rows(urls.build(url)) == found


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        (["10.0.0.7:80"], [{"url": "http://10.0.0.7:80"}]),
        (("a:1", "b:2;weight=2"), [{"url": "http://a:1"}, {"url": "http://b:2", "weight": 2.0}]),
        (
            ["a:1", {"url": "https://b:443", "weight": 2}],
            [{"url": "http://a:1"}, {"url": "https://b:443", "weight": 2}],
        ),
        ([{"url": "a:1"}], [{"url": "http://a:1"}]),
        (
            [{"url": "http://a", "zone": "eu", "priority": 1, "keepalive": 60, "metadata": {"version": "2"}}],
            [{"url": "http://a", "zone": "eu", "priority": 1, "keepalive": 60, "metadata": {"version": "2"}}],
        ),
        ((), []),
    ],
)
def test_as_a_mapping(addresses: Any, found: object) -> None:
    """`p2plb.static({...})` takes the same texts, and mappings with more."""
    assert rows(p2plb.static({"users": addresses})) == {"users": found}


def test_a_registry_like_any_other() -> None:
    """A fixed list is told at once, with ids that are the same everywhere; others than its services are empty."""
    with p2plb.static({"users": ["10.0.0.7:80", "https://[2001:db8::1]", "b.example"]}) as registry:
        registry.watch("users", heard := Heard())
        heard.waits_for("10.0.0.7-80", "b.example-80", "https-2001-db8--1-443")
        registry.watch("others", nobody := Heard())
        nobody.waits_for()
        assert registry.status().names == ("users",)
        with pytest.raises(RegistrationError, match="etcd://"):
            registry.announce(instance(), ttl=10)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("10.0.0.7:70000", "port"),
        ("ftp://a", "origin"),
        ("http://a/path", "without user, path or query"),
        ("::1", "origin"),
        ("999.0.0.1", "Octet"),
        ("a;weight=heavy", "weight is a number"),
        ("a;priority=1.5", "priority is a whole number, not '1.5'"),
        ("bob:x@a", "no user"),
        ("a;colour=blue", "may stand"),
        ("a;weight=-1", "weight is from"),
        ("", "origin"),
        ("10.0.0.1:80", "http://10.0.0.1:80 stands twice; weight=2 gives it twice the calls"),
        ({"url": "http://bob:hush@a"}, r"not 'http://\*\*\*@a'"),
        ({"url": "http://a", "wait": 2}, "an address has url, weight, priority, zone, keepalive, metadata, not 'wait'"),
        ({"url": "http://a", "weight": -1}, "weight is from 0 to 1000"),
    ],
    ids=str,
)
def test_wrong_addresses(address: Any, complaint: str) -> None:
    """A wrong address is refused at construction, with the service and the reason."""
    with pytest.raises(ValueError, match=f"service users: .*{complaint}"):
        StaticRegistry({"users": ["10.0.0.1:80", address]})


@pytest.mark.parametrize(
    ("services", "complaint"),
    [
        ({"users": "10.0.0.1"}, "service users: its addresses are a list such as .*, not one str"),
        ({"users": {"url": "a"}}, "not one dict"),
        ({"users": 7}, "not one int"),
        ({"users": [7]}, "service users: an address is a string such as '10.0.0.7:80', or a mapping with a url"),
        ({"users": [{"weight": 1}]}, "or a mapping with a url"),
        ({"users": [{"url": 7}]}, "service users: a url is a string, not a int"),
        ({"users": [{"url": "a", "weight": "2"}]}, "service users: weight is a number, not '2'"),
        ({7: ["a"]}, "a service name is a string, not 7"),
        (["users"], r"static\(\) takes a mapping from names to addresses, not a list"),
        ("static://users=a", r"static\(\) takes a mapping from names to addresses, not a str"),
    ],
    ids=str,
)
def test_wrong_kinds(services: Any, complaint: str) -> None:
    """The likely slips are TypeErrors that say what to write."""
    with pytest.raises(TypeError, match=complaint):
        p2plb.static(services)


def test_wrong_names() -> None:
    """A service name that no registry could hold is refused."""
    with pytest.raises(ValueError, match="a service name is 1 to 128 of the letters"):
        p2plb.static({"no/name": ["a"]})


@pytest.mark.parametrize("addresses", [["http://bob:s3;cret@10.0.0.7:80"], "http://bob:s3cret@10.0.0.7"])
def test_no_password_is_repeated(addresses: Any) -> None:
    """A password in an address stays out of the error, whatever else is in it."""
    with pytest.raises((ValueError, TypeError)) as caught:
        p2plb.static({"users": addresses})
    assert "cret" not in str(caught.value)
