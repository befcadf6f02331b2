"""TLS towards instances: which name is verified, and that no call rides a connection verified for another."""

import asyncio
import ssl
from collections.abc import Iterator

import httpx
import pytest

from integration.harness.child import wire
from p2plb import Policy
from tests.certificates import Authority
from tests.drivers import World, everywhere
from tests.scripted import ScriptedServer, serving


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(authority: Authority) -> Iterator[ScriptedServer]:
    server = ScriptedServer(context=authority.server("users", "orders.internal"))
    with serving(server):
        yield server


@pytest.mark.parametrize("scheme", ["http", "https"])
@everywhere
async def test_the_right_name(world: World, server: ScriptedServer, authority: Authority, scheme: str) -> None:
    """F74: a record that says https means verified TLS for the service's name, also if http was asked."""
    async with world.client(server.static(), verify=authority.client()) as client:
        for _ in range(3):
            assert (await client.get(f"{scheme}://users/a")).text == "/a"
    assert server.connections == 1


@everywhere
async def test_the_wrong_name(world: World, server: ScriptedServer, authority: Authority) -> None:
    """F74: a certificate for another name is refused, for a POST before anything was sent."""
    async with world.client(server.static("billing"), verify=authority.client()) as client:
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate") as caught:
            await client.post("https://billing/", content=b"x")
        assert not caught.value.p2plb.maybe_processed  # type: ignore[attr-defined]  # set by p2plb
    assert server.requests == []


@everywhere
async def test_an_unknown_authority(world: World, server: ScriptedServer) -> None:
    """Without `verify=` only the usual authorities count; `verify=False` is the caller's own risk."""
    async with world.client(server.static()) as client:
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
            await client.get("https://users/")
    async with world.client(server.static(), verify=False) as client:
        assert (await client.get("https://users/")).status_code == 200


@everywhere
async def test_a_name_of_the_policys(world: World, server: ScriptedServer, authority: Authority) -> None:
    """F74: `Policy(tls_name=)` is the name that counts."""
    policy = Policy(tls_name="orders.internal")
    async with world.client(server.static("billing"), policy=policy, verify=authority.client()) as client:
        assert (await client.get("https://billing/")).status_code == 200


@everywhere
async def test_a_name_of_the_callers(world: World, server: ScriptedServer, authority: Authority) -> None:
    """F74: a caller's own `sni_hostname` never rides a connection that was verified for another name."""
    async with world.client(server.static(), verify=authority.client()) as client:
        await client.get("https://users/")
        await client.get("https://users/", extensions={"sni_hostname": "orders.internal"})
        assert server.connections == 2
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
            await client.get("https://users/", extensions={"sni_hostname": "evil.example"})
        answers = [
            await client.get("https://users/", extensions={"sni_hostname": name})
            for name in ("users", "orders.internal")
        ]
        assert [one.extensions["p2plb"].attempts[0].reused for one in answers] == [True, True]


class Untalkative(ScriptedServer):
    """Accepts connections and does with them what it is told, before any TLS."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self._reset = reset

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def read_request(self, reader: asyncio.StreamReader) -> wire.Request | None:
        if not self._reset:
            await reader.read()
        return None


@pytest.mark.parametrize("reset", [False, True], ids=["silence", "an end"])
@everywhere
async def test_a_handshake_that_leads_nowhere(world: World, authority: Authority, reset: bool) -> None:
    """F04: a server that never answers the handshake is left after `connect_timeout`, one that closes at once."""
    server = Untalkative(reset=reset)
    with serving(server):
        policy = Policy(connect_timeout=0.2, retry=None)
        async with world.client(server.static(), policy=policy, verify=authority.client()) as client:
            with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)) as caught:
                await client.post("https://users/", content=b"x")
            assert not caught.value.p2plb.maybe_processed  # type: ignore[attr-defined]  # set by p2plb
            assert client.in_flight() == 0
        await world.until(lambda: not server.open)


@everywhere
async def test_a_client_certificate(world: World, authority: Authority) -> None:
    """A `verify=` context with a certificate of its own shows it to instances that ask for one."""
    asking = authority.server("users")
    asking.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(asking)
    server = ScriptedServer(context=asking)
    shown = authority.client()
    authority.ca.issue_cert("me").configure_cert(shown)
    with serving(server):
        async with world.client(server.static(), verify=shown) as client:
            assert (await client.get("https://users/")).status_code == 200
        async with world.client(server.static(), verify=authority.client()) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("https://users/")
