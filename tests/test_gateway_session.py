"""Which endpoint is asked first, and when a user is logged in: decided on a clock of the test's own."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import trustme

from p2plb.discovery.etcd.carrier import Feed
from p2plb.discovery.etcd.credentials import Credentials
from p2plb.discovery.etcd.driver import Denied, DriverError, Unavailable
from p2plb.discovery.etcd.endpoints import LATELY, Endpoints
from p2plb.discovery.etcd.faults import NotEtcd
from p2plb.discovery.etcd.gateway import Gateway
from p2plb.discovery.etcd.messages import Json
from p2plb.discovery.etcd.session import Session
from p2plb.discovery.etcd.tokens import DENIED_FOR, Tokens


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_clients_begin_at_different_endpoints() -> None:
    """F56: the first endpoint is taken at random."""
    firsts = {Endpoints("abc", Clock(), Random(seed)).order()[0] for seed in range(20)}
    assert firsts == set("abc")


def test_the_one_that_worked_stays_first() -> None:
    """F88: there is no going back to one that has failed as long as another works."""
    clock = Clock()
    endpoints = Endpoints("abc", clock, Random(1))
    first, second, third = endpoints.order()
    endpoints.failed(first)
    assert endpoints.order() == [second, third, first]
    endpoints.worked(second)
    clock.now += LATELY
    assert endpoints.order()[0] == second


def test_those_that_failed_lately_come_last() -> None:
    """F37: of several that failed, the one whose failure is oldest is tried first; after a while all is forgiven."""
    clock = Clock()
    endpoints = Endpoints("abc", clock, Random(1))
    first, second, third = endpoints.order()
    endpoints.failed(second)
    clock.now += 1
    endpoints.failed(first)
    assert endpoints.order() == [third, second, first]
    clock.now += LATELY
    assert endpoints.order() == [first, second, third]


def test_forked_children_begin_at_different_endpoints() -> None:
    """F56, F58: the parent's choice is not that of all its children."""
    gateway = Gateway([f"http://10.0.0.{number}" for number in range(1, 9)], rng=Random(1))
    firsts = set()
    for _ in range(40):
        gateway.after_fork()
        firsts.add(gateway._session._endpoints.order()[0])
    assert len(firsts) > 1


@pytest.mark.parametrize("path", ["\0", "/nowhere/ca.pem"])
def test_tls_files_of_no_use_are_an_error_of_the_driver(path: str) -> None:
    """A file may come back, so what is wrong with it is told and tried again."""
    with pytest.raises(Unavailable, match="can't use the TLS files"):
        Gateway(["https://127.0.0.1:1"], ca=path).read([b"/"], timeout=1)


class Failing:
    """A carrier whose endpoints fail as told, and answer if nothing is told."""

    closed = False

    def __init__(self, **failures: DriverError) -> None:
        self._failures = failures

    def exchange(self, origin: str, path: str, body: Json, token: str, until: float, *, new: bool = False) -> Json:
        if origin in self._failures:
            raise self._failures[origin]
        return {"from": origin}

    @contextmanager
    def feed(self, origin: str, requests: Sequence[Json], token: str, deadline: float) -> Iterator[Feed]:
        raise self._failures[origin]
        yield

    def close(self) -> None: ...

    def after_fork(self) -> None: ...


def session(seed: int = 0, **failures: DriverError) -> Session:
    return Session("ab", Failing(**failures), Credentials(), Clock(), Random(seed))


AWAY = Unavailable("a is away", ambiguous=True)
ASTRAY = NotEtcd("b is no etcd")


@pytest.mark.parametrize("fault", [AWAY, ASTRAY])
@pytest.mark.parametrize("seed", range(4))
def test_one_endpoint_is_enough(fault: DriverError, seed: int) -> None:
    """F37, F88: one that is away, or whose address is another program's by now, is passed over, by watches too."""
    asking = session(seed, a=fault)
    if asking._endpoints.order()[0] == "a":
        with pytest.raises(type(fault)), asking.feed([], "", 0.0):
            pass
    assert asking._endpoints.order()[0] == "b"
    assert asking.ask("kv/txn", {}, 5.0) == {"from": "b"}


def test_all_failures_are_told_and_the_one_that_may_pass_counts() -> None:
    """F28: what waiting may heal is not called hopeless because another endpoint is no etcd."""
    with pytest.raises(Unavailable, match="is") as failure:
        session(a=AWAY, b=ASTRAY).ask("kv/txn", {}, 5.0)
    assert failure.value.ambiguous
    assert all(str(each) in str(failure.value) for each in (AWAY, ASTRAY))
    with pytest.raises(NotEtcd):
        session(a=ASTRAY, b=ASTRAY).ask("kv/txn", {}, 5.0)


def test_a_certificate_without_its_key_says_what_is_needed(tmp_path: Path) -> None:
    """OpenSSL itself calls a key that is missing, another's or locked with a passphrase "PEM lib" or worse."""
    cert = tmp_path / "cert.pem"
    trustme.CA().issue_cert("127.0.0.1").cert_chain_pems[0].write_to_path(str(cert))
    with pytest.raises(
        Unavailable, match=r"cert\.pem is to hold a certificate, .*cert\.pem its key without a passphrase"
    ):
        Gateway(["https://127.0.0.1:1"], cert=str(cert)).read([b"/"], timeout=1)


def make_tokens(login: Callable[[float], str]) -> tuple[Tokens, Clock]:
    clock = Clock()
    return Tokens(login, clock), clock


def test_many_threads_log_in_once() -> None:
    """F44: a login is shared by all who wait for it, and its token kept."""
    logins = []
    all_wait = threading.Barrier(8)

    def login(deadline: float) -> str:
        logins.append(deadline)
        return "token"

    def ask() -> str:
        all_wait.wait(10)
        return tokens.get(200)

    tokens, _ = make_tokens(login)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
    assert [answer.result() for answer in answers] == ["token"] * 8
    assert len(logins) == 1


def test_only_the_refused_token_is_dropped() -> None:
    """F44: a thread that comes late with an old token does not throw the new one away."""
    names = iter(["first", "second", "third"])
    tokens, _ = make_tokens(lambda _deadline: next(names))
    assert tokens.get(200) == "first"
    tokens.forget("first")
    assert tokens.get(200) == "second"
    tokens.forget("first")
    assert tokens.get(200) == "second"


def test_a_wrong_password_is_not_tried_in_a_loop() -> None:
    """F44: a denied login is denied again without asking, until an operator may have healed it."""
    logins = []

    def login(_deadline: float) -> str:
        logins.append(1)
        raise Denied("wrong password")

    tokens, clock = make_tokens(login)
    for _ in range(5):
        with pytest.raises(Denied, match="wrong password"):
            tokens.get(200)
    assert len(logins) == 1
    clock.now += DENIED_FOR
    with pytest.raises(Denied):
        tokens.get(200)
    assert len(logins) == 2


def test_a_login_that_takes_too_long_is_not_waited_for() -> None:
    """A deadline holds for those, too, who wait for another thread's login."""
    tokens, _ = make_tokens(lambda _deadline: "token")
    with tokens._lock, pytest.raises(Unavailable):
        tokens.get(100)


def test_a_forked_child_logs_in_by_itself() -> None:
    """F59: a lock that was held at the fork does not block the child."""
    tokens, _ = make_tokens(lambda _deadline: "token")
    with tokens._lock:
        tokens.after_fork()
        assert tokens.get(100) == "token"


def test_credentials_are_never_shown() -> None:
    """Neither the driver nor what it is made of shows a password."""
    gateway = Gateway(["https://127.0.0.1:2379"], user="me", password="geheim")
    shown = [gateway, gateway.url, gateway._session, gateway._session._password, gateway._session._tokens]
    assert "geheim" not in "".join(map(repr, shown))


@pytest.mark.parametrize(
    ("endpoints", "url", "loopback"),
    [
        (["http://127.0.0.1:2379"], "etcd://127.0.0.1:2379", True),
        (["http://localhost:1", "http://[::1]:2"], "etcd://localhost:1,[::1]:2", True),
        (["https://127.0.0.1:1", "https://etcd.internal:2"], "etcds://127.0.0.1:1,etcd.internal:2", False),
    ],
)
def test_a_gateway_names_its_endpoints(endpoints: list[str], url: str, *, loopback: bool) -> None:
    """F89: the address for texts, with IPv6 in brackets, and whether all of it is on this machine."""
    gateway = Gateway(endpoints)
    assert (gateway.url, gateway.loopback) == (url, loopback)


@pytest.mark.parametrize(
    ("endpoints", "options", "text"),
    [
        ([], {}, "at least one endpoint"),
        (["127.0.0.1:2379"], {}, "http://"),
        (["http://me:pw@127.0.0.1:2379"], {}, "^(?!.*me:pw).*no credentials"),
        (["http://127.0.0.1:2379"], {"user": "me"}, "go together"),
        (["https://127.0.0.1:2379"], {"key": "key.pem"}, "certificate"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(endpoints: list[str], options: dict[str, str], text: str) -> None:
    """Arguments are checked at construction, before anything is connected."""
    with pytest.raises(ValueError, match=text):
        Gateway(endpoints, **options)  # type: ignore[arg-type]  # options are strings, mypy thinks of clock and rng
