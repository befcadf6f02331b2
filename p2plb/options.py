"""Options of one call, carried through httpx in the request's extensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2plb.instance import check_number

EXTENSION: Final = "p2plb"


@dataclass(frozen=True, slots=True)
class Options:
    """What one call wants of its own."""

    key: Any = None
    timeout: float | None = None
    repeatable: bool | None = None


DEFAULTS: Final = Options()


def call(*, key: Any = None, timeout: float | None = None, repeatable: bool | None = None) -> dict[str, Any]:
    """Return extensions for one call: `client.get(url, extensions=p2plb.call(key="42"))`.

    `key` is what a keyed strategy goes by. `timeout` bounds the whole exchange in seconds, waits and body included,
    instead of the policy's. `repeatable` says whether the request may be processed twice, whatever its method and
    `Retry(repeatable=)` say.
    """
    if timeout is not None:
        check_number(timeout, "call(timeout=)", 0, 86_400)
    if repeatable is not None and not isinstance(repeatable, bool):
        raise TypeError(f"call(repeatable=) is True or False, not {repeatable!r}")
    return {EXTENSION: Options(key, timeout, repeatable)}


def options(extensions: Mapping[str, Any]) -> Options:
    """Return the options that a request carries; `TypeError` if they were not made by `call`."""
    found = extensions.get(EXTENSION, DEFAULTS)
    if not isinstance(found, Options):
        raise TypeError(f"extensions['p2plb'] is made by p2plb.call(…), not {found!r}")
    return found
