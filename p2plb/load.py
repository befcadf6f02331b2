"""What instances report of their load in a header of each answer: its form, and what strangers may write there.

The header is that of ORCA (Open Request Cost Aggregation) in its text form, which Envoy and gRPC's proxies know and
vLLM writes: `endpoint-load-metrics: TEXT cpu_utilization=0.3,rps_fractional=120,named_metrics.in_flight=4`. An instance
reports of itself only, so a lie moves no load but its own.
"""

from typing import Final, NamedTuple

HEADER: Final = "endpoint-load-metrics"
FORM: Final = "TEXT "
LONGEST_HEADER: Final = 1024
MOST: Final = 1e6
"""Greater figures are clipped to this: requests, seconds, requests a second."""


class LoadReport(NamedTuple):
    """What an instance says of itself; None where it says nothing."""

    at: float = 0.0
    """When it came, by the monotonic clock of whoever reads it."""
    in_flight: float | None = None
    """Requests that it works at, of all its clients."""
    latency: float | None = None
    """Median seconds to the head of its recent answers that began with about as many requests in flight."""
    utilization: float | None = None
    """Which part of its processing power it uses, 1 is all."""
    rate: float | None = None
    """Requests a second that it answers."""
    errors: float | None = None
    """Server errors a second among them."""


FIELDS: Final = {
    "named_metrics.in_flight": "in_flight",
    "named_metrics.latency": "latency",
    "cpu_utilization": "utilization",
    "application_utilization": "utilization",
    "rps_fractional": "rate",
    "eps": "errors",
}
WRITTEN: Final = {field: name for name, field in reversed(FIELDS.items())}


def format_load(report: LoadReport) -> str:
    """Return the header's value; of what is None nothing is said."""
    said = ((WRITTEN[field], value) for field, value in report._asdict().items() if field in WRITTEN)
    return FORM + ",".join(f"{name}={value:.6g}" for name, value in said if value is not None)


def parse_load(value: str, now: float) -> LoadReport | None:
    """Return what a header's value says, None if it is garbage or in another form. What is not known is passed over."""
    if len(value) > LONGEST_HEADER or not value.startswith(FORM):
        return None
    found: dict[str, float] = {}
    for item in value[len(FORM) :].split(","):
        name, _, number = item.strip().partition("=")
        if name in FIELDS:
            try:
                amount = float(number)
            except ValueError:
                return None
            if not amount >= 0.0:  # NaN is not either
                return None
            found[FIELDS[name]] = min(amount, MOST)
    return LoadReport(at=now, **found)
