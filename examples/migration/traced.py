"""Run an application with tracing, as `opentelemetry-instrument uvicorn …` does; it knows nothing of it.

    PORT=8001 python examples/migration/traced.py orders:app

Its spans go to stdout, one JSON object a line; a real program sends them to a collector.
"""

import os
import sys

import uvicorn
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


def line(span: ReadableSpan) -> str:
    """Return a span as a line of JSON."""
    return f"{span.to_json(indent=None)}\n"


def main() -> None:
    """Instrument, then serve until a signal comes."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=line)))
    trace.set_tracer_provider(provider)
    HTTPXClientInstrumentor().instrument()
    FastAPIInstrumentor().instrument(exclude_spans=["receive", "send"])
    uvicorn.run(sys.argv[1], port=int(os.environ["PORT"]), log_level="warning")


if __name__ == "__main__":
    main()
