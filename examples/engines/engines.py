"""The same calls with httpx, with httpx2 and with aiohttp inside; run it: `python examples/engines/engines.py`.

A small HTTP server in a thread stands for the instance of the service.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import httpx
import httpx2
from httpx_aiohttp import AiohttpTransport

import p2plb
import p2plb.httpx2
from p2plb import Instance


class Handler(BaseHTTPRequestHandler):
    """Answers with the path and the Host header."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path} of {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def instance() -> Iterator[str]:
    """Run a server and give the URL of a registry that knows it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"static://users=127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


CONTEXT = httpx.create_ssl_context()  # one for all instances: making one takes longer than many a call


def session() -> aiohttp.ClientSession:
    """Return a session of aiohttp's that leaves to p2plb and httpx what is theirs."""
    connector = aiohttp.TCPConnector(ssl=CONTEXT, limit=0, keepalive_timeout=1.5)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def through_aiohttp(_instance: Instance) -> AiohttpTransport:
    """Return the transport for one instance; p2plb closes it when the instance has left."""
    return AiohttpTransport(verify=CONTEXT, client=session)


async def main(registry: str) -> None:
    async with p2plb.AsyncClient(registry) as client:
        print("httpx:", (await client.get("http://users/1")).text, isinstance(client, httpx.AsyncClient))

    async with p2plb.httpx2.AsyncClient(registry) as second:
        print("httpx2:", (await second.get("http://users/2")).text, isinstance(second, httpx2.AsyncClient))

    async with p2plb.AsyncClient(registry, inner=through_aiohttp) as inside:
        print("aiohttp inside:", (await inside.get("http://users/3")).text, isinstance(inside, httpx.AsyncClient))


if __name__ == "__main__":
    with instance() as url:
        asyncio.run(main(url))
