"""`p2plb curl users/profile/42`: one balanced request."""

import argparse
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from p2plb.cli import options, text
from p2plb.cli.trouble import Usage, arguments_checked, troubles, warnings_kept
from p2plb.instance import check_number

if TYPE_CHECKING:
    import httpx

    from p2plb import Client

TIMEOUTS = (0.001, 86_400)
"""The least and the most seconds that `--timeout` takes."""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("curl", help="send one request to an instance of a service")
    command.add_argument("target", metavar="SERVICE/PATH", help="such as users/profile/42")
    command.add_argument("-X", "--request", metavar="METHOD", help="the method (GET, or POST with -d)")
    command.add_argument("-H", "--header", metavar="NAME: VALUE", action="append", default=[], help="may be repeated")
    command.add_argument("-d", "--data", metavar="TEXT", help="the body")
    command.add_argument("--key", help="pick the instance by consistent hashing of this key")
    command.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for each step of it (30)")
    command.add_argument("-v", "--verbose", action="store_true", help="say on standard error who answered, and how")
    options.add_registry(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send the request and print the body of the answer, whatever its status."""
    import p2plb  # noqa: PLC0415  only this command needs the client

    url, headers = target_url(arguments.target), parse_headers(arguments.header)
    options.check_service(service_of(arguments.target))
    method = arguments.request or ("GET" if arguments.data is None else "POST")
    body = None if arguments.data is None else arguments.data.encode()
    with warnings_kept(), _client(arguments) as client:
        with arguments_checked():
            request = client.build_request(
                method, url, headers=headers, content=body, extensions=p2plb.call(key=arguments.key)
            )
        with troubles():
            response = client.send(request)
    if arguments.verbose:
        print(report(response), file=sys.stderr)
    sys.stdout.buffer.write(response.content)
    return 0


def target_url(target: str) -> str:
    """Return the URL of `service/path`, which may also be written as a URL."""
    url = target if "://" in target else f"http://{target}"
    if not url.startswith(("http://", "https://")) or url.partition("://")[2].startswith("/"):
        raise Usage(f"the target is SERVICE/PATH, such as users/profile/42, not {target!r}")
    return url


def service_of(target: str) -> str | None:
    """Return the service that `service/path` names; of a URL, the client's route decides."""
    return None if "://" in target else re.split("[/?#]", target)[0]


def parse_headers(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Split `Name: value` lines."""
    pairs = [line.partition(":") for line in lines]
    for name, colon, value in pairs:
        if not name.strip() or not colon:
            raise Usage(f"a header is written 'Name: value', not {name + colon + value!r}")
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def report(response: "httpx.Response") -> str:
    """Return who answered, what became of each attempt, and the head of the answer."""
    served = response.extensions.get("p2plb")
    tried = served.attempts if served else ()
    attempts = [f"* {a.instance.id} {a.instance.url}: {a.reason} in {a.seconds * 1000:.1f} ms" for a in tried]
    head = [f"< {response.http_version} {response.status_code} {response.reason_phrase}"]
    head += [f"< {name}: {value}" for name, value in response.headers.multi_items()]
    return "\n".join(text.clean(line) for line in attempts + head)


def _client(arguments: argparse.Namespace) -> "Client":
    from p2plb import Client, ConsistentHash, LeastRequest  # noqa: PLC0415  only this command needs the client

    strategy = LeastRequest() if arguments.key is None else ConsistentHash()
    route = service_of(arguments.target)
    with arguments_checked():
        check_number(arguments.timeout, "--timeout", *TIMEOUTS)
        return Client(arguments.registry, timeout=arguments.timeout, trust_env=False, strategy=strategy, route=route)
