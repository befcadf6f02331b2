"""The server child itself: serve, keep a journal, obey one JSON line at a time on stdin, end at its end of file.

Standard library only, so that it starts in a tenth of a second; p2plb is imported only to register. It says
`{"port": …}` on stdout once it listens and `{}` after each order. SIGTERM drains: leave the registry, finish what runs,
exit with 0. It never outlives its parent, whose end closes stdin.
"""

import argparse
import asyncio
import json
import signal
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from integration.harness.child.server import Child


async def obey(child: Child) -> None:
    """Carry out the orders that come on stdin until it ends."""
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        child.switch(json.loads(line))
        say({})


def say(message: dict[str, Any]) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def registration(options: argparse.Namespace) -> AbstractAsyncContextManager[object]:
    """Return what keeps this server in the registry, or nothing if it is not to register."""
    if not options.register:
        return nullcontext()
    from p2plb import register  # noqa: PLC0415  an unregistered server starts without p2plb

    return register(
        options.service,
        host="127.0.0.1",
        port=options.port,
        registry=options.register,
        ttl=options.ttl,
        metadata={"name": options.name},
    )


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or until stdin ends."""
    child, leaving = Child(options.name, options.journal), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    server = await asyncio.start_server(child.connected, "127.0.0.1", options.port, backlog=1024)
    say({"port": options.port})
    async with registration(options):
        ends = [asyncio.create_task(obey(child)), asyncio.create_task(leaving.wait())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    server.close()
    await child.settle(5)


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", required=True)
    parser.add_argument("--register")
    parser.add_argument("--service", default="users")
    parser.add_argument("--ttl", type=int, default=10)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
