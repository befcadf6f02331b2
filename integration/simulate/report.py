"""Tables of the simulator as text, and curves as a picture (with the extra `plot`)."""

from collections.abc import Iterable, Mapping, Sequence

Cell = str | float | int | None


def table(title: str, rows: Mapping[str, Sequence[Cell]], columns: Sequence[str]) -> str:
    """Return rows of figures under their columns, each row with its name."""
    cells = [["", *columns], *([name, *map(text, row)] for name, row in rows.items())]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns) + 1)]
    return "\n".join([title, "", *lines(cells, widths), ""])


def lines(cells: Iterable[Sequence[str]], widths: Sequence[int]) -> Iterable[str]:
    """Yield lines with names on the left and figures on the right of their columns."""
    for name, *figures in cells:
        right = "".join(f"  {one:>{width}}" for one, width in zip(figures, widths[1:], strict=True))
        yield f"    {name:<{widths[0]}}{right}".rstrip()


def text(cell: Cell) -> str:
    """Return a figure with as many digits as tell something."""
    if cell is None:
        return "-"
    if isinstance(cell, str | int):
        return f"{cell:,}" if isinstance(cell, int) else cell
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}" if abs(cell) < 1 else f"{cell:.2f}"


def ms(seconds: float) -> float:
    """Return milliseconds."""
    return seconds * 1000.0


def draw(path: str, title: str, x: Sequence[float], rows: Mapping[str, Sequence[float]]) -> None:
    """Write a curve for each row to a file, SVG or PNG by its name."""
    from matplotlib.figure import Figure  # noqa: PLC0415  only who plots needs it

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for name, values in rows.items():
        axes.plot(x, values, label=name, linestyle="--" if name == "oracle" else "-")
    axes.set(title=title, xlabel="load", yscale="log")
    axes.legend()
    figure.savefig(path)
