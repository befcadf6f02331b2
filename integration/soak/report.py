"""How the long checks report: one line of figures each, then the first of what went wrong."""

from collections.abc import Sequence
from typing import Protocol

SHOWN = 10


class Outcome(Protocol):
    """What a check came to; as text it is one line of figures."""

    @property
    def failed(self) -> Sequence[str]:
        """Return the calls that failed, with the reason."""

    @property
    def complaints(self) -> Sequence[str]:
        """Return what else was not as it must be."""


def report(name: str, outcome: Outcome) -> int:
    """Print an outcome and return how much was wrong."""
    wrong = [*outcome.failed, *outcome.complaints]
    print(f"{name}: {outcome}", *(f"  {text}" for text in wrong[:SHOWN]), sep="\n", flush=True)
    return len(wrong)


def kind(*, asynchronous: bool) -> str:
    """Return how the two kinds of clients are called."""
    return "async" if asynchronous else "sync"
