"""What can go wrong in a command, and the places where the library's errors become that.

`Usage` ends the command with 2, `Trouble` with 1; the text of either is one line for the user.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from p2plb.cli.text import clean


class Trouble(Exception):
    """The command could not do what it was asked."""


class Usage(Exception):
    """The command was asked for something that makes no sense."""


@contextmanager
def troubles() -> Iterator[None]:
    """Turn what p2plb and httpx report of the registry and the network into `Trouble`."""
    from httpx import HTTPError  # noqa: PLC0415  `p2plb --version` needs no httpx

    from p2plb.errors import P2PError  # noqa: PLC0415  beside it

    try:
        yield
    except (P2PError, HTTPError) as error:
        raise Trouble(one_line(error)) from error


@contextmanager
def arguments_checked() -> Iterator[None]:
    """Turn what the library says of arguments into `Usage`; stands only around what looks at arguments."""
    from httpx import InvalidURL  # noqa: PLC0415  as above

    try:
        yield
    except (ValueError, InvalidURL, ImportError) as error:  # ImportError: a URL may need a package that is not there
        raise Usage(one_line(error)) from error


@contextmanager
def warnings_kept() -> Iterator[None]:
    """Keep the library's warnings from standard error: what ends the command will say the same in one line."""
    library, nowhere = logging.getLogger("p2plb"), logging.NullHandler()  # Python prints what nobody handles
    library.addHandler(nowhere)
    try:
        yield
    finally:
        library.removeHandler(nowhere)


def one_line(error: Exception) -> str:
    """Return the text of an error without line breaks and control characters, its type if it has none."""
    return clean(" ".join(str(error).split())) or type(error).__name__
