"""The tests that `orders` had before it moved, which hold as they are, and those that it got for p2plb."""

from collections.abc import Callable, Iterator

import httpx
import pytest
import respx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, format_span_id

from examples.migration import before, orders

OLD = "http://users.prod.svc:8000"
ADA = {"name": "Ada"}
TRACE, BROWSER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

both = pytest.mark.parametrize("app", [before.app, orders.app], ids=["before", "after"])


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what the tests' environment says: the old way, and nothing of p2plb."""
    monkeypatch.setenv("USERS_URL", OLD)
    monkeypatch.setenv("P2PLB_BYPASS", "1")
    monkeypatch.setenv("P2PLB_REGISTER", "0")


@pytest.fixture
def through_p2plb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call two instances of `users`, without etcd."""
    monkeypatch.delenv("P2PLB_BYPASS")
    monkeypatch.setenv("P2PLB_REGISTRY", "static://users=10.9.9.1:8001,10.9.9.2:8001")


@both
def test_an_order_names_its_customer(app: FastAPI) -> None:
    """A test from before: the application runs with its lifespan, and the mock stands at the old URL."""
    with TestClient(app) as client, respx.mock(assert_all_mocked=True) as users:
        users.get(f"{OLD}/users/42").respond(json=ADA)
        response = client.post("/orders/42")
        assert (response.status_code, response.json()) == (201, {"customer": ADA})


@both
def test_without_users_no_order_is_placed(app: FastAPI) -> None:
    """A test from before: what httpx raises is still what the application sees."""
    with TestClient(app) as client, respx.mock() as users:
        users.get(f"{OLD}/users/42").mock(side_effect=httpx.ReadTimeout("too slow"))
        with pytest.raises(httpx.ReadTimeout):
            client.post("/orders/42")


@pytest.mark.usefixtures("through_p2plb")
def test_an_instance_that_refuses_costs_no_order() -> None:
    """The mock stands below p2plb and sees addresses: the first is refused, the other instance is asked."""
    with TestClient(orders.app) as client, respx.mock() as users:
        route = users.get(host__in=("10.9.9.1", "10.9.9.2"), path="/users/42")
        route.side_effect = [httpx.ConnectError("refused"), httpx.Response(200, json=ADA)]
        assert client.post("/orders/42").json() == {"customer": ADA}
        assert len({call.request.url.host for call in route.calls}) == 2


@pytest.mark.usefixtures("through_p2plb")
def test_the_old_way_is_the_net() -> None:
    """No instance can be reached, so the old URL serves."""
    with TestClient(orders.app) as client, respx.mock() as users:
        users.get(host__in=("10.9.9.1", "10.9.9.2")).mock(side_effect=httpx.ConnectError("refused"))
        users.get(f"{OLD}/users/42").respond(json=ADA)
        assert client.post("/orders/42").json() == {"customer": ADA}


Traced = Callable[[FastAPI], None]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    """Return what places an order within a trace and checks that `users` got the end of an unbroken one."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    HTTPXClientInstrumentor().instrument(tracer_provider=provider)

    def check(app: FastAPI) -> None:
        service = OpenTelemetryMiddleware(app, tracer_provider=provider, exclude_spans=["receive", "send"])
        with TestClient(service) as browser, respx.mock() as users:
            route = users.get(path="/users/42").respond(json=ADA)
            browser.post("/orders/42", headers={"traceparent": f"00-{TRACE}-{BROWSER}-01"}).raise_for_status()
        spans = {span.kind: span for span in exporter.get_finished_spans()}
        server, call = spans[SpanKind.SERVER], spans[SpanKind.CLIENT]
        assert server.parent
        assert call.context
        assert format_span_id(server.parent.span_id) == BROWSER
        assert call.parent == server.context
        header = route.calls.last.request.headers["traceparent"]
        assert header == f"00-{TRACE}-{format_span_id(call.context.span_id)}-01"

    yield check
    HTTPXClientInstrumentor().uninstrument()
    provider.shutdown()


@both
def test_a_trace_goes_on_the_old_way(app: FastAPI, traced: Traced) -> None:
    """With httpx alone, and with p2plb bypassed."""
    traced(app)


@pytest.mark.usefixtures("through_p2plb")
def test_a_trace_goes_on_to_an_instance(traced: Traced) -> None:
    """From the browser over `orders` to `users`: no span is missing between."""
    traced(orders.app)
