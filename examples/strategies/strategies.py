"""Who gets the next call under several strategies; run it: `python examples/strategies/strategies.py`.

Six instances in a fixed list answer with what their record says. They are functions in this process (`inner=`), so
nothing else is needed; with real ones only the registry changes.
"""

from collections import Counter
from typing import Any

import httpx

import p2plb
from p2plb import Client, LeastRequest, Policy, SlowStart, WeightedRoundRobin, Where, ZoneAware
from p2plb.balancing.view import Strategy


def instance(name: str, zone: str, **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, **fields.pop("metadata", {})}
    return {"url": f"http://{name}.example:80", "zone": zone, "metadata": metadata, **fields}


INSTANCES = [
    instance("a1", "a", weight=3, metadata={"version": "1"}),
    instance("a2", "a", metadata={"version": "1"}),
    instance("b1", "b", metadata={"version": "1", "adapters": ["legal", "tax"]}),
    instance("b2", "b", metadata={"version": "1"}),
    instance("c1", "c", metadata={"version": "2"}),
    instance("spare", "a", priority=1),
]


def answer(one: p2plb.Instance) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _request: httpx.Response(200, text=one.metadata["name"]))


def shares(strategy: Strategy, calls: int = 70, **options: Any) -> dict[str, int]:
    """Return how many of the calls each instance had."""
    with (
        p2plb.static({"users": INSTANCES}) as registry,
        Client(registry, policy=Policy(strategy=strategy), inner=answer) as client,
        p2plb.call(**options),
    ):
        found = Counter(client.get("http://users/").text for _ in range(calls))
    return dict(sorted(found.items()))


def main() -> None:
    print("by weight:", shares(WeightedRoundRobin()))
    print("in zone a:", shares(ZoneAware(WeightedRoundRobin(), "a", hard=True), 40))
    print("version 2 only:", shares(Where(LeastRequest(), {"version": "2"})))
    print("nobody has version 3:", sum(shares(Where(LeastRequest(), {"version": "3"})).values()), "calls served")
    print("one call's wish:", shares(SlowStart(LeastRequest()), where={"adapters": "tax"}))
    try:
        shares(LeastRequest(), where={"adapters": "medical"})
    except p2plb.NoInstances as error:
        print(str(error).partition(";")[0])


if __name__ == "__main__":
    main()
