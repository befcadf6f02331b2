"""What the errors of another HTTP engine mean: aiohttp behind httpx-aiohttp, told by name, for it need not be there.

httpx-aiohttp says ConnectTimeout of nearly all that fails before the head of an answer, of a request that the server
has taken and dropped too, and lets what is wrong with an answer through as it is. aiohttp itself tells them apart.
"""

import re
from typing import Final

from p2plb.balancing.call import Fault

AIOHTTP: Final = {
    "ClientConnectorError": ("ConnectError", Fault.NEVER_SENT),  # refused, unreachable, no such name, TLS
    "ConnectionTimeoutError": ("ConnectTimeout", Fault.NEVER_SENT),
    "ServerTimeoutError": ("ReadTimeout", Fault.MAYBE_PROCESSED),
    "ServerDisconnectedError": ("RemoteProtocolError", Fault.MAYBE_PROCESSED),
    "ClientConnectionError": ("ReadError", Fault.MAYBE_PROCESSED),
    "ClientPayloadError": ("ReadError", Fault.MAYBE_PROCESSED),
    "ClientResponseError": ("RemoteProtocolError", Fault.MAYBE_PROCESSED),
}
"""For classes of aiohttp, and what is derived from them, the name of httpx's error and what it says of the request."""
UNMAPPED: Final = {"ClientResponseError"}
"""What httpx-aiohttp lets through. Any other error of aiohttp's that arrives bare is of an application's own calls."""
URL: Final = re.compile(r"\w+://[^\s']+")


def understand(error: Exception, *, mapped: bool) -> tuple[str, str, Fault] | None:
    """Return the name of httpx's error, its text and its meaning; None if the error does not come from aiohttp.

    `mapped` says that it is one of httpx's: then its cause is what counts.
    """
    known, source = (AIOHTTP.keys(), error.__cause__) if mapped else (UNMAPPED, error)
    for kind in type(source).__mro__:
        if kind.__name__ in known and kind.__module__.startswith("aiohttp."):
            name, fault = AIOHTTP[kind.__name__]
            return name, _text(source), fault
    return None


def _text(error: BaseException | None) -> str:
    """Return the first line of a text, as aiohttp quotes the answer below it, without URLs: they may hold secrets."""
    return URL.sub("(URL)", str(getattr(error, "message", None) or error).partition("\n")[0])
