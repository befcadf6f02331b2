"""The fake etcd: it is a driver like the others, and breaks as it is told."""

import threading
from collections.abc import Callable, Iterator

import pytest

from p2plb.discovery.etcd.driver import (
    Changed,
    Compacted,
    Driver,
    Entry,
    Frame,
    LeaseGone,
    Opened,
    Unavailable,
    Want,
)
from p2plb.testing.fake_etcd import FakeEtcd
from tests.contract_driver import LONG, DriverContract


@pytest.fixture
def outside() -> FakeEtcd:
    return FakeEtcd()


@pytest.fixture
def new_driver(outside: FakeEtcd) -> Callable[[], Driver]:
    return outside.driver


class TestContract(DriverContract):
    pass


def opened(etcd: FakeEtcd, *, timeout: float = LONG, idle: float = LONG) -> Iterator[Frame]:
    """Open a stream that tells everything from now on."""
    frames = iter(etcd.driver().watch([Want(b"/", etcd.revision + 1)], timeout=timeout, idle=idle))
    assert isinstance(next(frames), Opened)
    return frames


def test_lease_time_passes_only_when_told() -> None:
    """Keys die with their lease when its time is up, not before; a keepalive gives it all of its time again."""
    etcd = FakeEtcd()
    driver = etcd.driver()
    driver.grant(7, 10, timeout=LONG)
    driver.publish(b"/1", b"", 7, timeout=LONG)
    etcd.advance(9)
    assert etcd.leases == {7: 1}
    driver.keepalive(7, timeout=LONG)
    etcd.advance(9)
    assert etcd.entries()
    etcd.advance(1)
    assert not etcd.entries()
    assert driver.keepalive(7, timeout=LONG) == 0


def test_a_key_follows_its_last_lease() -> None:
    """A key that was put under another lease, or none, does not die with the first."""
    etcd = FakeEtcd()
    driver = etcd.driver()
    driver.grant(7, 10, timeout=LONG)
    driver.publish(b"/1", b"", 7, timeout=LONG)
    etcd.put(b"/1", b"mine")
    etcd.expire(7)
    assert [entry.lease for entry in etcd.entries()] == [0]


def test_calls_fail_as_scripted() -> None:
    """Failures come in order, so many times, and can be taken back; calls are counted all the same."""
    etcd = FakeEtcd()
    driver = etcd.driver()
    etcd.fail("keepalive", Unavailable("down"), times=2)
    for _ in range(2):
        with pytest.raises(Unavailable, match="down"):
            driver.keepalive(1, timeout=LONG)
    assert driver.keepalive(1, timeout=LONG) == 0
    etcd.fail("keepalive", LeaseGone("for ever"), times=None)
    for _ in range(3):
        with pytest.raises(LeaseGone):
            driver.keepalive(1, timeout=LONG)
    etcd.heal()
    driver.keepalive(1, timeout=LONG)
    assert etcd.calls == {"keepalive": 7}


def test_a_failure_may_come_after_the_deed() -> None:
    """F54: `carried_out` loses only the answer."""
    etcd = FakeEtcd()
    driver = etcd.driver()
    driver.grant(7, 10, timeout=LONG)
    etcd.fail("publish", Unavailable("timed out", ambiguous=True), carried_out=True)
    with pytest.raises(Unavailable):
        driver.publish(b"/1", b"", 7, timeout=LONG)
    assert len(etcd.entries()) == 1


def test_a_failing_watch_raises_when_it_is_iterated() -> None:
    """As with a real driver, `watch` itself returns at once."""
    etcd = FakeEtcd()
    etcd.fail("watch", Unavailable("down"))
    stream = etcd.driver().watch([Want(b"/", 1)], timeout=LONG, idle=LONG)
    with pytest.raises(Unavailable, match="down"):
        list(stream)


def test_a_held_stream_falls_silent_and_goes_on() -> None:
    """F40: a frozen stream looks idle; once released it tells what it missed."""
    etcd = FakeEtcd()
    silent, patient = opened(etcd, idle=0.01), opened(etcd)
    etcd.hold()
    etcd.put(b"/1", b"")
    assert list(silent) == []
    etcd.release()
    assert isinstance(next(patient), Changed)


def test_a_stream_that_is_held_from_the_start_does_not_open() -> None:
    """F41: without `Opened` within the timeout the stream fails, and is not idle."""
    etcd = FakeEtcd()
    etcd.hold()
    with pytest.raises(Unavailable):
        list(etcd.driver().watch([Want(b"/", 1 + etcd.revision)], timeout=0.01, idle=LONG))


def test_frames_may_be_invented() -> None:
    """F42: repeated and backward events, and errors, reach the stream as they stand."""
    etcd = FakeEtcd()
    frames = opened(etcd)
    old = Changed((Entry(b"/1", b"", 1),))
    etcd.emit(old, old, Compacted("now"))
    assert [next(frames), next(frames)] == [old, old]
    with pytest.raises(Compacted, match="now"):
        next(frames)
    assert etcd.streams == 0


def test_a_wipe_breaks_streams_and_starts_anew() -> None:
    """F32: after a wipe the store is empty at revision 1, leases are gone, streams broken."""
    etcd = FakeEtcd()
    etcd.put(b"/1", b"")
    etcd.driver().grant(7, 10, timeout=LONG)
    frames = opened(etcd)
    etcd.wipe()
    with pytest.raises(Unavailable):
        next(frames)
    assert (etcd.revision, etcd.entries(), etcd.leases) == (1, (), {})


def test_drivers_share_the_store() -> None:
    """What one driver writes another one reads; closing one leaves the other."""
    etcd = FakeEtcd()
    first, second = etcd.driver(), etcd.driver()
    first.grant(7, 10, timeout=LONG)
    first.publish(b"/1", b"a", 7, timeout=LONG)
    first.close()
    assert second.read([b"/"], timeout=LONG).entries == etcd.entries(b"/")


def test_a_forked_child_gets_a_lock_of_its_own() -> None:
    """F59: a lock that another thread held at the fork does not block the child."""
    etcd = FakeEtcd()
    driver = etcd.driver()
    etcd._engine.changed.acquire()
    driver.after_fork()
    results: list[int] = []
    worker = threading.Thread(target=lambda: results.append(driver.keepalive(1, timeout=LONG)))
    worker.start()
    worker.join(LONG)
    assert results == [0]
