"""The text of `NoInstances`: what was looked for, where, how old, and why nobody was found."""

from dataclasses import replace

from p2plb.balancing.balancer import Balancer
from p2plb.calling.explain import explain
from p2plb.discovery.registry import RegistryStatus
from tests.fakes import balancer_of, first_fit, instance, node_of, snapshot

HELP = " (a Policy(fallback=…) would serve; if 'users' is a host, by_host(only=…) says what services are)"
URL = "etcd://127.0.0.1:2379"


def status(*names: str, connected: bool = True, age: float | None = 1.25, error: str | None = None) -> RegistryStatus:
    return RegistryStatus(URL, connected, age, error, 7, 0, names)


def test_nothing_known_yet() -> None:
    """F28: the registry has not answered: the text says what it says."""
    balancer = Balancer("users", first_fit)
    text = explain(balancer, status(connected=False, age=None, error="connection refused"), 0.0)
    assert text == f"no instance of service 'users': nothing is known from {URL} so far (connection refused){HELP}"
    assert explain(balancer, status(age=None), 0.0).endswith(f"so far (it has not answered yet){HELP}")


def test_nobody_registered() -> None:
    """F21: it has answered: revision and age, and the nearest known names."""
    balancer = Balancer("user", first_fit)
    balancer.update(snapshot(service="user", revision=7))
    text = explain(balancer, status("billing", "users", "userz"), 0.0)
    assert text.startswith(f"no instance of service 'user' in {URL} at revision 7, 1.2 s old; did you mean ")
    assert text.removesuffix(HELP.replace("users", "user")).endswith(("'users' or 'userz'?", "'userz' or 'users'?"))


def test_nothing_like_it() -> None:
    """Without a near name it shows some of those that there are."""
    text = explain(balancer_of(), status(*(f"x{n}" for n in range(9))), 0.0)
    assert text.endswith(f"; it knows x0, x1, x2, x3, x4{HELP}")
    assert explain(balancer_of(), status(), 0.0).endswith(f"1.2 s old{HELP}")


def test_registry_away() -> None:
    """F26: a list that may be out of date is called so."""
    text = explain(balancer_of(), status(connected=False, age=75.0, error="timed out"), 0.0)
    assert text.endswith(f"75.0 s old (the registry is away: timed out){HELP}")


def test_records_that_could_not_be_read() -> None:
    """F46: who has registered and is passed over everywhere finds a trace of it, and not its own name as advice."""
    unreadable = replace(status("users", "orders"), skipped=2)
    text = explain(balancer_of(), unreadable, 0.0)
    assert "; records that could not be read (the log says why): 2; did you mean 'orders'?" in text
    assert explain(balancer_of(), status("users"), 0.0).endswith(f"1.2 s old{HELP}")


def test_passed_over() -> None:
    """F73: who was passed over, at which address, and why; at most five of them."""
    many = [instance(f"plain{number}") for number in range(7)]
    text = explain(balancer_of(*many, secure=True), status("users"), 0.0)
    assert "; passed over: plain0 at http://plain0.example:80: https was asked and its record says http; " in text
    assert text.endswith("; and 2 more")
    assert "did you mean" not in text


def test_ejected() -> None:
    """Ejections in force are reasons as well."""
    balancer = balancer_of("a")
    balancer.ejections.refused(node_of(balancer, "a"), 0.0, "ConnectError: refused")
    assert "a at http://a.example:80: ConnectError: refused" in explain(balancer, status(), 0.5)
    assert "passed over" not in explain(balancer, status(), 1.5)


def test_with_a_fallback() -> None:
    """F73: whoever has a fallback needs no advice, but is told if it was passed over."""
    assert explain(balancer_of(), status(), 0.0, "http://old:80").endswith("1.2 s old")
    text = explain(balancer_of(secure=True), status(), 0.0, "http://old:80")
    assert text.endswith("1.2 s old; its fallback http://old:80 is passed over: https was asked")
