"""Situations of ordinary requests: every strategy beside the oracle, in time and in evenness of load."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from integration.simulate.client import record
from integration.simulate.contenders import Maker
from integration.simulate.report import Cell, ms, table
from integration.simulate.setting import Result, Setting, Stage, bursts, heavy, play

COLUMNS = ("p50 ms", "p99 ms", "p99.9 ms", "p99/oracle's", "max/mean load", "failed")
SLOW = 10.0
JOIN = 0.3
NEWCOMER = 100
ZONES = ("a", "b", "c")
WINDOW = 0.25


def one_slow(stage: Stage) -> None:
    """Make one instance ten times slower."""
    stage.servers["i000"].speed = 1.0 / SLOW


def one_dies(stage: Stage) -> None:
    """Kill one instance in the middle and let it come back, under its record, which nobody removes."""
    victim, seconds = stage.servers["i000"], stage.setting.seconds
    stage.world.at(0.4 * seconds, victim.kill)
    stage.world.at(0.7 * seconds, victim.start)


def rolling(stage: Stage) -> None:
    """Replace one instance after the other: a new one joins, an old one leaves and ends half a second later."""
    step = stage.setting.seconds / (stage.setting.size + 2)
    for number, old in enumerate(list(stage.records)):
        moment = (number + 1) * step
        stage.world.at(moment, lambda number=number: stage.join(record(100 + number)))  # type: ignore[misc]  # defaults of lambdas
        stage.world.at(moment + 0.2, lambda old=old: stage.leave(old))  # type: ignore[misc]  # the same
        stage.world.at(moment + 0.7, stage.servers[old.id].kill)


def joins(stage: Stage) -> None:
    """Let one instance join."""
    stage.world.at(JOIN * stage.setting.seconds, lambda: stage.join(record(NEWCOMER)))


def cold(stage: Stage) -> None:
    """Let one instance join that begins at a quarter of its speed and is warm after ten seconds."""

    def join() -> None:
        server, began = stage.join(record(NEWCOMER)), stage.world.now

        def warm_up() -> None:
            server.speed = min(1.0, 0.25 + 0.075 * (stage.world.now - began))
            if server.speed < 1.0:
                stage.world.after(0.5, warm_up)

        warm_up()

    stage.world.at(JOIN * stage.setting.seconds, join)


SETTINGS: dict[str, tuple[str, Setting]] = {
    "even": ("ten equal instances, ten clients, load 0.6", Setting()),
    "slow": ("one of ten instances ten times slower, load 0.6", Setting(script=one_slow)),
    "heavy": ("service times with a heavy tail, load 0.6", Setting(work=heavy)),
    "bursts": ("three times as many calls for a tenth of each second, load 0.5", Setting(arrivals=bursts, load=0.5)),
    "dies": ("one of ten instances dies and comes back, load 0.5", Setting(script=one_dies, load=0.5)),
    "rolling": ("each of ten instances replaced, load 0.5", Setting(script=rolling, load=0.5)),
    "joins": ("an eleventh instance joins, load 0.6", Setting(script=joins, mean=0.004)),
    "cold": ("an eleventh instance joins cold, load 0.6", Setting(script=cold, mean=0.004)),
    "zones": ("twelve instances and clients in three zones, load 0.6", Setting(clients=12, size=12, zones=ZONES)),
}
JOINING = {"joins", "cold"}


def report(name: str, makers: Mapping[str, Maker], **changes: int) -> str:
    """Return the table of a situation."""
    title, setting = SETTINGS[name]
    setting = replace(setting, **changes)  # type: ignore[arg-type]  # whole numbers, by name
    results = {who: play(setting, maker) for who, maker in makers.items()}
    best = results["oracle"].quantile(0.99)
    rows = {who: row(one, best) for who, one in results.items()}
    columns: tuple[str, ...] = COLUMNS
    if name in JOINING:
        rows = {who: [*cells, *newcomer(setting, results[who])] for who, cells in rows.items()}
        columns = (*COLUMNS, "s to a fair share", "most/fair share")
    if setting.zones == ZONES:
        rows = {who: [*cells, at_home(results[who])] for who, cells in rows.items()}
        columns = (*COLUMNS, "in the own zone")
    return table(f"{name}: {title}", rows, columns)


def at_home(result: Result) -> float:
    """Return which part of the calls stayed in the caller's zone."""
    zones = {record(number).id: ZONES[number % len(ZONES)] for number in range(len(result.servers))}
    return sum(zones[one.server] == one.zone for one in result.counted) / len(result.counted)


def row(result: Result, best: float) -> list[Cell]:
    """Return the figures of one strategy."""
    p50, p99, p999 = (result.quantile(part) for part in (0.5, 0.99, 0.999))
    return [ms(p50), ms(p99), ms(p999), p99 / best, result.unevenness(), result.log.failed]


def newcomer(setting: Setting, result: Result) -> tuple[float | None, float]:
    """Return after how many seconds a newcomer has 0.8 of a fair share for once, and the most that it gets.

    Calls count by their start, in windows of a quarter of a second.
    """
    joined, name = JOIN * setting.seconds, record(NEWCOMER).id
    everybody, its = Counter[int](), Counter[int]()
    for one in result.log.done:
        window = int((one.start - joined) // WINDOW)
        everybody[window] += 1
        its[window] += one.server == name
    last = max(everybody)
    parts = [its[window] * (setting.size + 1) / everybody[window] for window in range(last) if everybody[window]]
    fair = next((number for number, part in enumerate(parts) if part >= 0.8), None)
    return None if fair is None else (fair + 1) * WINDOW, max(parts)
