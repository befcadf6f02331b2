"""Each attempt of a call is a span; run it: `python examples/tracing/tracing.py`.

Two servers in threads stand for the instances; the first request gets a 503, so the call needs two attempts. The spans
are kept in memory and printed; a real program exports them, and its servers go on with the trace by the header.
"""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from p2plb import Client


class Handler(BaseHTTPRequestHandler):
    """Answers with the header of the trace that it got, the first time with a 503."""

    protocol_version = "HTTP/1.1"
    statuses = itertools.chain([503], itertools.repeat(200))

    def do_GET(self) -> None:
        body = self.headers["traceparent"].encode()
        self.send_response(next(self.statuses))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def instances(count: int) -> Iterator[str]:
    """Run servers and give the URL of a registry that knows them."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(count)]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield "static://users=" + ",".join(f"127.0.0.1:{server.server_address[1]}" for server in servers)
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def show(span: ReadableSpan) -> str:
    """Return what the example says of a span."""
    attributes = span.attributes or {}
    resent = attributes.get("http.request.resend_count", 0)
    return f"{span.name} {attributes['http.url']!s} {attributes['http.status_code']!s}, resent: {resent!s}"


def main() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    HTTPXClientInstrumentor().instrument()  # or start the program with `opentelemetry-instrument`

    caller = trace.get_tracer("example").start_span("caller")
    with instances(2) as registry, Client(registry) as client, trace.use_span(caller, end_on_exit=True):
        response = client.get("http://users/42")

    *attempts, _ = exporter.get_finished_spans()
    for span in attempts:
        print(show(span))
    ports = {span.attributes["network.peer.port"] for span in attempts if span.attributes}
    print("instances that were asked:", len(ports))
    print("children of the caller's span:", all(span.parent == caller.get_span_context() for span in attempts))
    last = attempts[-1].context
    print("the header named the last attempt:", last and trace.format_span_id(last.span_id) in response.text)


if __name__ == "__main__":
    main()
