"""How the demo looks: a table that moves on a terminal with rich, a line a second anywhere else.

A frame is a value; nothing here knows where it comes from.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from p2plb.cli import text

WIDTH = 24


@dataclass(frozen=True, slots=True)
class Row:
    """One instance: how its process is doing, its calls, its share of the latest ones (0 to 1)."""

    name: str
    state: str
    calls: int
    share: float


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that is to be seen at one moment; `news` are sentences, oldest first."""

    seconds: float
    calls: int
    failed: int
    rows: Sequence[Row]
    news: Sequence[str]


class Screen(Protocol):
    """Shows frames."""

    def show(self, frame: Frame) -> None:
        """Show how things are now."""


class Lines:
    """News as they come, and how things are once a second."""

    def __init__(self) -> None:
        self._told = 0
        self._next = 1.0

    def show(self, frame: Frame) -> None:
        """Print what is new."""
        for sentence in frame.news[self._told :]:
            print(sentence, flush=True)
        self._told = len(frame.news)
        if frame.seconds >= self._next:
            print(line(frame), flush=True)
            self._next = frame.seconds + 1


def line(frame: Frame) -> str:
    """Return a frame as one line."""
    shares = "  ".join(f"{row.name} {row.share:4.0%}" for row in frame.rows if row.state != "killed" or row.share)
    return f"{frame.seconds:5.1f} s  {shares}  {frame.calls:,} calls, {frame.failed} failed"


class Moving:
    """The same as a table that moves."""

    def __init__(self, live: Any) -> None:
        self._live = live

    def show(self, frame: Frame) -> None:
        """Draw the frame over the one before."""
        self._live.update(drawn(frame), refresh=True)


def drawn(frame: Frame) -> Any:
    """Return a frame as rich draws it."""
    from rich.console import Group  # noqa: PLC0415  optional
    from rich.table import Table  # noqa: PLC0415  the same

    table = Table("INSTANCE", "PROCESS", "CALLS", "SHARE NOW", "", box=None, pad_edge=False)
    for row in frame.rows:
        table.add_row(row.name, row.state, f"{row.calls:,}", f"{row.share:.0%}", "█" * round(row.share * WIDTH))
    counts = f"\n{frame.seconds:.1f} s   {frame.calls:,} calls   {frame.failed} failed\n"
    return Group(table, counts, *frame.news)


@contextmanager
def screen() -> Iterator[Screen]:
    """Give the best screen that standard output allows."""
    if not text.pretty():
        yield Lines()
        return
    from rich.live import Live  # noqa: PLC0415  optional

    with Live(auto_refresh=False) as live:
        yield Moving(live)
