"""What every integration test gets: the check for leaks, an etcd for the whole session, a prefix of its own."""

import uuid
from collections.abc import Iterator

import pytest

from integration.harness.etcd import Etcd, single
from tests.leaks import no_leaks

__all__ = ["no_leaks"]


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    """Lend the session's etcd: write below `prefix` only, never break it (`harness.etcd.single` is for that)."""
    with single(()) as node:
        yield node


@pytest.fixture
def prefix() -> str:
    """Return a key prefix that no other test uses, such as "/test-5f3a…"."""
    return f"/test-{uuid.uuid4().hex}"
