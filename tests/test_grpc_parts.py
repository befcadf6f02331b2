"""What gRPC's failures mean, and when a channel is lent, replaced and closed: decided without a network."""

import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from p2plb.discovery.etcd import channels, faults
from p2plb.discovery.etcd.carrier import USED_FOR, NoAnswerInTime
from p2plb.discovery.etcd.channels import Channels
from p2plb.discovery.etcd.credentials import Pems
from p2plb.discovery.etcd.driver import Closed, Compacted, Denied, DriverError, LeaseGone, Rejected, Unavailable
from tests.fakes import Clock

HTTP = "http://127.0.0.1:2379"
CONNECT = "failed to connect to all addresses; last error: UNKNOWN: Connection refused"


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (1, "Channel closed!", faults.Broken),
        (2, "Stream removed", faults.Broken),
        (3, "etcdserver: user name is empty", faults.TokenRefused),
        (3, "etcdserver: authentication failed, invalid user ID or password", Denied),
        (4, "Deadline Exceeded", NoAnswerInTime),
        (5, "etcdserver: requested lease not found", LeaseGone),
        (7, "etcdserver: permission denied", Denied),
        (8, "CLIENT: Received message larger than max (17000000 vs. 16777216)", faults.TooLarge),
        (8, "grpc: received message larger than max (2700116 vs. 2097152)", Rejected),
        (8, "etcdserver: mvcc: database space exceeded", Unavailable),
        (9, "etcdserver: lease already exists", faults.LeaseExists),
        (11, "etcdserver: mvcc: required revision has been compacted", Compacted),
        (12, "unknown service etcdserverpb.KV", faults.NotEtcd),
        (14, "etcdserver: no leader", Unavailable),
        (14, CONNECT, faults.Broken),
        (16, "etcdserver: invalid auth token", faults.TokenRefused),
    ],
)
def test_what_a_status_means(code: int, text: str, kind: type[DriverError]) -> None:
    """Codes and texts of etcd and of gRPC itself become the driver's errors; each names the endpoint."""
    fault = faults.from_status(HTTP, code, text)
    assert type(fault) is kind
    assert str(fault).startswith(HTTP)


@pytest.mark.parametrize(
    ("code", "text", "ambiguous"),
    [(14, CONNECT, False), (14, "errors resolving h1:2379: not found", False), (14, "Socket closed", True)],
)
def test_only_a_failed_connection_is_not_ambiguous(code: int, text: str, *, ambiguous: bool) -> None:
    """F54: what broke in any other way may have been carried out."""
    fault = faults.from_status(HTTP, code, text)
    assert isinstance(fault, Unavailable)
    assert fault.ambiguous is ambiguous


@dataclass(eq=False)
class Raw:
    """A channel of gRPC's."""

    target: str
    credentials: object = None
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeGrpc:
    """What Channels needs of the package grpc."""

    made: list[Raw] = field(default_factory=list)

    def insecure_channel(self, target: str, options: Any) -> Raw:
        self.made.append(Raw(target))
        return self.made[-1]

    def secure_channel(self, target: str, credentials: object, options: Any) -> Raw:
        self.made.append(Raw(target, credentials))
        return self.made[-1]

    def ssl_channel_credentials(self, *pems: bytes | None) -> object:
        return pems


@pytest.fixture
def grpc() -> FakeGrpc:
    return FakeGrpc()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lent(grpc: FakeGrpc, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Channels:
    monkeypatch.setattr(channels, "_opened_by", set())
    numbers = iter(range(10))
    return Channels(grpc, lambda: Pems(b"ca%d" % next(numbers), b"cert", b"key"), clock)


def test_nothing_is_opened_before_it_is_needed(lent: Channels, grpc: FakeGrpc) -> None:
    """A channel is opened with the first call and shared by all that follow."""
    assert not grpc.made
    with lent.lend(HTTP) as first, lent.lend(HTTP) as second:
        assert first is second
    assert [(raw.target, raw.closed) for raw in grpc.made] == [("dns:///127.0.0.1:2379", 0)]


def test_a_broken_channel_is_closed_after_its_last_call(lent: Channels, grpc: FakeGrpc) -> None:
    """Others' calls on it end first; new ones get another channel at once."""
    with lent.lend(HTTP) as first:
        with lent.lend(HTTP) as same:
            same.broken = True
        assert not grpc.made[0].closed
        with lent.lend(HTTP) as other:
            assert other is not first
    assert [raw.closed for raw in grpc.made] == [1, 0]


@pytest.mark.parametrize("why", ["new", "age"])
def test_a_new_channel_reads_the_files_again(lent: Channels, grpc: FakeGrpc, clock: Clock, why: str) -> None:
    """F75: renewed certificates count from the next channel on, and none is used for longer than a minute."""
    with lent.lend("https://h:1"):
        pass
    clock.now += USED_FOR + 1 if why == "age" else 0
    with lent.lend("https://h:1", new=why == "new"):
        pass
    assert [raw.credentials for raw in grpc.made] == [(b"ca0", b"key", b"cert"), (b"ca1", b"key", b"cert")]
    assert [raw.closed for raw in grpc.made] == [1, 0]


def test_close_closes_all_and_opens_no_more(lent: Channels, grpc: FakeGrpc) -> None:
    """F79: also those that only wait for their last calls."""
    with lent.lend(HTTP) as one, contextlib.ExitStack() as stack:
        one.broken = True
        stack.enter_context(lent.lend(HTTP))
        lent.close()
        lent.close()
    assert [raw.closed for raw in grpc.made] == [1, 1]
    with pytest.raises(Closed), lent.lend(HTTP):
        pass


def test_a_child_touches_nothing_and_is_refused(
    lent: Channels, grpc: FakeGrpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F58: what was inherited is neither closed nor freed, and no channel is opened where it would hang."""
    kept: list[object] = []
    monkeypatch.setattr(channels, "_inherited", kept)
    with lent.lend(HTTP) as channel:
        lent.after_fork()
        monkeypatch.setattr(channels, "_opened_by", {-1})  # what the child of another process finds
        with pytest.raises(Rejected, match="spawn"), lent.lend(HTTP):
            pass
    lent.close()
    assert kept == [channel]
    assert not grpc.made[0].closed
