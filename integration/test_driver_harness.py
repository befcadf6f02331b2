"""The harness itself: etcd and the proxy really break the way tests believe they do."""

import httpx
import pytest

from integration.harness.etcd import Etcd, below, secured, single
from integration.harness.proxy import FaultProxy


def read_through(proxy: FaultProxy, *, timeout: float = 5.0) -> bytes:
    with httpx.Client(trust_env=False, timeout=timeout) as client:
        return client.post(f"{proxy.url}/v3/maintenance/status", json={}).content


def test_data_survive_a_kill_but_not_a_wipe() -> None:
    """F31, F32: kill -9 keeps the data, a wipe starts again at revision 1."""
    with single() as node:
        node.put("/a/1")
        node.kill9()
        assert not node.healthy()
        node.restart()
        assert len(node.post("kv/range", below("/a/"))["kvs"]) == 1
        assert node.compact() == 2
        node.wipe()
        assert node.put("/a/1") == 2


def test_client_certificates_are_asked_for() -> None:
    """A node that wants client certificates refuses those who have none."""
    with secured(client_certificates=True) as (node, files):
        assert set(files) == {"ca", "cert", "key"}
        node.put("/a/1")
        with httpx.Client(verify=False, trust_env=False) as client, pytest.raises(httpx.TransportError):
            client.post(f"{node.url}/v3/maintenance/status", json={})


def test_the_proxy_fails_as_told(etcd: Etcd) -> None:
    """Each verb of the proxy does what its name says, and can be taken back."""
    with FaultProxy(etcd.port) as proxy:
        whole = read_through(proxy)
        assert b"member_id" in whole
        proxy.truncate_after(30)
        with pytest.raises(httpx.RemoteProtocolError):
            read_through(proxy)
        proxy.half_close_after(30)
        with pytest.raises(httpx.RemoteProtocolError):
            read_through(proxy)
        proxy.reset_after(0)
        with pytest.raises(httpx.ReadError):
            read_through(proxy)
        proxy.refuse()
        with pytest.raises(httpx.ConnectError):
            read_through(proxy)
        proxy.pass_through()
        proxy.blackhole()
        with pytest.raises(httpx.ReadTimeout):
            read_through(proxy, timeout=0.2)
        proxy.pass_through()
        proxy.delay(0.01)
        assert b"member_id" in read_through(proxy)
        assert proxy.accepted == 6
