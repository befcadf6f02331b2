"""The demo's own decisions: its timetable, its counts, its lines."""

import io
import threading

import httpx
import pytest
from rich.console import Console

from p2plb.cli.demo.screen import Frame, Lines, Row, drawn, line
from p2plb.cli.demo.story import Step, play
from p2plb.cli.demo.tally import RECENT, Left, Tally, left
from p2plb.cli.demo.traffic import call_until


class Time:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_steps_come_at_their_time() -> None:
    """Each step is done once, in the order of its share of the running time, and the end is shown."""
    time, done, shown = Time(), list[tuple[str, float]](), list[float]()
    steps = [Step(0.5, lambda: done.append(("b", time.now))), Step(0.2, lambda: done.append(("a", time.now)))]
    play(steps, 2.0, lambda: shown.append(time.now), clock=lambda: time.now, sleep=time.sleep)
    assert [name for name, _ in done] == ["a", "b"]
    assert [at for _, at in done] == pytest.approx([100.4, 101.0], abs=0.11)
    assert shown[-1] >= 102.0


def test_left_divides_the_rush_from_probes() -> None:
    """Attempts right after a death are the rush; what comes after a pause only looks whether it is back."""
    assert left([0.001, 0.004, 1.2, 3.4]) == Left(2, 0.004, 2)
    assert left([]) == Left(0, 0.0, 0)
    assert left([1.1]) == Left(0, 0.0, 1)


def test_tally() -> None:
    """Calls, failures, second attempts and shares are counted."""
    time = Time()
    tally = Tally(lambda: time.now)
    tally.answered("a", 1)
    tally.answered("b", 2)
    tally.failed("ReadError: gone")
    tally.attempted("a")
    time.sleep(1)
    tally.attempted("a")
    totals = tally.totals()
    assert (totals.calls, totals.failed, totals.repeated) == (3, 1, 1)
    assert (totals.served, totals.recent) == ({"a": 1, "b": 1}, {"a": 1, "b": 1})
    assert tally.left("a", 100.9) == Left(1, time.now - 100.9, 0)
    assert tally.failures() == {"ReadError: gone": 1}


def test_no_call_is_no_success() -> None:
    """A demo in which nothing was called has shown nothing."""
    tally = Tally(lambda: 0.0)
    assert not tally.is_clean()
    tally.answered("a", 2)
    assert tally.is_clean()
    tally.failed("ReadError: gone")
    assert not tally.is_clean()


def test_whatever_a_call_raises_is_a_failed_call() -> None:
    """A thread that dies of an error nobody thought of must not make the demo look well."""
    stop, tally = threading.Event(), Tally(lambda: 0.0)

    def broken(_request: httpx.Request) -> httpx.Response:
        stop.set()
        raise ZeroDivisionError("x")

    with httpx.Client(transport=httpx.MockTransport(broken)) as client:
        call_until(stop, client, tally)
    assert tally.failures() == {"ZeroDivisionError: x": 1}


def test_recent_shares_forget() -> None:
    """The shares of the moment come from the latest calls only."""
    tally = Tally(lambda: 0.0)
    for name in ["a"] * 10 + ["b"] * RECENT:
        tally.answered(name, 1)
    assert tally.totals().recent == {"b": RECENT}
    assert tally.totals().served == {"a": 10, "b": RECENT}


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal each piece of news is printed once and the state once a second."""
    screen = Lines()
    rows = [Row("a", "running", 5, 0.75), Row("b", "killed", 1, 0.0)]
    for seconds in (0.0, 1.0, 1.5, 2.0):
        screen.show(Frame(seconds, 1234, 0, rows, ("  0.0 s  b dies",)))
    assert capsys.readouterr().out.splitlines() == [
        "  0.0 s  b dies",
        "  1.0 s  a  75%  1,234 calls, 0 failed",
        "  2.0 s  a  75%  1,234 calls, 0 failed",
    ]
    assert line(Frame(2.0, 1, 0, rows, ())).startswith("  2.0 s")


def test_drawn() -> None:
    """On a terminal a frame is a table with a bar for each share."""
    console = Console(file=io.StringIO(), width=80)
    console.print(drawn(Frame(3.0, 1234, 1, [Row("anna", "running", 900, 0.5)], ["  2.0 s  ben dies"])))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for part in ("anna", "running", "900", "50%", "█" * 12, "1,234 calls", "1 failed", "ben dies"):
        assert part in shown
