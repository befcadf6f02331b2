"""The etcd that `dev` and `demo` start: with errors in one line for the user."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from p2plb.cli.trouble import Trouble

if TYPE_CHECKING:
    from p2plb.testing.etcd import EtcdNode


@contextmanager
def started(port: int | None = None) -> Iterator["EtcdNode"]:
    """Give an etcd that runs, on a free port unless one is given; its process and data are gone at the end."""
    from p2plb.testing.etcd import running_etcd  # noqa: PLC0415  only two commands need it

    with ExitStack() as stack:
        try:
            node = stack.enter_context(running_etcd(port=port))
        except (OSError, RuntimeError) as error:
            raise Trouble(gist(str(error))) from error
        yield node


def gist(text: str) -> str:
    """Return the first line of a text, which says what failed, and the last, which in a log says why."""
    first, *rest = text.strip().splitlines()
    return " ".join([first, *rest[-1:]])
