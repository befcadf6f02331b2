"""The long checks of `integration/soak`, made short enough for every run."""

import pytest

from integration.soak.drain import drain
from integration.soak.etcd_outage import etcd_outage
from integration.soak.rolling_kill import rolling_kill
from integration.soak.shutdown import shutdown

BOTH = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@BOTH
def test_rolling_kill(asynchronous: bool) -> None:
    """No GET fails while one instance after the other is killed and started again (F01, F14)."""
    outcome = rolling_kill(asynchronous=asynchronous, count=1000, every=0.3)
    assert outcome.failed == []
    assert outcome.complaints == []
    assert outcome.kills > 0


@BOTH
def test_drain(asynchronous: bool) -> None:
    """No POST fails and none is executed twice while instances are drained (F02, F70)."""
    outcome = drain(asynchronous=asynchronous, drains=1, in_flight=4)
    assert outcome.failed == []
    assert outcome.complaints == []
    assert outcome.statuses == [0]


@pytest.mark.parametrize(("how", "asynchronous"), [("stop", True), ("kill", False)])
def test_etcd_outage(how: str, asynchronous: bool) -> None:
    """No call fails while etcd is away, and news arrive once it is back (F26, F31)."""
    outcome = etcd_outage(how, asynchronous=asynchronous, seconds=0.7)
    assert outcome.failed == []
    assert outcome.calls > 10


@pytest.mark.parametrize("way", ["lifespan", "register"])
def test_shutdown(way: str) -> None:
    """No POST fails when uvicorn gets SIGTERM, registered by its lifespan or by a parent (F02)."""
    outcome = shutdown("uvicorn", way, in_flight=4)
    assert outcome.failed == []
    assert outcome.calls > 10
