"""The gRPC channels of one driver: one to each endpoint, opened when it is needed, shared by all calls to it.

A channel that broke is never used again: the next one reads the PEM files anew, and does not wait for gRPC's own pauses
between attempts. It is closed when the last call on it has ended.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from p2plb.discovery.etcd.carrier import CONNECT_WITHIN, MAX_ANSWER, USED_FOR
from p2plb.discovery.etcd.credentials import Pems
from p2plb.discovery.etcd.driver import Closed, Rejected

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # HTTP_PROXY does not concern etcd
    ("grpc.enable_retries", 0),  # retries are ours
    ("grpc.keepalive_time_ms", 10_000),  # etcd takes pings each 5 s for an attack
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.max_receive_message_length", MAX_ANSWER),
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_WITHIN * 1000)),  # bounds an attempt to connect, too
    ("grpc.primary_user_agent", "p2plb"),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
)

# grpcio does not survive a fork: in children of a process with an open channel, with GRPC_ENABLE_FORK_SUPPORT=0 every
# call hung, whatever its deadline, and else about one child in a hundred died of a segmentation fault. What a child
# inherits stands here for ever, for finalizers would touch the parent's connections.
_inherited: list[object] = []
_opened_by: set[int] = set()  # process ids


class Channel:
    """One channel, and what is known of it."""

    def __init__(self, raw: Any, opened: float) -> None:
        self.raw = raw
        self.opened = opened
        self.answered = False  # at least once
        self.broken = False  # to be used for no further calls
        self.calls = 0


class Channels:
    """Lends channels; `pems` returns the contents of the PEM files for a new one."""

    def __init__(self, grpc: Any, pems: Callable[[], Pems], clock: Callable[[], float]) -> None:
        self.closed = False
        self._grpc = grpc
        self._pems = pems
        self._clock = clock
        self._lock = threading.Lock()
        self._current: dict[str, Channel] = {}
        self._open: set[Channel] = set()  # also those that only wait for their last calls

    @contextmanager
    def lend(self, origin: str, *, new: bool = False) -> Iterator[Channel]:
        """Lend the channel to an endpoint, a `new` one if asked; raises `Rejected` in a child that can't have any."""
        with self._lock:
            channel = self._take(origin, new=new)
        try:
            yield channel
        finally:
            self._give_back(origin, channel)

    def close(self) -> None:
        """Close all channels, which ends all calls; idempotent."""
        with self._lock:
            self.closed = True
            channels, self._open = self._open, set()
        for channel in channels:
            channel.raw.close()

    def after_fork(self, *others: object) -> None:
        """Put the parent's channels, and what else is given, away for ever; nothing is closed or sent."""
        _inherited.extend([*self._open, *others])
        self._lock = threading.Lock()
        self._current = {}
        self._open = set()

    def _take(self, origin: str, *, new: bool) -> Channel:
        if self.closed:
            raise Closed("the driver was closed")
        channel = self._current.get(origin)
        if channel is None or new or self._is_old(channel):
            self._close_unused(channel)
            channel = self._current[origin] = self._dial(origin)
        channel.calls += 1
        return channel

    def _give_back(self, origin: str, channel: Channel) -> None:
        with self._lock:
            channel.calls -= 1
            if channel.broken and self._current.get(origin) is channel:
                del self._current[origin]
            if self._current.get(origin) is not channel:
                self._close_unused(channel)

    def _close_unused(self, channel: Channel | None) -> None:
        if channel is not None and not channel.calls and channel in self._open:
            self._open.remove(channel)
            channel.raw.close()

    def _is_old(self, channel: Channel) -> bool:
        return channel.broken or self._clock() - channel.opened > USED_FOR

    def _dial(self, origin: str) -> Channel:
        _refuse_forked()
        channel = Channel(self._raw(origin), self._clock())
        self._open.add(channel)
        return channel

    def _raw(self, origin: str) -> Any:
        scheme, _, address = origin.partition("://")
        target = f"dns:///{address}"  # else a host named "unix" or "dns" would be a scheme of gRPC's
        if scheme == "http":
            return self._grpc.insecure_channel(target, options=_OPTIONS)
        pems = self._pems()
        credentials = self._grpc.ssl_channel_credentials(pems.ca, pems.key, pems.cert)
        return self._grpc.secure_channel(target, credentials, options=_OPTIONS)


def _refuse_forked() -> None:
    _opened_by.add(os.getpid())
    if len(_opened_by) > 1:
        raise Rejected(
            "gRPC does not survive a fork, and the process from which this one was forked has used etcd+grpc:// before:"
            " use it in children only, start them with spawn, or write etcd://, which forks well"
        )
