"""qdrant-client over p2plb: a collection, points and queries; run it as the guide says."""

import asyncio
from typing import Any

import httpx
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

import p2plb
from p2plb import Policy, Retry, RoundRobin


def only_reads(request: httpx.Request) -> bool:
    """Whether a POST may be processed twice; an upsert is a PUT, which always may."""
    return request.url.path.endswith(("/query", "/scroll", "/count"))


policy = Policy(strategy=RoundRobin(), retry=Retry(repeatable=only_reads))
where: dict[str, Any] = {"url": "http://qdrant", "port": None, "check_compatibility": False}
vector = [0.1, 0.2]


def sync() -> None:
    vectors = QdrantClient(**where, transport=p2plb.Transport(policy=policy))
    with p2plb.call() as c:
        vectors.create_collection("papers", vectors_config=VectorParams(size=2, distance=Distance.COSINE))
        done = vectors.upsert("papers", [PointStruct(id=1, vector=vector)])
        found = {vectors.query_points("papers", vector).points[0].payload["found_by"] for _ in range(6)}  # type: ignore[index]  # the fake gives one
    print("upsert:", done.status.value)
    print("found by", len(found), "replicas in", len(c.attempts), "attempts")
    vectors.close()


async def main() -> None:
    vectors = AsyncQdrantClient(**where, transport=p2plb.AsyncTransport(policy=policy))
    answer = await vectors.query_points("papers", vector)
    print("async: found", len(answer.points))
    await vectors.close()


if __name__ == "__main__":
    sync()
    asyncio.run(main())
