"""OpenTelemetry's instrumentation of httpx, with p2plb between: every attempt is a span and carries its header."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from p2plb import Client, Policy
from p2plb.balancing.call import Fault
from tests.drivers import Caller, Sync, World, everywhere
from tests.families import HTTPX
from tests.scripted import Refusing, ScriptedServer, answer, drop, in_turn, ok, prefer, serving, static

INSTRUMENTORS: tuple[Any, ...] = (HTTPXClientInstrumentor(), HTTPX2ClientInstrumentor())


class Traces:
    """What was exported, and what was sent."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def clients(self) -> list[ReadableSpan]:
        """Return the spans of requests, in the order of their ends."""
        return [span for span in self._exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]


@pytest.fixture(autouse=True)
def stable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for the stable names of attributes; what is read first holds for the process."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.provider.shutdown()


@pytest.fixture
def instrumented(traces: Traces) -> Iterator[Callable[..., None]]:
    """Return what instruments both families in all of the process, with options."""

    def instrument(**options: Any) -> None:
        for one in INSTRUMENTORS:
            one.instrument(tracer_provider=traces.provider, **options)

    yield instrument
    for one in INSTRUMENTORS:
        one.uninstrument()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


def header_of(span: ReadableSpan) -> str:
    """Return the header that says: what the server does belongs to this span."""
    context = span.get_span_context()
    assert context is not None
    ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
    return f"00-{ids}-{context.trace_flags:02x}"


def headers(server: ScriptedServer) -> list[str | None]:
    return [request.headers.get("traceparent") for request in server.requests]


def instrumentor(world: World) -> Any:
    return INSTRUMENTORS[0 if world.family is HTTPX else 1]


@everywhere
async def test_an_attempt_is_a_span(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """A call has a CLIENT span with the names of its URL and the address of its instance, and says so to the server."""
    instrumented()
    async with world.client(server.static()) as client:
        with traces.tracer.start_as_current_span("caller") as caller:
            response = await client.get("http://users/42?a=1")
    (span,) = traces.clients()
    assert response.text == "/42?a=1"
    assert span.attributes == {
        "http.request.method": "GET",
        "url.full": "http://users/42?a=1",
        "server.address": "users",
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert span.parent == caller.get_span_context()
    assert headers(server) == [header_of(span)]
    assert "traceparent" not in response.request.headers, "the caller's request stays as it was"


@everywhere
async def test_each_retry_is_a_span(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """Attempts have spans and headers of their own, all children of the caller's, and count how often it was sent."""
    instrumented()
    gone, other = Refusing(), ScriptedServer(answer(503), id="other")
    with serving(other):
        async with world.client(static(gone, other, server), strategy=prefer(gone, other, server)) as client:
            with traces.tracer.start_as_current_span("caller") as caller:
                assert (await client.get("http://users/")).status_code == 200
    spans = traces.clients()
    found = [
        [span.attributes.get(name) for name in ("network.peer.port", "http.request.resend_count", "error.type")]
        for span in spans
        if span.attributes is not None
    ]
    assert found == [[gone.port, None, "ConnectError"], [other.port, 1, "503"], [server.port, 2, None]]
    assert [span.parent for span in spans] == [caller.get_span_context()] * 3
    assert [*headers(other), *headers(server)] == [header_of(span) for span in spans[1:]]


@everywhere
async def test_a_post_is_not_sent_twice(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """F01: errors mean the same under instrumentation, and the span has failed."""
    instrumented()
    server.script = drop
    async with world.client(server.static()) as client:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.post("http://users/", content=b"x")
    (attempt,) = caught.value.p2plb.attempts  # type: ignore[attr-defined]  # set by p2plb
    assert attempt.fault is Fault.MAYBE_PROCESSED
    assert len(server.requests) == 1
    (span,) = traces.clients()
    assert span.status.status_code is StatusCode.ERROR


@everywhere
async def test_the_error_is_the_lanes_own(world: World, traces: Traces, instrumented: Callable[..., None]) -> None:
    """Instrumentation makes no difference to what is raised."""
    gone = Refusing()

    async def reasons() -> tuple[str, str]:
        async with world.client(static(gone)) as client:
            with pytest.raises(httpx.ConnectError) as caught:
                await client.get("http://users/")
        return str(caught.value), type(caught.value.__cause__).__name__

    before = await reasons()
    instrumented()
    assert await reasons() == before
    assert len(traces.clients()) == 1


@everywhere
async def test_a_stale_connection_is_sent_again(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """F07: what is sent again on a new connection of the same instance is another span."""
    instrumented()
    server.script = in_turn(ok, drop, ok)
    async with world.client(server.static()) as client:
        for _ in range(2):
            assert (await client.get("http://users/")).status_code == 200
    resent = [span.attributes.get("http.request.resend_count") for span in traces.clients() if span.attributes]
    assert resent == [None, None, 1]


@everywhere
async def test_what_is_excluded(
    world: World,
    server: ScriptedServer,
    traces: Traces,
    instrumented: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Excluded URLs are as the caller writes them; what is not instrumented leaves the caller's span alone."""
    monkeypatch.setenv("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "users/health")
    instrumented()
    async with world.client(server.static()) as client:
        with traces.tracer.start_as_current_span("caller", kind=SpanKind.CLIENT):
            await client.get("http://users/health")
            with suppress_http_instrumentation():
                await client.get("http://users/42")
    (caller,) = traces.clients()
    assert (caller.name, dict(caller.attributes or {})) == ("caller", {})
    assert headers(server) == [None, None]


@everywhere
async def test_bodies_and_streams(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """Bodies go both ways, answers are streamed, connections are used again."""
    instrumented()
    async with world.client(server.static()) as client:
        for _ in range(3):
            await client.post("http://users/", content=world.pieces([b"one", b"two"]))
            async with client.stream("GET", "http://users/part") as response:
                assert client.in_flight() == 1
                assert await client.read(response) == b"/part"
        assert client.in_flight() == 0
    assert server.connections == 1
    assert [request.body for request in server.requests] == [b"onetwo", b""] * 3
    assert len(traces.clients()) == 6


@everywhere
async def test_plain_hosts(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """What is for no service is traced as ever, once."""
    instrumented()
    async with world.client(server.static()) as client:
        await client.get(f"{server.url}/plain")
    (span,) = traces.clients()
    assert headers(server) == [header_of(span)]


@everywhere
async def test_the_fallback(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """A request to the fallback has one span beside those of the attempts before it, and carries its header."""
    instrumented()
    async with world.client(static(Refusing()), policy=Policy(fallback=server.url)) as client:
        await client.get("http://users/")
    assert headers(server) == [header_of(traces.clients()[-1])]
    assert len(traces.clients()) == 2


@everywhere
async def test_no_secrets(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """A password in a URL does not reach the span."""
    instrumented()
    async with world.client(server.static()) as client:
        await client.get("http://me:hush@users/")
    (span,) = traces.clients()
    assert "hush" not in span.to_json()


@everywhere
async def test_an_instrumented_client(world: World, server: ScriptedServer, traces: Traces) -> None:
    """`instrument_client(client)` makes one span of a call, whatever its attempts, and all carry its header."""
    other = ScriptedServer(answer(503), id="other")
    with serving(other):
        async with world.client(static(other, server), strategy=prefer(other, server)) as client:
            instrumentor(world).instrument_client(client.raw, tracer_provider=traces.provider)
            assert (await client.get("http://users/")).status_code == 200
            await client.get(f"{server.url}/plain")
            instrumentor(world).uninstrument_client(client.raw)
            await client.get("http://users/untraced")
    call, plain = traces.clients()
    assert headers(other) == [header_of(call), None]
    assert headers(server) == [header_of(call), header_of(plain), None]


@everywhere
async def test_an_instrumented_client_with_a_proxy(world: World, server: ScriptedServer, traces: Traces) -> None:
    """With a proxy for plain hosts, calls to services and to plain hosts are traced once each."""
    proxy = ScriptedServer(id="proxy")
    with serving(proxy):
        async with world.client(server.static(), proxy=proxy.url) as client:
            instrumentor(world).instrument_client(client.raw, tracer_provider=traces.provider)
            await client.get("http://users/")
            await client.get("http://plain.example/")
    call, plain = traces.clients()
    assert (headers(server), headers(proxy)) == ([header_of(call)], [header_of(plain)])


@everywhere
async def test_both_ways(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """With both, the call is a span and its attempts are its children; the header is the attempt's."""
    instrumented()
    async with world.client(server.static()) as client:
        instrumentor(world).instrument_client(client.raw, tracer_provider=traces.provider)
        await client.get("http://users/")
    attempt, call = traces.clients()
    assert attempt.parent == call.get_span_context()
    assert headers(server) == [header_of(attempt)]


@everywhere
async def test_inner_transports(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """An inner transport of httpx's own is instrumented by itself, and only once."""
    instrumented()
    own = httpx.HTTPTransport if isinstance(world, Sync) else httpx.AsyncHTTPTransport
    async with world.client(server.static(), inner=lambda _instance: own()) as client:
        await client.get("http://users/")
    (span,) = traces.clients()
    assert headers(server) == [header_of(span)]


def test_hooks(server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]) -> None:
    """The user's hooks see each attempt."""
    instrumented(
        request_hook=lambda span, request: span.set_attribute("asked", str(request.url)),
        response_hook=lambda span, _request, response: span.set_attribute("got", response.status_code),
    )
    with Client(server.static(), trust_env=False) as client:
        client.get("http://users/")
    (span,) = traces.clients()
    assert span.attributes is not None
    assert (span.attributes["asked"], span.attributes["got"]) == ("http://users/", 200)


@everywhere
async def test_calls_at_a_time(
    world: World, server: ScriptedServer, traces: Traces, instrumented: Callable[..., None]
) -> None:
    """Threads and tasks keep their traces apart."""
    instrumented()
    parents: dict[str, int] = {}

    async def one(client: Caller, name: str) -> None:
        with traces.tracer.start_as_current_span(name) as span:
            parents[name] = span.get_span_context().trace_id
            for _ in range(3):
                await client.get(f"http://users/{name}")

    async with world.client(server.static()) as client:
        await world.together(*(lambda name=f"c{number}": one(client, name) for number in range(4)))
    sent = {(request.target[1:], request.headers["traceparent"].split("-")[1]) for request in server.requests}
    assert sent == {(name, trace.format_trace_id(parent)) for name, parent in parents.items()}
    assert len(server.requests) == len(traces.clients()) == 12
