"""The driver of `etcd+grpc://`: python-etcd3's stubs on channels of our own, never its Watcher or its retries.

Documents become etcd's messages and back by protobuf's JSON mapping, so that all judgement is shared with the gateway's
driver. It knows methods, metadata and status codes; channels are channels.py's. Nothing of it is loaded before a
`Grpc` is made.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from p2plb.discovery.etcd import faults
from p2plb.discovery.etcd.carrier import Carrier, Feed, NoAnswerInTime, Stale
from p2plb.discovery.etcd.channels import Channel, Channels
from p2plb.discovery.etcd.common import EtcdDriver
from p2plb.discovery.etcd.credentials import Credentials, LastGood
from p2plb.discovery.etcd.driver import DriverError, Unavailable
from p2plb.discovery.etcd.messages import Json

_JOINED_WITHIN: Final = 1.0
_METHODS: Final = {
    "kv/txn": ("KVStub", "Txn", "TxnRequest"),
    "lease/grant": ("LeaseStub", "LeaseGrant", "LeaseGrantRequest"),
    "lease/keepalive": ("LeaseStub", "LeaseKeepAlive", "LeaseKeepAliveRequest"),
    "lease/revoke": ("LeaseStub", "LeaseRevoke", "LeaseRevokeRequest"),
    "auth/authenticate": ("AuthStub", "Authenticate", "AuthenticateRequest"),
}


class Grpc(EtcdDriver):
    """A `Driver` over gRPC; without `ca` the authorities count that grpcio brings along.

    `ImportError` says what to do if python-etcd3 is missing or does not load.
    """

    schemes = ("etcd+grpc", "etcds+grpc")

    def _carrier(self, credentials: Credentials) -> Carrier:
        pems = LastGood(credentials.read_pems, f"the TLS files {credentials.files}")
        libraries = load()
        return GrpcCarrier(libraries, Channels(libraries.grpc, pems.get, self._clock), self._clock)


class Libraries(NamedTuple):
    """What python-etcd3 brings along."""

    grpc: Any
    etcd: Any  # the generated stubs and messages
    json: Any  # protobuf's JSON mapping

    def message(self, kind: str, document: Json) -> Any:
        """Return a document as a message; the stubs are too old for some fields, which etcd can do without."""
        return self.json.ParseDict(document, getattr(self.etcd, kind)(), ignore_unknown_fields=True)

    def document(self, message: Any) -> Json:
        """Return a message as the gateway would show it."""
        found: Json = self.json.MessageToDict(message, preserving_proto_field_name=True)
        return found


def load() -> Libraries:
    """Import python-etcd3 and what it needs; `ImportError` says what to do if that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the generated code is of 2020
            import etcd3.etcdrpc  # noqa: PLC0415  see above
            import grpc  # noqa: PLC0415  see above
            from google.protobuf import json_format  # noqa: PLC0415  see above
    except ImportError as error:
        raise ImportError(
            f"etcd+grpc:// needs python-etcd3 ({error}): pip install 'p2plb[etcd3]', or write etcd://, which does not"
        ) from error
    except TypeError as error:  # "Descriptors cannot be created directly"
        raise ImportError(
            "python-etcd3 does not load beside this protobuf: set PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python before"
            " the program starts, or install protobuf 3.20, or write etcd://, which needs neither"
        ) from error
    return Libraries(grpc, etcd3.etcdrpc, json_format)


class GrpcCarrier:
    """A `Carrier` over gRPC."""

    def __init__(self, libraries: Libraries, channels: Channels, clock: Callable[[], float]) -> None:
        self._libraries = libraries
        self._channels = channels
        self._clock = clock
        self._feeds: set[_GrpcFeed] = set()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._channels.closed

    def exchange(self, origin: str, path: str, body: Json, token: str, until: float, *, new: bool = False) -> Json:
        """Send a request and return its answer."""
        stub, method, kind = _METHODS[path]
        request = self._libraries.message(kind, body)
        with self._channels.lend(origin, new=new) as channel, self._judged(origin, channel):
            call = getattr(getattr(self._libraries.etcd, stub)(channel.raw), method)
            streams = method == "LeaseKeepAlive"
            ask = partial(_first, call) if streams else call
            answer = ask(request, metadata=_metadata(token), timeout=max(0.0, until - self._clock()))
            channel.answered = True
        document = self._libraries.document(answer)
        return {"result": document} if streams else document  # so the gateway answers where etcd streams

    @contextmanager
    def feed(self, origin: str, requests: Sequence[Json], token: str, deadline: float) -> Iterator[Feed]:
        """Lend a watch stream."""
        messages = [self._libraries.message("WatchRequest", request) for request in requests]
        metadata = (*_metadata(token), ("hasleader", "true"))  # or a member without quorum would only fall silent
        with self._channels.lend(origin) as channel:
            with self._judged(origin, channel):
                # etcd goes on after the last request, and then there is no thread that waits for more of them.
                call = self._libraries.etcd.WatchStub(channel.raw).Watch(iter(messages), metadata=metadata)
            feed = _GrpcFeed(self._libraries, origin, call, deadline, self._clock)
            self._feeds.add(feed)
            try:
                yield feed
            except Unavailable:
                channel.broken = True
                raise
            finally:
                feed.close()
                self._feeds.discard(feed)

    def close(self) -> None:
        """Close the channels, which ends all calls."""
        self._channels.close()

    def after_fork(self) -> None:
        """Forget what is the parent's; whether a child may connect is said in channels.py."""
        self._channels.after_fork(*self._feeds)
        self._feeds = set()

    @contextmanager
    def _judged(self, origin: str, channel: Channel) -> Iterator[None]:
        """Raise what a failure means, and use a channel that did not answer for no further calls."""
        try:
            yield
        except (self._libraries.grpc.RpcError, ValueError) as error:  # ValueError: the channel is closed
            fault = _fault(origin, error)
            channel.broken |= isinstance(fault, (faults.Broken, NoAnswerInTime))
            stale = channel.answered and isinstance(fault, faults.Broken)
            raise Stale(str(fault), ambiguous=True) if stale else fault from None


class _GrpcFeed:
    """A `Feed`. gRPC's streams wait without a bound, so a thread takes the answers in, one ahead."""

    def __init__(
        self, libraries: Libraries, origin: str, call: Any, deadline: float, clock: Callable[[], float]
    ) -> None:
        self.origin = origin
        self.deadline = deadline
        self._libraries = libraries
        self._call = call
        self._clock = clock
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._taken = threading.Semaphore()
        self._pump = threading.Thread(target=self._take_in, name="p2plb-etcd-stream", daemon=True)
        self._pump.start()

    def __iter__(self) -> Iterator[Json]:
        while (answer := self._next()) is not None:
            if isinstance(answer, Exception):
                raise _fault(self.origin, answer) from None
            yield {"result": self._libraries.document(answer)}

    def cut(self) -> None:
        """End the iteration in another thread; in a forked child nothing, for there the thread is none of its own."""
        if self._pump.is_alive():
            self._call.cancel()

    def close(self) -> None:
        """End the call and its thread."""
        if self._pump.is_alive():
            self._call.cancel()
            self._taken.release()
            self._pump.join(_JOINED_WITHIN)

    def _next(self) -> Any:
        try:
            answer = self._answers.get(timeout=max(0.0, self.deadline - self._clock()))
        except Empty:
            raise NoAnswerInTime(f"{self.origin} did not answer in time", ambiguous=True) from None
        self._taken.release()
        return answer

    def _take_in(self) -> None:
        end = None
        try:
            for answer in self._call:
                self._answers.put(answer)
                self._taken.acquire()
        except Exception as error:  # for the thread that iterates to judge
            end = error
        self._answers.put(end)


def _fault(origin: str, error: Any) -> DriverError:
    """Return what the failure of a call means."""
    if not hasattr(error, "code"):
        return Unavailable(f"{origin}: {error}", ambiguous=True)
    code = error.code()
    return faults.from_status(origin, code.value[0], error.details() or code.name)


def _first(call: Any, request: Any, **options: Any) -> Any:
    """Return the first answer of a call that goes on."""
    stream = call(iter([request]), **options)
    try:
        for answer in stream:
            return answer
    finally:
        stream.cancel()
    raise Unavailable("etcd ended a stream without an answer", ambiguous=True)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("token", token),) if token else ()
