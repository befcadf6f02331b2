"""HTTP/1.1 as the server child speaks it: requests in, responses out, over asyncio streams.

Only what clients under test send: Content-Length and chunked bodies, keep-alive. It knows nothing of what is answered.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read to its end."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Return what the caller calls this request, empty if it does not say."""
        return self.headers.get("x-request-id", "")


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request, None when the client has closed the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, headers = parse_head(head)
        return Request(method, target, headers, await _read_body(reader, headers))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Split a request head into method, target and headers with lower-case names."""
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _version = start.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines)
    return method, target, {name.strip().lower(): value.strip() for name, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        return b"".join([chunk async for chunk in _chunks(reader)])
    return await reader.readexactly(int(headers.get("content-length", "0")))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readline()


def response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a complete response."""
    return head(status, len(body), headers) + body


def head(status: int, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head of a response whose body has `length` bytes."""
    lines = [f"HTTP/1.1 {status} x", "content-type: application/json", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def to_json(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
