"""Load reports: their form, how an instance measures itself, and how a report gets from an answer to a node."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as some

from p2plb import AsyncClient, LoadReportMiddleware, Node, Picker
from p2plb.load import HEADER, MOST, LoadReport, format_load, parse_load
from p2plb.serving.meter import LoadMeter
from tests.drivers import World, everywhere
from tests.fakes import RESET, UNAVAILABLE, Clock, Driver, balancer_of, node_of
from tests.scripted import ScriptedServer, answer, in_turn, serving, static

# --- the form ----------------------------------------------------------------------------------------------------


def test_there_and_back() -> None:
    """What is written is read, each figure; what is not known is left away."""
    report = LoadReport(5.0, 4, 0.0123, 0.5, 120.25, 1.5)
    assert parse_load(format_load(report), 5.0) == report
    assert format_load(LoadReport(in_flight=2)) == "TEXT named_metrics.in_flight=2"


def test_the_form_of_others() -> None:
    """What Envoy's and vLLM's instances write is understood as far as it is known here."""
    text = "TEXT cpu_utilization=0.3, rps_fractional=10.0, eps=1, mem_utilization=0.8, named_metrics.kv_cache=0.4"
    assert parse_load(text, 1.0) == LoadReport(1.0, utilization=0.3, rate=10.0, errors=1.0)


@pytest.mark.parametrize(
    "value",
    [
        "",
        'JSON {"cpu_utilization": 0.3}',
        "cpu_utilization=0.3",
        "TEXT cpu_utilization",
        "TEXT cpu_utilization=much",
        "TEXT named_metrics.in_flight=-1",
        "TEXT named_metrics.latency=nan",
        "TEXT " + "x=1," * 400 + "eps=1",
    ],
)
def test_garbage(value: str) -> None:
    """What is no report, or one that nobody would write, is none."""
    assert parse_load(value, 1.0) is None


def test_great_figures_are_clipped() -> None:
    """No figure is beyond what an instance can mean."""
    assert parse_load("TEXT named_metrics.in_flight=inf,named_metrics.latency=1e300", 0.0) == LoadReport(
        0.0, MOST, MOST
    )


@given(some.text(max_size=60))
def test_whatever_strangers_write(text: str) -> None:
    """No text makes the parser fail, and no figure is outside of its bounds."""
    for value in (text, f"TEXT {text}", f"TEXT eps={text}"):
        report = parse_load(value, 0.0)
        assert report is None or all(figure is None or 0.0 <= figure <= MOST for figure in report)


# --- the instance's side -----------------------------------------------------------------------------------------


def answered(meter: LoadMeter, clock: Clock, seconds: float, status: int = 200) -> None:
    """Let a request pass."""
    begun = meter.begin()
    clock.now += seconds
    meter.answered(begun, status)
    meter.end()


def test_the_meter_counts() -> None:
    """Requests in flight are those that have begun and not ended; an idle instance has no latency to tell."""
    meter = LoadMeter(Clock())
    assert meter.report()[1:3] == (0, None)
    begun = [meter.begin() for _ in range(3)]
    meter.answered(begun[0], 200)
    assert meter.report().in_flight == 3
    meter.end()
    assert meter.report().in_flight == 2


def test_the_latency_is_that_of_the_same_load() -> None:
    """What took long under load is not said of an idle instance, and the other way round."""
    clock = Clock()
    meter = LoadMeter(clock)
    for _ in range(20):
        answered(meter, clock, 0.01)
    crowd = [meter.begin() for _ in range(8)]
    clock.now += 1.0
    for begun in crowd[-5:]:
        meter.answered(begun, 200)
    assert meter.report().latency == pytest.approx(1.0)
    for _ in crowd:
        meter.end()
    assert meter.report().latency == pytest.approx(0.01)


def test_errors_say_nothing_of_the_latency() -> None:
    """F47: an instance that answers with errors at once does not report to be fast."""
    clock = Clock()
    meter = LoadMeter(clock)
    for _ in range(5):
        answered(meter, clock, 0.0, status=500)
    assert meter.report().latency is None


def test_rates() -> None:
    """Once a second the rates are those of the second before, and the part of one processor that was used."""
    clock, processor = Clock(), Clock(0.0)
    meter = LoadMeter(clock, processor)
    for number in range(40):
        answered(meter, clock, 0.05, status=500 if number % 10 == 0 else 200)
    processor.now = 0.5
    assert list(meter.report()[3:]) == pytest.approx([0.25, 20.0, 2.0])


async def serve(app: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    await app(scope, receive, send)
    return sent


Send = Callable[[dict[str, Any]], Awaitable[None]]


def saying(*headers: tuple[bytes, bytes], fails: bool = False) -> Any:
    """Return an application that answers with these headers, or fails."""

    async def app(_scope: Any, _receive: Any, send: Send) -> None:
        if fails:
            raise LookupError("in the application")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})

    return app


def test_the_middleware_adds_the_header() -> None:
    """Each answer of an application has a report, beside its own headers."""
    sent = asyncio.run(serve(LoadReportMiddleware(saying((b"a", b"1"))), {"type": "http"}))
    headers = dict(sent[0]["headers"])
    assert headers[b"a"] == b"1"
    report = parse_load(headers[HEADER.encode()].decode(), 0.0)
    assert report is not None
    assert report.in_flight == 1
    assert sent[1] == {"type": "http.response.body", "body": b"hello"}


def test_the_applications_own_report_stays() -> None:
    """An application that knows better, such as vLLM, is not contradicted."""
    own = (b"Endpoint-Load-Metrics", b"TEXT cpu_utilization=0.5")
    sent = asyncio.run(serve(LoadReportMiddleware(saying(own)), {"type": "http"}))
    assert sent[0]["headers"] == (own,)


def test_failures_and_other_protocols() -> None:
    """A request that fails is counted out again; websockets and lifespans pass untouched."""
    failing = LoadReportMiddleware(saying(fails=True))
    with pytest.raises(LookupError):
        asyncio.run(serve(failing, {"type": "http"}))
    assert failing._meter.in_flight == 0
    (start, _) = asyncio.run(serve(LoadReportMiddleware(saying()), {"type": "websocket"}))
    assert start["headers"] == ()


def test_it_wants_an_application() -> None:
    """What is no application is refused at once."""
    with pytest.raises(TypeError, match="takes an ASGI application"):
        LoadReportMiddleware("app")  # type: ignore[arg-type]  # that is the subject


# --- the client's side -------------------------------------------------------------------------------------------


class Seen:
    """A strategy that keeps the nodes that it was given."""

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        self.nodes = nodes
        return lambda _call: nodes[0]


def test_a_report_gets_to_its_node() -> None:
    """From the middleware of an application to the node in the client, through httpx's own ASGI transport."""
    app, seen = LoadReportMiddleware(saying()), Seen()

    async def call() -> None:
        asgi = httpx.ASGITransport(app)
        async with AsyncClient("static://users=10.0.0.7:80", strategy=seen, inner=lambda _instance: asgi) as client:
            assert HEADER in (await client.get("http://users/")).headers

    asyncio.run(call())
    report = seen.nodes[0].health.report
    assert report is not None
    assert report.in_flight == 1


@everywhere
async def test_garbage_is_counted(world: World) -> None:
    """F85: what an instance writes there harms nobody: the last good report stays, and the client counts."""
    good = answer(200, endpoint_load_metrics="TEXT named_metrics.in_flight=3")
    bad = answer(200, endpoint_load_metrics="TEXT eps=" + "much" * 9)
    server, seen = ScriptedServer(in_turn(good, bad, bad), id="a"), Seen()
    with serving(server):
        async with world.client(static(server), strategy=seen) as client:
            for _ in range(3):
                assert (await client.get("http://users/")).status_code == 200
            assert client.raw.stats().bad_reports == 2
    report = seen.nodes[0].health.report
    assert report is not None
    assert report.in_flight == 3


@pytest.mark.parametrize("script", [RESET, UNAVAILABLE])
def test_only_good_answers_report(script: Any) -> None:
    """F47: an instance that fails at once is idle; that must not attract calls."""
    balancer = balancer_of("a")
    node = node_of(balancer, "a")
    driver = Driver(balancer, {"a": script})
    node.health.report = before = LoadReport(1.0, 2)
    driver.run(retry=None)
    assert node.health.report is before
