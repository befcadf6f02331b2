"""How the server child answers, one function for each mode; a test switches between them while the server runs.

A mode gets the request, the settings in force, the body of an ordinary answer and the writer, and returns whether the
connection goes on. It knows nothing of journals, signals or control.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from integration.harness.child import wire


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force until the next switch; `idle` closes a connection that has been idle for so many seconds."""

    mode: str = "ok"
    seconds: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    idle: float | None = None


Mode = Callable[[Settings, bytes, asyncio.StreamWriter], Awaitable[bool]]


async def ok(settings: Settings, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Answer at once with the status and headers of the settings."""
    writer.write(wire.response(settings.status, body, settings.headers))
    return settings.headers.get("connection") != "close"


async def slow(settings: Settings, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Answer after `seconds`."""
    await asyncio.sleep(settings.seconds)
    return await ok(settings, body, writer)


async def hang(settings: Settings, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Never answer."""
    await asyncio.Event().wait()
    return False


async def reset(settings: Settings, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Send RST instead of an answer."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


async def drop(settings: Settings, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Close the connection without an answer, as a server does that has just given up an idle connection."""
    return False


async def drip(settings: Settings, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Send the body byte by byte, `seconds` apart."""
    writer.write(wire.head(settings.status, len(body), settings.headers))
    for byte in body:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(settings.seconds)
    return True


async def truncate(settings: Settings, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Send half of the promised body, then close."""
    writer.write(wire.head(settings.status, len(body), settings.headers) + body[: len(body) // 2])
    return False


async def garbage(settings: Settings, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """Send something that is not HTTP."""
    writer.write(b"\x00\x16\x03\x01 this is no HTTP\r\n\r\n")
    return False


MODES: Final[Mapping[str, Mode]] = {
    mode.__name__: mode for mode in (ok, slow, hang, reset, drop, drip, truncate, garbage)
}
