"""What every etcd driver must do, whatever carries its bytes: run on the fake in tests/, on real etcds in integration/.

A test class inherits from `DriverContract` and gives two fixtures: `outside`, the etcd as an operator sees it, and
`new_driver`, which makes a driver on it.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from p2plb.discovery.etcd.driver import (
    Changed,
    Closed,
    Compacted,
    Driver,
    Entry,
    Frame,
    LeaseGone,
    Opened,
    Rejected,
    Unavailable,
    Want,
)

LONG = 20.0  # a deadline that only a broken driver reaches
TTL = 60


class Outside(Protocol):
    """The etcd, as somebody else uses it."""

    def put(self, key: bytes, value: bytes) -> None: ...
    def delete_prefix(self, prefix: bytes) -> None: ...
    def compact(self) -> None: ...


NewDriver = Callable[[], Driver]


def new_lease() -> int:
    return random.getrandbits(62) + 1


def changes(frames: Iterator[Frame], count: int) -> list[Entry]:
    """Take frames until they tell of so many changes."""
    entries: list[Entry] = []
    while len(entries) < count:
        frame = next(frames)
        assert isinstance(frame, Changed), frame
        entries += frame.entries
    return entries


class DriverContract:
    @pytest.fixture
    def base(self) -> bytes:
        return f"/contract-{uuid.uuid4().hex}/".encode()

    @pytest.fixture
    def driver(self, new_driver: NewDriver) -> Iterator[Driver]:
        driver = new_driver()
        yield driver
        driver.close()

    @pytest.fixture
    def lease(self, driver: Driver) -> Iterator[int]:
        lease = new_lease()
        driver.grant(lease, TTL, timeout=LONG)
        yield lease
        driver.revoke(lease, timeout=LONG)

    def test_reads_all_prefixes_at_one_revision(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """A read returns key, value and revisions of everything below the prefixes, and the revision it is of."""
        for key in (b"a/1", b"a/2", b"b/1"):
            outside.put(base + key, b"value of " + key)
        listing = driver.read([base + b"a/", base + b"none/", base + b"b/"], timeout=LONG)
        assert [entry.key for entry in listing.entries] == [base + b"a/1", base + b"a/2", base + b"b/1"]
        assert listing.entries[0].value == b"value of a/1"
        assert listing.revision == listing.entries[-1].mod_revision == listing.entries[-1].create_revision
        assert listing.cluster_id

    def test_reads_nothing_where_nothing_is(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """An empty answer has a revision, too: it says that etcd knows nobody."""
        outside.put(base + b"a/1", b"")
        before = driver.read([base], timeout=LONG).revision
        assert driver.read([base + b"none/"], timeout=LONG).entries == ()
        assert driver.read([base + b"none/"], timeout=LONG).revision == before

    def test_a_prefix_is_taken_literally(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """F48: neighbours of a prefix stay out, down to its last byte, 0xff included."""
        outside.put(base + b"a/1", b"")
        outside.put(base + b"a0", b"")
        outside.put(base + b"a\xff/1", b"")
        outside.put(base + b"b", b"")
        assert [entry.key for entry in driver.read([base + b"a/"], timeout=LONG).entries] == [base + b"a/1"]
        assert [entry.key for entry in driver.read([base + b"a\xff"], timeout=LONG).entries] == [base + b"a\xff/1"]

    def test_limit_counts_for_each_prefix(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """`limit` bounds the entries of each prefix."""
        for key in (b"a/1", b"a/2", b"a/3", b"b/1"):
            outside.put(base + key, b"")
        listing = driver.read([base + b"a/", base + b"b/"], timeout=LONG, limit=2)
        assert [entry.key for entry in listing.entries] == [base + b"a/1", base + b"a/2", base + b"b/1"]

    def test_keys_only_leaves_the_values_away(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """`keys_only` returns empty values, not None, which would mean deleted."""
        outside.put(base + b"a/1", b"value")
        assert driver.read([base], timeout=LONG, keys_only=True).entries[0].value == b""

    def test_a_watch_continues_a_read_without_a_gap(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """What happens between the read and the opening of the watch is told, and nothing older."""
        outside.put(base + b"1", b"before")
        revision = driver.read([base], timeout=LONG).revision
        outside.put(base + b"2", b"between")
        stream = driver.watch([Want(base, revision + 1)], timeout=LONG, idle=LONG)
        frames = iter(stream)
        opened = next(frames)
        assert isinstance(opened, Opened)
        assert opened.revision >= revision + 1
        outside.put(base + b"3", b"after")
        told = changes(frames, 2)
        assert [(entry.key, entry.value) for entry in told] == [(base + b"2", b"between"), (base + b"3", b"after")]
        assert told[0].mod_revision < told[1].mod_revision
        stream.close()

    def test_one_stream_serves_several_wants(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """Each want has a start of its own; changes that nobody wants are not told."""
        outside.put(base + b"a/1", b"old")
        outside.put(base + b"b/1", b"old")
        revision = driver.read([base], timeout=LONG).revision
        stream = driver.watch([Want(base + b"a/", revision + 1), Want(base + b"b/", revision)], timeout=LONG, idle=LONG)
        frames = iter(stream)
        assert isinstance(next(frames), Opened)
        outside.put(base + b"c/1", b"new")
        outside.put(base + b"a/1", b"new")
        told = {(entry.key, entry.value) for entry in changes(frames, 2)}
        assert told == {(base + b"b/1", b"old"), (base + b"a/1", b"new")}
        stream.close()

    def test_a_stream_takes_many_wants(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """However long the request for them gets, all watches open, each time."""
        start = driver.read([base], timeout=LONG).revision + 1
        wants = [Want(base + f"service-{number}/".encode(), start) for number in range(100)]
        for _ in range(5):
            stream = driver.watch(wants, timeout=LONG, idle=LONG)
            frames = iter(stream)
            assert isinstance(next(frames), Opened)
            stream.close()
        stream = driver.watch(wants, timeout=LONG, idle=LONG)
        outside.put(wants[-1].prefix + b"1", b"")
        assert isinstance(next(frames := iter(stream)), Opened)
        assert changes(frames, 1)[0].key == wants[-1].prefix + b"1"
        stream.close()

    def test_deletions_are_told_without_a_value(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """The event of a deletion has no value and the revision of the deletion."""
        outside.put(base + b"1", b"x")
        revision = driver.read([base], timeout=LONG).revision
        stream = driver.watch([Want(base, revision + 1)], timeout=LONG, idle=LONG)
        frames = iter(stream)
        next(frames)
        outside.delete_prefix(base)
        (deleted,) = changes(frames, 1)
        assert (deleted.key, deleted.value) == (base + b"1", None)
        assert deleted.mod_revision > revision
        stream.close()

    def test_silence_ends_a_stream_in_peace(self, driver: Driver, base: bytes) -> None:
        """F40: after `idle` seconds without a frame the iteration ends, for the caller to open another stream."""
        start = driver.read([base], timeout=LONG).revision + 1
        frames = list(driver.watch([Want(base, start)], timeout=LONG, idle=0.2))
        assert [type(frame) for frame in frames] == [Opened]

    def test_close_unblocks_the_reader(self, driver: Driver, base: bytes) -> None:
        """F79: a stream that another thread reads ends at once when it is closed, with `Closed`, and only once."""
        start = driver.read([base], timeout=LONG).revision + 1
        stream = driver.watch([Want(base, start)], timeout=LONG, idle=LONG)
        self.assert_unblocked_by(stream.close, iter(stream))
        stream.close()

    def test_closing_the_driver_unblocks_its_readers(self, driver: Driver, base: bytes) -> None:
        """F79: closing the driver ends its streams."""
        start = driver.read([base], timeout=LONG).revision + 1
        self.assert_unblocked_by(driver.close, iter(driver.watch([Want(base, start)], timeout=LONG, idle=LONG)))

    def assert_unblocked_by(self, close: Callable[[], None], frames: Iterator[Frame]) -> None:
        opened = threading.Event()

        def consume() -> None:
            for _frame in frames:
                opened.set()

        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(consume)
            assert opened.wait(LONG)
            before = time.monotonic()
            close()
            assert isinstance(reader.exception(LONG), Closed)
            assert time.monotonic() - before < 1.0

    def test_a_stream_closed_before_it_is_read_never_opens(self, driver: Driver, base: bytes) -> None:
        """Closing comes first: nothing is connected."""
        stream = driver.watch([Want(base, 1)], timeout=LONG, idle=LONG)
        stream.close()
        with pytest.raises(Closed):
            next(iter(stream))

    def test_a_compacted_start_is_compacted(self, driver: Driver, outside: Outside, base: bytes) -> None:
        """F35: a watch whose start was compacted says so instead of falling silent."""
        outside.put(base + b"1", b"")
        start = driver.read([base], timeout=LONG).revision
        outside.put(base + b"1", b"")
        outside.compact()
        with pytest.raises(Compacted):
            list(driver.watch([Want(base, start)], timeout=LONG, idle=LONG))

    def test_a_start_in_the_future_is_compacted(self, driver: Driver, base: bytes) -> None:
        """F32: a start that a store was reset below would wait in silence: list again."""
        start = driver.read([base], timeout=LONG).revision + 100
        with pytest.raises(Compacted):
            list(driver.watch([Want(base, start)], timeout=LONG, idle=LONG))

    def test_publish_puts_once(self, driver: Driver, base: bytes, lease: int) -> None:
        """F54: publishing again changes nothing; the answers tell who held the key before."""
        assert driver.publish(base + b"1", b"a", lease, timeout=LONG) == 0
        first = driver.read([base], timeout=LONG)
        assert driver.publish(base + b"1", b"a", lease, timeout=LONG) == lease
        assert driver.read([base], timeout=LONG) == first
        assert (first.entries[0].value, first.entries[0].lease) == (b"a", lease)

    def test_publish_replaces_the_value(self, driver: Driver, base: bytes, lease: int) -> None:
        """Another value under our lease is written."""
        driver.publish(base + b"1", b"a", lease, timeout=LONG)
        assert driver.publish(base + b"1", b"b", lease, timeout=LONG) == lease
        assert driver.read([base], timeout=LONG).entries[0].value == b"b"

    def test_publish_takes_over_and_names_the_loser(self, driver: Driver, base: bytes, lease: int) -> None:
        """F16: without `expect` the key is taken from whoever holds it, who is named."""
        other = new_lease()
        driver.grant(other, TTL, timeout=LONG)
        driver.publish(base + b"1", b"theirs", other, timeout=LONG)
        assert driver.publish(base + b"1", b"ours", lease, timeout=LONG) == other
        assert driver.read([base], timeout=LONG).entries[0].lease == lease
        driver.revoke(other, timeout=LONG)
        assert driver.read([base], timeout=LONG).entries[0].value == b"ours"

    def test_publish_spares_a_stranger(self, driver: Driver, base: bytes, lease: int) -> None:
        """F16: with `expect` a key of any other lease is left alone, and its holder named."""
        other = new_lease()
        driver.grant(other, TTL, timeout=LONG)
        driver.publish(base + b"1", b"theirs", other, timeout=LONG)
        assert driver.publish(base + b"1", b"ours", lease, timeout=LONG, expect=0) == other
        assert driver.read([base], timeout=LONG).entries[0].value == b"theirs"
        assert driver.publish(base + b"1", b"ours", lease, timeout=LONG, expect=other) == other
        assert driver.read([base], timeout=LONG).entries[0].value == b"ours"
        driver.revoke(other, timeout=LONG)

    def test_publish_with_expect_puts_what_is_free_or_ours(self, driver: Driver, base: bytes, lease: int) -> None:
        """`expect` never keeps us from a key that is free, or ours already."""
        assert driver.publish(base + b"1", b"a", lease, timeout=LONG, expect=0) == 0
        assert driver.publish(base + b"1", b"a", lease, timeout=LONG, expect=0) == lease
        assert driver.publish(base + b"1", b"b", lease, timeout=LONG, expect=0) == lease
        assert driver.read([base], timeout=LONG).entries[0].value == b"b"

    def test_publish_without_a_lease_fails(self, driver: Driver, base: bytes) -> None:
        """F52: a lease that is gone is told as such, and nothing is written."""
        with pytest.raises(LeaseGone):
            driver.publish(base + b"1", b"a", new_lease(), timeout=LONG)
        assert driver.read([base], timeout=LONG).entries == ()

    @pytest.mark.parametrize("size", [1_600_000, 2_700_000])
    def test_too_large_a_value_is_rejected(self, driver: Driver, base: bytes, lease: int, size: int) -> None:
        """F57: etcd and the gRPC below it refuse with different words; both are final."""
        with pytest.raises(Rejected):
            driver.publish(base + b"1", b"x" * size, lease, timeout=LONG)

    def test_granting_again_is_success(self, driver: Driver) -> None:
        """A grant whose answer was lost may be repeated; the TTL is the one that was granted."""
        lease = new_lease()
        assert driver.grant(lease, TTL, timeout=LONG) == TTL
        assert driver.grant(lease, TTL, timeout=LONG) == TTL
        driver.revoke(lease, timeout=LONG)

    def test_the_granted_ttl_may_be_longer(self, driver: Driver) -> None:
        """The TTL that counts is the one in the answer: no lease is shorter than 2 s."""
        lease = new_lease()
        assert driver.grant(lease, 1, timeout=LONG) == 2
        driver.revoke(lease, timeout=LONG)

    def test_keepalive_returns_the_ttl_or_zero(self, driver: Driver, lease: int) -> None:
        """F52: a dead lease has no time left, and that is no error."""
        assert driver.keepalive(lease, timeout=LONG) == TTL
        assert driver.keepalive(new_lease(), timeout=LONG) == 0

    def test_revoke_takes_the_keys_along(self, driver: Driver, base: bytes) -> None:
        """Revoking a lease deletes its keys; revoking it again is no error."""
        lease = new_lease()
        driver.grant(lease, TTL, timeout=LONG)
        driver.publish(base + b"1", b"a", lease, timeout=LONG)
        driver.revoke(lease, timeout=LONG)
        driver.revoke(lease, timeout=LONG)
        assert driver.read([base], timeout=LONG).entries == ()
        assert driver.keepalive(lease, timeout=LONG) == 0

    def test_revoking_a_key_is_guarded(self, driver: Driver, base: bytes, lease: int) -> None:
        """Only a key under our lease is deleted, and the lease lives on."""
        driver.publish(base + b"1", b"a", lease, timeout=LONG)
        driver.revoke(new_lease(), base + b"1", timeout=LONG)
        assert len(driver.read([base], timeout=LONG).entries) == 1
        driver.revoke(lease, base + b"1", timeout=LONG)
        driver.revoke(lease, base + b"1", timeout=LONG)
        assert driver.read([base], timeout=LONG).entries == ()
        assert driver.keepalive(lease, timeout=LONG) == TTL

    def test_no_time_left_is_unavailable(self, driver: Driver, base: bytes, lease: int) -> None:
        """A deadline that has passed already fails at once, and certainly nothing was done."""
        with pytest.raises(Unavailable) as failure:
            driver.publish(base + b"1", b"a", lease, timeout=0.0)
        assert not failure.value.ambiguous
        with pytest.raises(Unavailable):
            driver.read([base], timeout=-1.0)

    def test_a_closed_driver_refuses(self, new_driver: NewDriver, base: bytes) -> None:
        """F79: after `close`, which may be repeated, everything raises `Closed`."""
        driver = new_driver()
        driver.close()
        driver.close()
        for use in (
            lambda: driver.read([base], timeout=LONG),
            lambda: driver.grant(1, TTL, timeout=LONG),
            lambda: driver.keepalive(1, timeout=LONG),
            lambda: driver.publish(base, b"", 1, timeout=LONG),
            lambda: driver.revoke(1, timeout=LONG),
            lambda: list(driver.watch([Want(base, 1)], timeout=LONG, idle=LONG)),
        ):
            with pytest.raises(Closed):
                use()
