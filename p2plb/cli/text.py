"""Text for terminals: tables with and without rich, times for people, and nothing that moves the cursor.

What a registry holds was written by others; `clean` keeps control characters out of the terminal.
"""

import importlib.util
import sys
from collections.abc import Iterable, Sequence

MINUTE, HOUR, DAY = 60, 3600, 86_400


def clean(text: object) -> str:
    """Return the text with everything unprintable replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))


def ago(seconds: float | None) -> str:
    """Return a duration in its largest unit: 42s, 7m, 3h, 12d; "-" if it is not known."""
    if seconds is None:
        return "-"
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: rich's on a terminal that has it, aligned columns otherwise."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if pretty():
        _print_rich(headers, cells)
    else:
        print("\n".join(columns([list(headers), *cells])))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line a row, the cells of a column aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def pretty() -> bool:
    """Say whether standard output is a terminal and rich is installed."""
    return sys.stdout.isatty() and importlib.util.find_spec("rich") is not None


def _print_rich(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415  optional
    from rich.table import Table  # noqa: PLC0415  the same
    from rich.text import Text  # noqa: PLC0415  the same

    table = Table(*headers, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
