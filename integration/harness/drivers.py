"""The etcd driver that tests of drivers use: the gateway's, or in a child of test_driver_grpc.py the one over gRPC."""

import os
from typing import Any, Final

import pytest

from p2plb.discovery.etcd.common import EtcdDriver
from p2plb.discovery.etcd.gateway import Gateway
from p2plb.discovery.etcd.grpc import Grpc

ENVIRONMENT: Final = "P2PLB_TEST_DRIVER"
OVER_GRPC: Final = os.environ.get(ENVIRONMENT) == "grpc"

gateway_only = pytest.mark.skipif(OVER_GRPC, reason="of HTTP alone, or of what the drivers share")
grpc_only = pytest.mark.skipif(not OVER_GRPC, reason="of gRPC alone: runs in the child of test_driver_grpc.py")


def new_driver(endpoints: list[str], **options: Any) -> EtcdDriver:
    """Return a driver of the kind that is tested."""
    return (Grpc if OVER_GRPC else Gateway)(endpoints, **options)
