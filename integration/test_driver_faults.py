"""The etcd drivers on a bad day: dead, frozen and wrong endpoints, cut and silent links, forks and threads."""

import gc
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from integration.harness.canned import canned
from integration.harness.drivers import OVER_GRPC, gateway_only, grpc_only, new_driver
from integration.harness.etcd import Etcd, cluster, single
from integration.harness.proxy import FaultProxy
from p2plb.discovery.etcd.carrier import USED_FOR
from p2plb.discovery.etcd.common import EtcdDriver
from p2plb.discovery.etcd.driver import (
    Changed,
    Closed,
    Driver,
    DriverError,
    Frame,
    Opened,
    Rejected,
    Unavailable,
    Want,
    WatchStream,
)
from p2plb.testing.etcd import free_port
from tests.contract_driver import LONG, TTL, changes, new_lease

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
def proxy(etcd: Etcd) -> Iterator[FaultProxy]:
    with FaultProxy(etcd.port) as proxy:
        yield proxy


@pytest.fixture
def driver(proxy: FaultProxy) -> Iterator[Driver]:
    with closing(new_driver([proxy.url])) as driver:
        yield driver


def opened(driver: Driver, prefix: str, *, idle: float = LONG) -> tuple[WatchStream, Iterator[Frame]]:
    start = driver.read([prefix.encode()], timeout=LONG).revision + 1
    stream = driver.watch([Want(prefix.encode(), start)], timeout=LONG, idle=idle)
    frames = iter(stream)
    assert isinstance(next(frames), Opened)
    return stream, frames


def test_a_dead_endpoint_is_passed_over(etcd: Etcd, prefix: str) -> None:
    """F88: with one of two endpoints dead every call succeeds, and so does the watch after it."""
    for _ in range(4):  # half of the drivers begin at the dead one
        with closing(new_driver([f"http://127.0.0.1:{free_port()}", etcd.url])) as driver:
            opened(driver, prefix)


def test_no_endpoint_at_all_is_told(etcd: Etcd) -> None:
    """F28: the text names each endpoint and why it failed; nothing can have been carried out."""
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with closing(new_driver(urls)) as driver:
        with pytest.raises(Unavailable) as failure:
            driver.publish(b"/1", b"", 1, timeout=LONG)
        assert all(url in str(failure.value) for url in urls)
        assert not failure.value.ambiguous


def test_a_frozen_endpoint_takes_half_of_the_time_at_most(etcd: Etcd) -> None:
    """F39, F40: a call to a frozen etcd goes on to the next endpoint within its deadline, and then stays there."""
    with single() as frozen, closing(new_driver([frozen.url, etcd.url])) as driver:
        driver._session._endpoints.failed(etcd.url)  # so that the frozen one is asked first
        frozen.freeze()
        for _ in range(3):
            driver.read([b"/"], timeout=3.0)
            assert driver._session._endpoints.order()[0] == etcd.url


def test_three_endpoints_survive_their_leader() -> None:
    """F37, F38: without the leader calls succeed; without a quorum the watch ends instead of falling silent."""
    with cluster() as three:
        leader = three.leader()
        with closing(new_driver(three.urls)) as driver:
            driver.grant(lease := new_lease(), TTL, timeout=LONG)
            leader.kill9()
            three.leader()  # what is asked during the election may wait for etcd's own 6 s
            assert driver.publish(b"/1", b"a", lease, timeout=LONG) in (0, lease)
            frames = iter(driver.watch([Want(b"/", 1)], timeout=LONG, idle=60.0))
            next(frames)
            others = [node for node in three.nodes if node is not leader]
            used = next(node for node in others if node.url in driver._session._endpoints.order()[0])
            next(node for node in others if node is not used).kill9()
            with pytest.raises(Unavailable):
                list(frames)


def test_a_connection_closed_while_idle_is_replaced(driver: Driver, proxy: FaultProxy, prefix: str) -> None:
    """F07: a kept connection that broke meanwhile costs nobody an error."""
    driver.read([prefix.encode()], timeout=LONG)
    proxy.cut()
    driver.read([prefix.encode()], timeout=LONG)
    assert proxy.accepted == 2
    driver.read([prefix.encode()], timeout=LONG)
    assert proxy.accepted == 2


def test_a_connection_that_breaks_under_a_request_is_replaced(driver: Driver, proxy: FaultProxy, prefix: str) -> None:
    """F07: so is one that breaks just as it is used again, for all that we ask may be asked twice."""
    driver.read([prefix.encode()], timeout=LONG)
    proxy.blackhole()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(driver.read, [prefix.encode()], timeout=LONG)
        time.sleep(0.1)  # the request is on its way; were it not, the test would be weaker, not wrong
        proxy.cut()
        proxy.pass_through()
        assert reading.result(LONG).revision
    assert proxy.accepted == 2


def test_a_connection_in_constant_use_is_renewed(proxy: FaultProxy) -> None:
    """F75: certificates that are renewed count within a minute, although the old connection would serve for ever."""
    ahead = 0.0
    with closing(new_driver([proxy.url], clock=lambda: time.monotonic() + ahead)) as driver:
        while ahead < 2 * USED_FOR:
            driver.read([b"/none/"], timeout=LONG)
            ahead += USED_FOR / 3
    assert proxy.accepted == 2


def test_a_swallowed_answer_is_ambiguous(driver: Driver, proxy: FaultProxy, prefix: str) -> None:
    """F54: a put whose answer is lost may have been carried out, and here it was; repeating it is safe."""
    key = f"{prefix}/1".encode()
    driver.grant(lease := new_lease(), TTL, timeout=LONG)
    proxy.reset_after(0)
    with pytest.raises(Unavailable) as failure:
        driver.publish(key, b"a", lease, timeout=LONG)
    assert failure.value.ambiguous
    proxy.pass_through()
    # HTTP/2 answers with a frame or two before it looks at the request, and then nothing was done.
    assert driver.publish(key, b"a", lease, timeout=LONG) in ((0, lease) if OVER_GRPC else (lease,))
    driver.revoke(lease, timeout=LONG)


def test_a_refused_connection_is_not_ambiguous(driver: Driver, proxy: FaultProxy) -> None:
    """What was never sent was never carried out."""
    proxy.refuse()
    with pytest.raises(Unavailable) as failure:
        driver.publish(b"/1", b"a", 1, timeout=LONG)
    assert not failure.value.ambiguous


def test_a_put_that_broke_and_then_was_refused_stays_ambiguous(driver: Driver, proxy: FaultProxy) -> None:
    """F54: the kept connection broke in mid-request and the new one is refused: the first may have done it."""
    driver.read([b"/none/"], timeout=LONG)
    proxy.refuse_new()
    proxy.reset_after(0)
    with pytest.raises(Unavailable) as failure:
        driver.publish(b"/1", b"a", 1, timeout=LONG)
    assert failure.value.ambiguous


def test_a_blackholed_call_ends_in_time(driver: Driver, proxy: FaultProxy) -> None:
    """F40: no call outlives its deadline, and what timed out is ambiguous."""
    proxy.blackhole()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="in time") as failure:
        driver.read([b"/"], timeout=0.3)
    assert time.monotonic() - began < 5.0
    assert failure.value.ambiguous


def test_a_blackholed_stream_is_merely_silent(driver: Driver, proxy: FaultProxy, prefix: str) -> None:
    """F40: after it was opened, silence ends a stream in peace; opening another one fails in time."""
    _, frames = opened(driver, prefix, idle=0.2)
    proxy.blackhole()
    assert list(frames) == []
    with pytest.raises(Unavailable):
        list(driver.watch([Want(prefix.encode(), 1)], timeout=0.2, idle=LONG))


@pytest.mark.parametrize("fault", ["cut", "refuse"])
def test_a_broken_stream_says_so(driver: Driver, proxy: FaultProxy, prefix: str, fault: str) -> None:
    """F40: a stream that breaks raises, so that nobody resumes where events may be missing."""
    _, frames = opened(driver, prefix)
    getattr(proxy, fault)()
    with pytest.raises(Unavailable):
        list(frames)


@gateway_only
def test_a_stream_that_etcd_ends_says_so(prefix: str) -> None:
    """F31: an etcd that stops in order ends its streams without a word."""
    with single() as node, closing(new_driver([node.url])) as driver:
        _, frames = opened(driver, prefix)
        node.kill9()
        with pytest.raises(Unavailable):
            list(frames)


@gateway_only
def test_a_frame_in_slow_pieces_arrives_whole(driver: Driver, proxy: FaultProxy, etcd: Etcd, prefix: str) -> None:
    """F43: large frames come through in many reads."""
    _, frames = opened(driver, prefix)
    etcd.put(f"{prefix}/1", "é" * 300_000)
    (entry,) = changes(frames, 1)
    assert entry.value == ("é" * 300_000).encode()


@gateway_only
def test_many_entries_are_read_in_pages(driver: Driver, prefix: str) -> None:
    """F20: a read is whole, whatever the number of entries."""
    base = f"{prefix}/".encode()
    driver.grant(lease := new_lease(), TTL, timeout=LONG)
    with ThreadPoolExecutor(4) as pool:  # several threads at one driver
        keys = [base + str(number).encode() for number in range(300)]
        assert set(pool.map(lambda key: driver.publish(key, key, lease, timeout=LONG), keys)) == {0}
    whole = driver.read([base], timeout=LONG)
    assert {entry.key: entry.value for entry in whole.entries} == {key: key for key in keys}
    driver.revoke(lease, timeout=LONG)


def test_threads_do_not_mix_answers(driver: Driver, proxy: FaultProxy, prefix: str) -> None:
    """F62: each of eight threads gets its own answers, and few connections are kept."""
    leases = [new_lease() for _ in range(8)]

    def work(number: int) -> bool:
        assert driver.grant(leases[number], TTL + number, timeout=LONG) == TTL + number
        kept = {driver.keepalive(leases[number], timeout=LONG) for _ in range(30)}
        driver.revoke(leases[number], timeout=LONG)
        return kept == {TTL + number}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert isinstance(driver, EtcdDriver)
    links = getattr(driver._session._carrier, "_links", None)  # the gateway's
    assert links is None or len(links._idle) <= 4


def test_proxies_of_the_environment_are_not_asked(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """F75: HTTP_PROXY does not concern etcd."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with closing(new_driver([etcd.url])) as driver:
        driver.read([b"/none/"], timeout=LONG)


@gateway_only
def test_a_fork_leaves_the_parent_alone(etcd: Etcd, prefix: str) -> None:
    """F58: the child connects anew, and nothing that it does ends the parent's stream or takes its answers."""
    with closing(new_driver([etcd.url])) as driver:
        stream, frames = opened(driver, prefix)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads; here they wait in the kernel
            child = os.fork()
        if child == 0:
            driver.after_fork()
            stream.close()
            stream = None  # type: ignore[assignment]  # the parent's, dropped
            os._exit(0 if driver.read([prefix.encode()], timeout=LONG).revision else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        etcd.put(f"{prefix}/1")
        assert isinstance(next(frames), Changed)


@grpc_only
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # 3.12 warns of threads
def test_a_forked_child_is_told_what_to_do(etcd: Etcd, prefix: str) -> None:
    """F58: gRPC would hang or crash in the child, so it is refused there at once; the parent's stream goes on."""
    with closing(new_driver([etcd.url])) as driver:
        stream, frames = opened(driver, prefix)
        child = os.fork()
        if child == 0:
            driver.after_fork()
            stream.close()
            del stream, frames
            told = [refusal(driver), refusal(new_driver([etcd.url]))]
            gc.collect()
            os._exit(0 if all("start them with spawn" in text for text in told) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        etcd.put(f"{prefix}/1")
        assert isinstance(next(frames), Changed)


def refusal(driver: Driver) -> str:
    with pytest.raises(Rejected) as caught:
        driver.read([b"/"], timeout=LONG)
    return str(caught.value)


@grpc_only
def test_a_child_may_be_the_first_to_connect(etcd: Etcd) -> None:
    """F58: a driver that has not connected yet, as when a server loads the application before it forks, works."""
    code = f"""
import os
from p2plb.discovery.etcd.grpc import Grpc
driver = Grpc([{etcd.url!r}])
child = os.fork()
if child:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
driver.after_fork()
assert driver.read([b"/"], timeout=20).revision
driver.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


STRANGE = {
    "no gateway": (Rejected, [b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found"]),
    "not http": (Unavailable, [b"SSH-2.0-OpenSSH_9.2\r\n"]),
    "nothing": (Unavailable, []),
    "not json": (Unavailable, [HEAD, b"Content-Length: 2\r\n\r\nok"]),
    "cut short": (Unavailable, [HEAD, b"Content-Length: 200\r\n\r\n{}"]),
    "too much": (Rejected, [HEAD, b"\r\n", *[b" " * 1_048_576] * 17]),
    "half an answer": (Unavailable, [HEAD, b"Content-Length: 2\r\n\r\n{}"]),
    "redirect": (Unavailable, [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"]),
}


@gateway_only
@pytest.mark.parametrize("name", STRANGE)
def test_strange_answers_are_errors(name: str) -> None:
    """F43, F46: whatever answers in etcd's place, a call raises a `DriverError`, in bounded memory."""
    error, pieces = STRANGE[name]
    with canned(pieces) as origin, closing(new_driver([origin])) as driver:
        with pytest.raises(DriverError) as failure:
            driver.read([b"/"], timeout=LONG)
        assert isinstance(failure.value, error)


@grpc_only
@pytest.mark.parametrize("name", ["no gateway", "not http", "nothing"])
def test_what_speaks_no_grpc_is_no_etcd(name: str) -> None:
    """F46: whatever answers in etcd's place; nothing can have been carried out."""
    with canned(STRANGE[name][1]) as origin, closing(new_driver([origin])) as driver:
        with pytest.raises(Unavailable) as failure:
            driver.publish(b"/1", b"", 7, timeout=LONG)
        assert not failure.value.ambiguous


@gateway_only
def test_a_put_that_nonsense_answers_is_ambiguous() -> None:
    """F54: whoever stands between may have passed it on."""
    nonsense = STRANGE["not json"][1]
    with (
        canned(nonsense) as origin,
        closing(new_driver([origin])) as driver,
        pytest.raises(Unavailable, match=f"^{origin}: not JSON") as failure,
    ):
        driver.publish(b"/1", b"", 7, timeout=LONG)
    assert failure.value.ambiguous


@gateway_only
@pytest.mark.parametrize("pieces", [[HEAD, *[b"a: b\r\n"] * 600], [HEAD, b"\r\n", *[b" "] * 600]])
def test_a_dripping_answer_ends_in_time(pieces: list[bytes]) -> None:
    """F09: a few bytes now and then, in the head or in the body, does not stretch the deadline."""
    with canned(pieces, pause=0.05) as origin, closing(new_driver([origin])) as driver:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            driver.read([b"/"], timeout=0.3)
        assert time.monotonic() - began < 15.0  # it drips for 30 s


@gateway_only
def test_an_endless_frame_is_given_up() -> None:
    """F43: a line above the cap breaks the stream."""
    endless = [HEAD, b"\r\n", *[b"x" * 1_048_576] * 17]
    with canned(endless, linger=LONG) as origin, closing(new_driver([origin])) as driver:
        stream = driver.watch([Want(b"/", 1)], timeout=LONG, idle=LONG)
        with pytest.raises(Unavailable, match="frame"):
            list(stream)


def test_close_ends_a_call(driver: Driver, proxy: FaultProxy) -> None:
    """F79: a call that waits for a silent etcd ends when the driver is closed."""
    proxy.blackhole()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(driver.read, [b"/"], timeout=LONG)
        while not proxy.accepted:
            time.sleep(0.005)
        time.sleep(0.05)
        driver.close()
        assert isinstance(reading.exception(5.0), Closed)
