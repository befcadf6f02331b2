"""A policy: how calls to one service are balanced, bounded and retried. Frozen, checked at construction, shared."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from p2plb.balancing.retry import Retry
from p2plb.balancing.strategies.least_request import LeastRequest
from p2plb.balancing.view import Strategy
from p2plb.instance import Instance, check_number, parse_origin

MAX_SECONDS = 86_400.0
_HOST = re.compile(r"[!-~]+")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How calls to a service go; a policy in `services=` replaces the default whole (`dataclasses.replace` derives).

    `strategy` maps nodes to a picker. `retry=None` turns retries off. `timeout` bounds the whole exchange in seconds,
    waits and body included, `attempt_timeout` each attempt up to the head of its answer; both are off by default, and
    httpx's own timeouts hold for each attempt. `connect_timeout` bounds a connection's making, TLS included (httpx's is
    used if it is shorter). `tls_name` is the name that a certificate must have, `host` the Host header; both are the
    name in the URL by default. `only` is a filter on instances (canary). `fallback` is an origin outside of p2plb that
    serves when no instance can, and for the part 1 - `share` of the calls.
    `TypeError` or `ValueError` says what is wrong.
    """

    strategy: Strategy = field(default_factory=LeastRequest)
    retry: Retry | None = field(default_factory=Retry)
    timeout: float | None = None
    attempt_timeout: float | None = None
    connect_timeout: float | None = 1.0
    tls_name: str | None = None
    host: str | None = None
    only: Callable[[Instance], bool] | None = None
    fallback: str | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.strategy, type):
            raise TypeError(f"Policy(strategy=) is an instance: write {self.strategy.__name__}(), with brackets")
        if not callable(self.strategy):
            raise TypeError(f"Policy(strategy=) is a function from nodes to a picker, not {self.strategy!r}")
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise TypeError(f"Policy(retry=) is a Retry, such as Retry(attempts=3), or None, not {self.retry!r}")
        if self.only is not None and not callable(self.only):
            raise TypeError(f"Policy(only=) is a function from an instance to a bool, not {self.only!r}")
        for name in ("timeout", "attempt_timeout", "connect_timeout"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), f"Policy({name}=)", 0.001, MAX_SECONDS)
        for name in ("tls_name", "host"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and _HOST.fullmatch(value)):
                raise TypeError(f"Policy({name}=) is a host name, not {value!r}")
        _check_fallback(self.fallback)
        check_number(self.share, "Policy(share=)", 0, 1)
        if self.share < 1 and self.fallback is None:
            raise ValueError("Policy(share=) below 1 needs a fallback= that serves the other calls")


def _check_fallback(url: object) -> None:
    if url is None:
        return
    try:
        parse_origin(url.replace("_", "-") if isinstance(url, str) else url)  # compose has names with an underscore
    except ValueError:
        shown = "" if "@" in str(url) else f", not {url!r}"  # before an @ may stand a password
        form = "http or https, host and port, without user, path or query"
        raise ValueError(f"Policy(fallback=) is an origin such as http://users.prod.svc:8000: {form}{shown}") from None
