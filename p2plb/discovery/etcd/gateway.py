"""The default driver: etcd 3.4 or newer through its JSON gateway, with nothing but HTTP/1.1."""

from p2plb.discovery.etcd.carrier import Carrier
from p2plb.discovery.etcd.common import EtcdDriver
from p2plb.discovery.etcd.credentials import Credentials, LastGood
from p2plb.discovery.etcd.http import HttpCarrier


class Gateway(EtcdDriver):
    """A `Driver` over the JSON gateway; without `ca` the system's authorities count."""

    def _carrier(self, credentials: Credentials) -> Carrier:
        contexts = LastGood(credentials.read_context, f"the TLS files {credentials.files}")
        return HttpCarrier(contexts.get, self._clock)
