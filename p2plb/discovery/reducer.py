"""From lists and events of the registry to snapshots: what is believed, in which order, and what changes by it.

A pure state machine: it reads no clock and no socket, and whoever feeds it (watcher.py) does so from one thread. It
distrusts its input: etcd is known to lose, repeat and reorder events, and may be wiped or restored under our feet. So
an event counts only if it is newer than what is known of its key, and a full list is always the truth.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter

from p2plb.discovery.etcd.driver import Entry
from p2plb.discovery.ghosts import Losses, MassLoss
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance

Decode = Callable[[bytes, bytes], Instance]
"""From key and value to the instance; raises `ValueError` for what can't be believed."""

ServiceOf = Callable[[bytes], str | None]
"""From a key to the service below which it stands."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that was passed over: where, since which revision, why."""

    key: bytes
    mod_revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Known:
    instance: Instance
    created: int
    value: bytes


class _Service:
    """What is known of one service."""

    def __init__(self, name: str, rule: MassLoss) -> None:
        self.name = name
        self.known: dict[bytes, _Known] = {}
        self.skipped: dict[bytes, Skipped] = {}
        self.seen: dict[bytes, int] = {}  # the newest revision of each key since the last list, tombstones included
        self.base = 0  # the revision of the last list
        self.last = 0  # the newest revision taken in
        self.losses = Losses(rule)
        self.shown: frozenset[str] = frozenset()  # the ids of the living in the last snapshot
        self.snapshot: Snapshot | None = None

    def forget_events(self, revision: int) -> None:
        self.seen.clear()
        self.base = self.last = revision

    def accepts(self, entry: Entry) -> bool:
        """Whether an event is news; notes its revision."""
        self.last = max(self.last, entry.mod_revision)
        if entry.mod_revision <= self.seen.get(entry.key, self.base):
            return False
        self.seen[entry.key] = entry.mod_revision
        return True

    def remove(self, key: bytes, now: float) -> None:
        """Take a record out; if it never said `draining`, that is a loss."""
        self.skipped.pop(key, None)
        known = self.known.pop(key, None)
        if known and known.instance.state == "up" and known.instance.id in self.shown:
            self.losses.add(known.instance, now)

    def recall(self, last: Snapshot | None, now: float) -> None:
        """Count those of an older snapshot as lost if nobody is left; whoever is listed all the same is no loss.

        The snapshot is from before a rest or a fork and of any age. Some of it may have left in good order since, so it
        is not held against a list that names others, who can be called.
        """
        if last is not None and not any(record.instance.state == "up" for record in self.known.values()):
            for instance in last.instances:
                if instance.state == "up":
                    self.losses.add(instance, now)

    def is_due(self, now: float) -> bool:
        """Whether a ghost is to be laid."""
        due = self.losses.due
        return due is not None and due <= now

    def refresh(self, revision: int, now: float) -> Snapshot | None:
        """Return the new snapshot, None if it says what the last one said."""
        live = _one_per_address(self.known.values())
        self.shown = frozenset(instance.id for instance in live)
        ghosts = self.losses.settle(live, now)
        instances = tuple(sorted((*live, *ghosts), key=attrgetter("id")))
        snapshot = Snapshot(self.name, instances, revision, frozenset(ghost.id for ghost in ghosts))
        if self.snapshot and (self.snapshot.instances, self.snapshot.ghosts) == (instances, snapshot.ghosts):
            return None
        self.snapshot = snapshot
        return snapshot


class Reducer:
    """Holds the records of the wanted services and says which snapshots change.

    `last` returns what was known of a service that was not wanted for a while.
    `listed`, `changed` and `tick` return the snapshots that became new, at most one for each service. Called by one
    thread at a time.
    """

    def __init__(
        self,
        decode: Decode,
        service_of: ServiceOf,
        rule: MassLoss | None = None,
        last: Callable[[str], Snapshot | None] = lambda _service: None,
    ) -> None:
        self._decode = decode
        self._service_of = service_of
        self._last = last
        self._rule = rule or MassLoss()
        self._services: dict[str, _Service] = {}
        self._news: list[Skipped] = []

    @property
    def revision(self) -> int:
        """The newest revision taken in, 0 before the first."""
        return max((service.last for service in self._services.values()), default=0)

    @property
    def skipped(self) -> int:
        """How many records can't be read now."""
        return sum(len(service.skipped) for service in self._services.values())

    @property
    def due(self) -> float | None:
        """When `tick` will have something to do, None if nothing is pending."""
        dues = [service.losses.due for service in self._services.values()]
        return min((due for due in dues if due is not None), default=None)

    def start(self, service: str) -> int:
        """Return the revision from which to watch a service that was listed."""
        return self._services[service].last + 1

    def keep(self, services: Iterable[str]) -> None:
        """Forget every other service."""
        wanted = set(services)
        self._services = {name: service for name, service in self._services.items() if name in wanted}

    def news(self) -> list[Skipped]:
        """Return the records that were passed over since the last time, each revision of a key once."""
        news, self._news = self._news, []
        return news

    def listed(self, services: Iterable[str], entries: Iterable[Entry], revision: int, now: float) -> list[Snapshot]:
        """Take in a full list of `services` at `revision`, whatever was known before."""
        wanted = {name: self._services.get(name) or _Service(name, self._rule) for name in services}
        present: dict[str, dict[bytes, Entry]] = {name: {} for name in wanted}
        for entry in entries:
            name = self._service_of(entry.key)
            if name in present:
                present[name][entry.key] = entry
        for name, service in wanted.items():
            self._replace(service, present[name], now)
            service.forget_events(revision)
            if name not in self._services:
                service.recall(self._last(name), now)
        self._services |= wanted
        return _news(service.refresh(revision, now) for service in wanted.values())

    def changed(self, entries: Iterable[Entry], now: float) -> list[Snapshot]:
        """Take in events, in the order in which they came."""
        touched: dict[str, int] = {}
        for entry in entries:
            service = self._services.get(self._service_of(entry.key) or "")
            if service is not None and service.accepts(entry):
                self._apply(service, entry, now)
                touched[service.name] = max(touched.get(service.name, 0), entry.mod_revision)
        return _news(self._services[name].refresh(revision, now) for name, revision in touched.items())

    def tick(self, now: float) -> list[Snapshot]:
        """Let ghosts go whose time is over."""
        haunted = [service for service in self._services.values() if service.is_due(now)]
        return _news(service.refresh(service.last, now) for service in haunted)

    def _replace(self, service: _Service, present: dict[bytes, Entry], now: float) -> None:
        for key in (service.known.keys() | service.skipped.keys()) - present.keys():
            service.remove(key, now)
        for entry in present.values():
            self._apply(service, entry, now)

    def _apply(self, service: _Service, entry: Entry, now: float) -> None:
        if entry.value is None:
            service.remove(entry.key, now)
            return
        try:
            instance = self._instance(service.known.get(entry.key), entry.key, entry.value)
        except ValueError as error:
            self._skip(service, entry, str(error), now)
        else:
            service.skipped.pop(entry.key, None)
            service.known[entry.key] = _Known(instance, entry.create_revision, entry.value)

    def _instance(self, known: _Known | None, key: bytes, value: bytes) -> Instance:
        """Decode, unless it is what is known already, as most of a full list is: decoding is dear."""
        return known.instance if known is not None and known.value == value else self._decode(key, value)

    def _skip(self, service: _Service, entry: Entry, reason: str, now: float) -> None:
        before = service.skipped.get(entry.key)
        service.remove(entry.key, now)
        service.skipped[entry.key] = Skipped(entry.key, entry.mod_revision, reason)
        if before is None or before.mod_revision != entry.mod_revision:
            self._news.append(service.skipped[entry.key])


def _one_per_address(known: Iterable[_Known]) -> list[Instance]:
    """Of several records with one address, return the one that was created last: the others have died there."""
    newest: dict[tuple[str, int], _Known] = {}
    for record in known:
        address = (record.instance.host, record.instance.port)
        other = newest.get(address)
        if other is None or _seniority(record) > _seniority(other):
            newest[address] = record
    return [record.instance for record in newest.values()]


def _seniority(record: _Known) -> tuple[int, str]:
    return record.created, record.instance.id


def _news(snapshots: Iterable[Snapshot | None]) -> list[Snapshot]:
    return [snapshot for snapshot in snapshots if snapshot is not None]
