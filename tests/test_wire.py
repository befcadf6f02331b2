"""What stood in etcd, and where keys lay, in each release: still read and placed the same by this one.

The files below fixtures/wire/<release>/ are what that release wrote. They are never changed; a release whose writing
differs adds a folder of its own. Placements may change in a major release only.
"""

import json
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.consistent_hash import ConsistentHash, Maglev, Rendezvous
from p2plb.balancing.strategies.hashing import hash_key
from p2plb.balancing.strategies.keyed import Keyed
from p2plb.balancing.strategies.placement import place
from p2plb.cli.listing import record
from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.driver import Entry
from p2plb.discovery.reducer import Reducer
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance
from p2plb.sharding.shardmap import fill
from p2plb.sharding.slots import slot_of
from p2plb.version import __version__

RELEASES = sorted(Path(__file__).parent.joinpath("fixtures", "wire").iterdir())
ROOT = records.services_root()


def stored(release: Path) -> dict[str, bytes]:
    return {file.stem: file.read_bytes() for file in sorted(release.joinpath("records").iterdir())}


def loaded(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text("utf-8"))
    assert isinstance(found, dict)
    return found


by_release = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)


def test_this_release_has_its_files() -> None:
    """A release is not made before what it writes is kept."""
    assert ".".join(__version__.split(".")[:2]) in {release.name for release in RELEASES}


@by_release
def test_records_are_still_read(release: Path) -> None:
    """F47: each stored record means what it meant: unknown fields, unknown states and all."""
    meaning = loaded(release / "meaning.json")
    for name, value in stored(release).items():
        if isinstance(meaning[name], dict):
            found = records.decode(ROOT, records.key(ROOT, "users", name), value, loopback=False)
            assert json.loads(json.dumps(record(found))).items() >= meaning[name].items(), name


@by_release
def test_a_greater_version_is_skipped_and_counted(release: Path) -> None:
    """F47: a record of a version to come hides its instance from us, and nothing else."""
    entries = [Entry(records.key(ROOT, "users", name), value, 1, 1) for name, value in stored(release).items()]
    reducer = Reducer(partial(records.decode, ROOT, loopback=False), partial(records.service_of, ROOT))
    (snapshot,) = reducer.listed(["users"], entries, 1, 0.0)
    assert {one.id for one in snapshot.instances} == stored(release).keys() - {"greater-v"}
    assert reducer.skipped == 1


@by_release
def test_what_is_written_only_grows(release: Path) -> None:
    """Additions never raise `v`: readers of that release still find each field that they know."""
    then = json.loads(stored(release)["full"])
    names = {each.name for each in fields(Instance) if each.init}
    known = {name: value for name, value in then.items() if name in names}
    now = json.loads(records.encode(Instance(**{**known, "http": tuple(then["http"])})))
    assert now.items() >= then.items()
    assert now["v"] == then["v"] == 1
    assert now["sdk"].startswith("p2plb/")


PLACING = [ConsistentHash(), Maglev(), Rendezvous()]


@pytest.mark.parametrize("strategy", PLACING, ids=lambda strategy: type(strategy).__name__)
@by_release
def test_keys_lie_where_they_lay(release: Path, strategy: Keyed) -> None:
    """F85: each key is placed on the same instances, in the same order, in whichever order they come."""
    kept = loaded(release / "placements.json")
    weights, owners = kept["weights"], kept["owners"][type(strategy).__name__]
    nodes = [
        Node(Instance(name, "users", f"http://{name}.example:80", weight=weight)) for name, weight in weights.items()
    ]
    placement = place(strategy.placement, "users", weights)
    for key, names in owners.items():
        assert [placement.names[number] for number in placement.owners(hash_key(key))] == names, key
    for order in (nodes, nodes[::-1]):
        pick = strategy(order)
        for key, names in owners.items():
            assert pick(Call("users", key=key)).id == names[0]


@by_release
def test_slots_have_the_owners_that_they_had(release: Path) -> None:
    """The computed shard map: keys are in the slots where they were, and slots have the same owners, in order."""
    kept = loaded(release / "slots.json")
    weights = kept["weights"]
    members = [Instance(name, "users", f"http://{name}.example:80", weight=weights[name]) for name in weights]
    found = fill(Snapshot("users", tuple(members)))
    letters = dict(zip(sorted(weights), "abcde", strict=True))
    assert "".join(letters[owner] for owner in found.owners) == kept["owners"]
    for key, (slot, *owners) in kept["keys"].items():
        assert slot_of(key) == slot, key
        assert [one.id for one in found.replicas(key, len(weights))] == owners, key
