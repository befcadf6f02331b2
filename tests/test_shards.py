"""Calls to owners: they meet the owner and nobody else, and a scatter says what became of each part."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest

import p2plb
from p2plb import NoInstances, Policy, Retry
from p2plb.discovery.memory import MemoryRegistry
from p2plb.sharding.computed import Moved
from p2plb.sharding.scattering import Scattered
from tests.drivers import Caller, Sync, World, everywhere, on_loops
from tests.fake_registry import FakeRegistry
from tests.fakes import instance, snapshot

KEYS = [f"user-{number}" for number in range(40)]
URL = "http://users/"


class Sharded:
    """Shards of either kind, with methods to be awaited either way."""

    def __init__(self, caller: Caller, service: str = "users") -> None:
        kind = p2plb.AsyncShards if hasattr(caller.raw, "aclose") else p2plb.Shards
        self.raw: Any = kind(caller.raw, service)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **options: Any) -> Any:
            result = getattr(self.raw, name)(*args, **options)
            return await result if isinstance(self.raw, p2plb.AsyncShards) else result

        return call


class Instances:
    """Instances behind mocks: who was asked what, and who answers what."""

    def __init__(self, world: World, *ids: str) -> None:
        self.registry = MemoryRegistry()
        self.world = world
        self.seen: list[tuple[str, str]] = []
        self.answers: dict[str, Any] = {}
        self.pause = 0.0
        self.busy = self.most = 0
        for one in ids:
            self.registry.put(instance(one))

    def client(self, **options: Any) -> Caller:
        return self.world.client(self.registry, inner=self.inner, **options)

    def inner(self, one: p2plb.Instance) -> Any:
        def answer(request: httpx.Request) -> httpx.Response:
            self.seen.append((one.id, request.url.path))
            found = self.answers.get(one.id, 200)
            if isinstance(found, Exception):
                raise found
            return self.world.httpx.Response(found, json=one.id)  # type: ignore[no-any-return]  # of either family

        async def slow(request: httpx.Request) -> httpx.Response:
            self.enter()
            await self.world.sleep(self.pause)
            self.busy -= 1
            return answer(request)

        def slow_sync(request: httpx.Request) -> httpx.Response:
            self.enter()
            time.sleep(self.pause)
            self.busy -= 1
            return answer(request)

        late = slow_sync if isinstance(self.world, Sync) else slow
        return self.world.mock(late if self.pause else answer)  # type: ignore[arg-type]  # async ones take async ones

    def enter(self) -> None:
        self.busy += 1
        self.most = max(self.most, self.busy)


@everywhere
async def test_calls_go_to_the_owner(world: World) -> None:
    """Whatever the policy's strategy, each key's calls go to its owner, who is the same for each client."""
    instances = Instances(world, "a", "b", "c")
    async with instances.client() as client, instances.client(strategy=p2plb.RoundRobin()) as other:
        shards = Sharded(client)
        owners = {key: (await shards.owner(key)).id for key in KEYS}
        assert set(owners.values()) == {"a", "b", "c"}
        for one in (shards, Sharded(other)):
            for key in KEYS[:10]:
                assert (await one.get(key, URL)).json() == owners[key]
                response = await one.post(key, URL, json={}, headers={"x": "y"})
                assert (response.json(), response.request.method) == (owners[key], "POST")
                assert response.extensions["p2plb"].instance.id == owners[key]
    instances.registry.close()


@everywhere
async def test_lookups(world: World) -> None:
    """Owner, replicas and groups agree with one another."""
    instances = Instances(world, "a", "b", "c")
    async with instances.client() as client:
        shards = Sharded(client)
        groups = await shards.group(KEYS)
        for key in KEYS:
            owner = await shards.owner(key)
            assert key in groups[owner]
            assert [owner, *(await shards.owners(key))[1:]] == list(await shards.owners(key, replicas=9))
    instances.registry.close()


@everywhere
async def test_the_first_lookup_waits_for_the_list(world: World) -> None:
    """Before the registry has answered there are no owners: a lookup waits, and gives up as a call does."""
    registry = FakeRegistry()
    async with world.client(registry, start_timeout=0.02) as client:
        with pytest.raises(NoInstances, match="nothing is known"):
            await Sharded(client).owner("user-42")
    async with world.client(registry) as client:
        shards, found = Sharded(client), []

        async def look() -> None:
            found.append((await shards.owner("user-42")).id)

        async def answer() -> None:
            await world.until(lambda: bool(registry.watches))
            registry.tell(snapshot("a"))

        await world.together(look, answer)
        assert found == ["a"]
        registry.tell(snapshot(revision=2))
        with pytest.raises(NoInstances, match="no instance of service 'users'"):
            await shards.owner("user-42")


@everywhere
async def test_an_owner_that_is_down(world: World) -> None:
    """F23: nobody else gets the call unless replicas are allowed; a fallback would not be the owner either."""
    instances = Instances(world, "a", "b", "c")
    policy = Policy(fallback="http://elsewhere.example:80")
    async with instances.client(policy=policy) as client:
        shards = Sharded(client)
        owner, second = (one.id for one in await shards.owners("user-42", replicas=2))
        instances.answers[owner] = world.httpx.ConnectError("down")
        with pytest.raises(httpx.ConnectError) as caught:
            await shards.post("user-42", URL)
        served: Any = caught.value.p2plb  # type: ignore[attr-defined]  # ours
        assert (served.via, served.maybe_processed) == ("peer", False)
        assert {one for one, _ in instances.seen} == {owner}
        assert (await shards.post("user-42", URL, replicas=2)).json() == second
        assert client.in_flight() == 0
    instances.registry.close()


@everywhere
async def test_a_bypass_is_no_owner(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2PLB_BYPASS sends other calls past the instances, but nobody there is the owner of a key."""
    monkeypatch.setenv("P2PLB_BYPASS", "1")
    instances = Instances(world, "a", "b")
    async with instances.client() as client:
        owner = await Sharded(client).owner("user-42")
        assert (await Sharded(client).get("user-42", URL)).json() == owner.id
    instances.registry.close()


@everywhere
async def test_a_retry_stays_with_the_owner(world: World) -> None:
    """What may be sent again is sent to the owner again."""
    instances = Instances(world, "a", "b", "c")
    policy = Policy(retry=Retry(attempts=3, backoff=0.001, max_backoff=0.002))
    async with instances.client(policy=policy) as client:
        owner = await Sharded(client).owner("user-42")
        instances.answers[owner.id] = 503
        assert (await Sharded(client).get("user-42", URL)).status_code == 503
        assert [one for one, _ in instances.seen] == [owner.id] * 3
    instances.registry.close()


@everywhere
async def test_an_owner_that_leaves_before_it_is_reached(world: World) -> None:
    """Between looking up and sending the owner may leave: nothing was sent, so the call goes to the next owner."""
    instances = Instances(world, "a", "b", "c")
    state: dict[str, Any] = {"asked": 0}

    def route(_request: Any) -> str:
        state["asked"] += 1
        if state["asked"] == 2:  # the first time it is asked whether the URL is for the service
            instances.registry.remove(state["owner"])
            while any(node.id == state["owner"] for node in client.raw.stats().services["users"].nodes):
                time.sleep(0.001)
        return "users"

    async with instances.client(route=route) as client:
        shards = Sharded(client)
        first, second = await shards.owners("user-42", replicas=2)
        state["owner"] = first.id
        assert (await shards.post("user-42", URL)).json() == second.id
    instances.registry.close()


@everywhere
async def test_an_owner_whom_the_client_leaves_out(world: World) -> None:
    """`only=` makes no other map, for all must agree: the call meets nobody and the error says why."""
    instances = Instances(world, "a", "b", "c")
    async with instances.client() as client:
        owner = (await Sharded(client).owner("user-42")).id
    async with instances.client(policy=Policy(only=lambda one: one.id != owner)) as client:
        with pytest.raises(NoInstances, match=rf"may go to {owner} only.*{owner} at .*: only= leaves it out"):
            await Sharded(client).get("user-42", URL)
    assert instances.seen == []
    instances.registry.close()


@everywhere
async def test_a_redirect_to_another_service(world: World) -> None:
    """What the call is bound to holds for its service; another one is called as ever."""
    instances = Instances(world, "a", "b")
    instances.registry.put(instance("o", "orders"))

    def inner(one: p2plb.Instance) -> Any:
        moved = world.httpx.Response(302, headers={"location": "http://orders/"})
        return world.mock(lambda _request: world.httpx.Response(200) if one.id == "o" else moved)

    async with world.client(instances.registry, inner=inner, follow_redirects=True) as client:
        response = await Sharded(client).get("user-42", URL)
        assert response.extensions["p2plb"].instance.id == "o"
    instances.registry.close()


@everywhere
async def test_a_redirect_from_an_owner_that_leaves(world: World) -> None:
    """A POST that its owner has carried out is not sent again because the owner leaves before the redirect."""
    instances = Instances(world, "a", "b")
    seen: list[str] = []

    def inner(one: p2plb.Instance) -> Any:
        def see_other(request: httpx.Request) -> httpx.Response:
            seen.append(request.method)
            instances.registry.remove(one.id)
            while any(node.id == one.id for node in client.raw.stats().services["users"].nodes):
                time.sleep(0.001)
            return world.httpx.Response(303, headers={"location": "/result"})  # type: ignore[no-any-return]  # of either family

        return world.mock(see_other)

    async with world.client(instances.registry, inner=inner, follow_redirects=True) as client:
        with pytest.raises(NoInstances):
            await Sharded(client).post("user-42", URL)
    assert seen == ["POST"]
    instances.registry.close()


@everywhere
async def test_wrong_arguments(world: World) -> None:
    """What can't be meant is an error that says what to write, and nothing is sent."""
    instances = Instances(world, "a", "b")
    async with instances.client() as client:
        shards = Sharded(client)
        with pytest.raises(ValueError, match="is not for service 'users'"):
            await shards.get("user-42", "http://orders/")
        with pytest.raises(ValueError, match="it is 1 or more, not 0"):
            await shards.owners("user-42", replicas=0)
        with pytest.raises(TypeError, match="a whole number, not True"):
            await shards.get("user-42", URL, replicas=True)
        request = client.raw.build_request("GET", URL)
        with pytest.raises(ValueError, match="a new request for each owner"):
            await shards.scatter(KEYS, lambda _keys: request)
        with pytest.raises(ValueError, match="is not for service 'users'"):
            await shards.scatter(KEYS, lambda _keys: client.raw.build_request("GET", "http://10.0.0.7/"))
        with pytest.raises(ValueError, match=r"scatter\(concurrency=\) is from 1"):
            await shards.scatter(KEYS, lambda _keys: request, concurrency=0)
        with pytest.raises(TypeError, match=r"scatter\(concurrency=\) is a whole number"):
            await shards.scatter(KEYS, lambda _keys: request, concurrency=2.5)
        with pytest.raises(TypeError, match="a function of what has moved"):
            shards.raw.on_change(None)
        with pytest.raises(TypeError, match="the service of shards is a string"):
            Sharded(client, 3)  # type: ignore[arg-type]  # that this fails is the subject
        wrong: Any = p2plb.Shards if hasattr(client.raw, "aclose") else p2plb.AsyncShards
        with pytest.raises(TypeError, match=r"Shards takes a p2plb\.Client, AsyncShards a p2plb\.AsyncClient"):
            wrong(client.raw, "users")
        with pytest.raises(TypeError, match=r"not (Async)?Transport"):
            type(shards.raw)(world.transport(instances.registry), "users")
    assert instances.seen == []
    instances.registry.close()


# --- scatter -------------------------------------------------------------------------------------------------------


async def scatter(client: Caller, keys: list[str] = KEYS, **options: Any) -> Scattered[str, httpx.Response]:
    def build(mine: list[str]) -> httpx.Request:
        request: httpx.Request = client.raw.build_request("POST", URL + mine[0], json=mine)
        return request

    found: Scattered[str, httpx.Response] = await Sharded(client).scatter(keys, build, **options)
    return found


@everywhere
async def test_a_scatter(world: World) -> None:
    """Each owner gets one request with its keys; the parts say whose answer is which."""
    instances = Instances(world, "a", "b", "c")
    async with instances.client() as client:
        with p2plb.call() as block:
            found = await scatter(client)
        groups = await Sharded(client).group(KEYS)
        assert {part.instance: list(part.keys) for part in found.parts} == groups
        assert [part.result().json() for part in found.succeeded] == [one.id for one in groups]
        assert sorted(one for one, _ in instances.seen) == ["a", "b", "c"]
        assert (found.failed, found.failed_keys) == ((), [])
        assert sorted(one.instance.id for one in block.attempts) == ["a", "b", "c"]
        assert (await scatter(client, [])).parts == ()
    instances.registry.close()


@everywhere
async def test_parts_that_fail(world: World) -> None:
    """They leave the others alone, and say why and whether somebody may have carried them out."""
    ids = "abcdefg"
    instances = Instances(world, *ids)
    names = world.httpx
    instances.answers = {
        "a": names.ConnectError("down"),
        "b": names.ReadError("cut"),
        "c": 500,
        "d": 421,
        "e": ValueError("a bug"),
    }
    async with instances.client(policy=Policy(retry=None)) as client:
        found = await scatter(client, [*KEYS, *ids])
        failed = {part.instance.id: part for part in found.failed}
        assert {one: part.maybe_processed for one, part in failed.items()} == {
            "a": False,
            "b": True,
            "c": True,
            "d": False,
            "e": True,
        }
        kinds = [names.ConnectError, names.ReadError, names.HTTPStatusError, names.HTTPStatusError, ValueError]
        assert [type(failed[one].error) for one in "abcde"] == kinds
        assert [failed[one].response is not None for one in "abcde"] == [False, False, True, True, False]
        assert {part.instance.id for part in found.succeeded} == {"f", "g"}
        with pytest.raises(ValueError, match="a bug"):
            failed["e"].result()
        assert sorted(found.failed_keys) == sorted(key for part in found.failed for key in part.keys)
        assert client.in_flight() == 0
    instances.registry.close()


@everywhere
@pytest.mark.parametrize("then", [421, "down"])
async def test_a_part_that_fails_after_a_redirect(world: World, then: object) -> None:
    """What was answered with a redirect may have been carried out, whatever becomes of the redirect."""
    instances = Instances(world, "a", "b")

    def inner(_one: p2plb.Instance) -> Any:
        def redirect(request: httpx.Request) -> httpx.Response:
            if request.method == "POST":
                return world.httpx.Response(303, headers={"location": "/result"})  # type: ignore[no-any-return]  # of either family
            if then == "down":
                raise world.httpx.ConnectError("down")
            return world.httpx.Response(421)  # type: ignore[no-any-return]  # of either family

        return world.mock(redirect)

    options = {"policy": Policy(retry=None), "follow_redirects": True}
    async with world.client(instances.registry, inner=inner, **options) as client:
        found = await scatter(client)
        assert [part.maybe_processed for part in found.failed] == [True, True]
    instances.registry.close()


@everywhere
async def test_a_scatter_is_bounded(world: World) -> None:
    """No more than `concurrency` parts are on their way at a time, and they do run at a time."""
    instances = Instances(world, *"abcdef")
    instances.pause = 0.02
    async with instances.client() as client:
        found = await scatter(client, concurrency=2)
        assert len(found.succeeded) == 6
        assert instances.most == 2
    instances.registry.close()


@everywhere
async def test_a_scatter_has_a_deadline(world: World) -> None:
    """A part whose turn comes too late is not sent, and says so."""
    instances = Instances(world, *"abc")
    instances.pause = 0.1
    async with instances.client() as client:
        found = await scatter(client, timeout=0.08, concurrency=1)
        late = [part for part in found.failed if isinstance(part.error, TimeoutError)]
        assert late
        assert [part.maybe_processed for part in late] == [False] * len(late)
        assert not {part.instance.id for part in late} & {one for one, _ in instances.seen}
    instances.registry.close()


@everywhere
async def test_the_deadline_of_parts(world: World) -> None:
    """A part has what is left of the scatter's time, or less if it asked for less."""
    instances = Instances(world, "a")
    seen: list[float | None] = []

    def inner(_one: p2plb.Instance) -> Any:
        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request.extensions["p2plb"].timeout)
            return world.httpx.Response(200)  # type: ignore[no-any-return]  # of either family

        return world.mock(answer)

    async with world.client(instances.registry, inner=inner, policy=Policy(timeout=20)) as client:
        await scatter(client)
        await scatter(client, timeout=60)
        with p2plb.call(timeout=30):
            await scatter(client, timeout=60)
            await scatter(client, timeout=10)
    assert [seen[0], *map(round, seen[1:3])] == [None, 20, 30]  # type: ignore[arg-type]  # these are numbers
    assert seen[3] is not None
    assert 0 < seen[3] <= 10
    instances.registry.close()


@on_loops
async def test_a_scatter_that_is_cancelled(world: World) -> None:
    """Nothing of it stays in flight, and what had not begun is never sent."""
    instances = Instances(world, *"abcdef")
    instances.pause = 60.0
    async with instances.client() as client:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(scatter_two, client)
                await world.until(lambda: instances.busy == 2)
                scope.cancel()
        assert client.in_flight() == 0
        assert (instances.seen, instances.most) == ([], 2)
    instances.registry.close()


async def scatter_two(client: Caller) -> None:
    await scatter(client, concurrency=2)


def test_a_scatter_that_is_interrupted() -> None:
    """Ctrl-C in blocking code: what had not begun is never sent, and no thread stays."""
    registry, seen = MemoryRegistry(), []
    for one in "abcdef":
        registry.put(instance(one))

    def inner(one: p2plb.Instance) -> Any:
        def answer(_request: httpx.Request) -> httpx.Response:
            seen.append(one.id)
            raise KeyboardInterrupt

        return httpx.MockTransport(answer)

    with p2plb.Client(registry, inner=inner, trust_env=False) as client:
        shards = p2plb.Shards(client, "users")
        with pytest.raises(KeyboardInterrupt):
            shards.scatter(KEYS, lambda keys: client.build_request("POST", URL, json=keys), concurrency=1)
        assert 1 <= len(seen) < 6
        assert sum(node.in_flight for node in client.stats().services["users"].nodes) == 0
    registry.close()


# --- changes -------------------------------------------------------------------------------------------------------


@everywhere
async def test_changes_are_told(world: World) -> None:
    """Who listens hears which keys have changed hands, until he closes the watch."""
    registry = FakeRegistry()
    told: list[Moved] = []
    async with world.client(registry) as client:
        shards = Sharded(client)
        watch = shards.raw.on_change(told.append)
        client.raw._core.services.balancer("users", secure=False, now=0.0)
        registry.tell(snapshot("a", "b"))
        before = {key: await shards.owner(key) for key in KEYS}
        assert told == []
        registry.tell(snapshot("a", "b", "c", revision=2))
        after = {key: await shards.owner(key) for key in KEYS}
        assert {key for key in KEYS if key in told[0]} == {key for key in KEYS if before[key] != after[key]} != set()
        watch.close()
        registry.tell(snapshot("a", revision=3))
        assert len(told) == 1


@everywhere
async def test_a_listener_ends_with_its_shards(world: World) -> None:
    """Who drops the shards without closing the watch leaves nothing behind in the registry."""
    registry = FakeRegistry()
    async with world.client(registry) as client:
        shards = Sharded(client)
        shards.raw.on_change(print)
        assert registry.watched == ["users"]
        del shards
        assert registry.watched == []


def test_shards_in_a_closed_client() -> None:
    """A client that was closed looks nobody up, and says so."""
    registry = MemoryRegistry()
    registry.put(instance("a"))
    client = p2plb.Client(registry, trust_env=False)
    shards = p2plb.Shards(client, "users")
    assert shards.owner("user-42").id == "a"
    client.close()
    with pytest.raises(RuntimeError, match="the client has been closed"):
        shards.owner("user-42")
    registry.close()
