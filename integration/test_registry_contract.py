"""The registry on a real etcd against the contract of all registries."""

from collections.abc import Iterator

import pytest

from integration.harness.drivers import new_driver
from integration.harness.etcd import Etcd
from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.registry import EtcdRegistry
from p2plb.instance import Instance
from tests.contract_registry import RegistryContract


class RealStage:
    """A registry over the driver that is tested, and a hand that writes to etcd without it."""

    def __init__(self, etcd: Etcd, prefix: str) -> None:
        self.registry = EtcdRegistry(new_driver([etcd.url]), prefix=prefix)
        self._etcd = etcd
        self._root = records.services_root(prefix)

    def put(self, instance: Instance) -> None:
        key = records.key(self._root, instance.service, instance.id)
        self._etcd.put(key.decode(), records.encode(instance).decode())

    def remove(self, instance: Instance) -> None:
        self._etcd.delete_prefix(records.key(self._root, instance.service, instance.id).decode())


class TestEtcd(RegistryContract):
    @pytest.fixture
    def stage(self, etcd: Etcd, prefix: str) -> Iterator[RealStage]:
        stage = RealStage(etcd, prefix)
        yield stage
        stage.registry.close()
