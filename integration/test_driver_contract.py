"""Each etcd driver does on a real etcd what every driver must."""

from collections.abc import Callable

import pytest

from integration.harness.drivers import new_driver
from integration.harness.etcd import Etcd, raw_below, raw_encode
from p2plb.discovery.etcd.driver import Driver
from tests.contract_driver import DriverContract


class Operator:
    """The etcd as an operator sees it, for any bytes."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    def put(self, key: bytes, value: bytes) -> None:
        self._etcd.post("kv/put", {"key": raw_encode(key), "value": raw_encode(value)})

    def delete_prefix(self, prefix: bytes) -> None:
        self._etcd.post("kv/deleterange", raw_below(prefix))

    def compact(self) -> None:
        self._etcd.compact()


@pytest.fixture
def outside(etcd: Etcd) -> Operator:
    return Operator(etcd)


@pytest.fixture(name="new_driver")
def fixture_new_driver(etcd: Etcd) -> Callable[[], Driver]:
    return lambda: new_driver([etcd.url])


class TestContract(DriverContract):
    pass
