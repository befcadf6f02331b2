"""The simulator's short, seeded runs: what must hold of the strategies, and that the simulator itself is right.

The full tables are printed by `python -m integration.simulate`.
"""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from integration.simulate import placement, prefix, queues, ramp, subsets
from integration.simulate.contenders import ORACLE, VARIANTS, is_keyed, makers
from integration.simulate.servers import Job, Queue, Shared
from integration.simulate.setting import Result, Setting, play
from integration.simulate.world import World
from p2plb.balancing.call import Outcome
from p2plb.balancing.view import Strategy

MAKERS = makers()
CALLS = 2_000


def run(name: str, who: str) -> Result:
    """Simulate one of the situations for one strategy, shorter than the command does."""
    return play(replace(queues.SETTINGS[name][1], calls=CALLS), MAKERS[who])


def made(who: str) -> Strategy:
    return MAKERS[who](World(), {}, "")


# --- the simulator itself ----------------------------------------------------------------------------------------


def test_one_seed_one_run() -> None:
    """Two runs with the same seed are equal, call by call."""
    first, second = (run("even", "LeastRequest") for _ in range(2))
    assert first.log == second.log
    assert len(first.log.done) == CALLS


def test_one_instance_is_the_queue_of_the_textbook() -> None:
    """One instance at load 0.6 with random work is M/M/1: a call takes 1/(1 - 0.6) of its work, on the average."""
    result = play(Setting(size=1, clients=1, calls=10_000), MAKERS["RoundRobin"])
    mean = sum(one.seconds for one in result.counted) / len(result.counted)
    assert mean == pytest.approx(0.010 / 0.4, rel=0.15)


def test_the_oracle_is_one_central_queue() -> None:
    """The oracle's mean wait is Erlang's for ten workers that share one queue."""
    result = play(Setting(load=0.8, calls=10_000), MAKERS[ORACLE])
    mean = sum(one.seconds for one in result.counted) / len(result.counted)
    assert mean == pytest.approx(0.010 * (1 + erlang_c(10, 8.0) / 2.0), rel=0.1)


def erlang_c(servers: int, offered: float) -> float:
    """Return the part of calls that wait (A. K. Erlang, 1917)."""
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(offered**n / math.factorial(n) for n in range(servers)) + last)


def test_a_shared_machine_works_at_all_calls_at_once() -> None:
    """Two calls on one processor take twice as long as each of two on two; a change of capacity counts at once."""
    world, ends = World(), list[float]()
    server = Shared(world, capacity=1.0)
    for number in range(2):
        server.serve(Job(number, 1.0), lambda _outcome: ends.append(world.now))
    world.at(1.0, lambda: server.share(2.0))
    world.run()
    assert ends == [1.5, 1.5]


def test_a_killed_instance_loses_its_calls() -> None:
    """F01: what is in work is lost at once, what comes is refused, and after the start all is served again."""
    world, answers = World(), list[Outcome]()
    server = Queue(world)
    server.serve(Job(1, 1.0), answers.append)
    world.at(0.5, server.kill)
    world.at(0.6, lambda: server.serve(Job(2, 1.0), answers.append))
    world.at(0.7, server.start)
    world.at(0.8, lambda: server.serve(Job(3, 1.0), answers.append))
    world.run()
    assert [outcome.status for outcome in answers] == [None, None, 200]
    assert world.now == 1.8


def test_every_exported_strategy_stands_in_the_tables() -> None:
    """Strategies are found by themselves, and a function that is none is not taken for one."""
    assert {ORACLE, "RoundRobin", "LeastRequest", "ConsistentHash", "ZoneAware"} <= set(MAKERS)
    assert "header" not in MAKERS


@pytest.mark.parametrize("name", queues.SETTINGS)
def test_each_situation_makes_a_table(name: str) -> None:
    """Each situation is simulated to its end, and the table has a line for each contender."""
    some = {who: MAKERS[who] for who in (ORACLE, "LeastRequest")}
    text = queues.report(name, some, calls=1_000)
    assert text.startswith(f"{name}: ")
    assert all(f"    {who} " in text for who in some)


def test_the_command(tmp_path: Path) -> None:
    """The command prints the tables that are asked for, and draws the ramp to a file."""
    plot = tmp_path / "ramp.svg"
    what = ["ramp", "--only", "RoundRobin", "--calls", "100", "--plot", str(plot)]
    command = [sys.executable, "-m", "integration.simulate", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # fonts stay open where they are drawn
    assert done.stdout.startswith("ramp: ")
    assert "<svg" in plot.read_text("utf-8")


# --- what must hold of all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", sorted(set(MAKERS) - {ORACLE} - set(VARIANTS)))
def test_no_call_fails_while_instances_come_and_go(who: str) -> None:
    """F01, F02: nothing fails for any strategy, whether an instance dies or all are replaced."""
    for name in ("dies", "rolling"):
        result = play(replace(queues.SETTINGS[name][1], calls=600, clients=1), MAKERS[who])
        assert result.log.failed == 0
        assert len(result.log.done) == 600


@pytest.mark.parametrize(("who", "bound"), [("RoundRobin", 1.001), ("LeastRequest", 1.05)])
def test_idle_clients_spread_evenly(who: str, bound: float) -> None:
    """On whole cycles of an idle client no instance has more than its part."""
    assert placement.idle(made(who), cycles=100) <= bound


@pytest.mark.parametrize("who", ["ConsistentHash+bounded", "Maglev+bounded"])
def test_a_hot_key_stays_within_the_bound(who: str) -> None:
    """F20: a key that is forty times as frequent puts no more than 1.25 times the mean on anybody, rounded up."""
    assert placement.hot_key(made(who), calls=4_000).in_flight <= 1.25 + 10 / placement.IN_FLIGHT
    assert placement.hot_key(made(who.partition("+")[0]), calls=4_000).in_flight > 2.0


@pytest.mark.parametrize("who", [who for who in MAKERS if who not in {ORACLE, *VARIANTS} and is_keyed(made(who))])
def test_few_keys_move(who: str) -> None:
    """When one of 100 instances leaves or joins, hardly more keys move than must."""
    bound = 2.5 if who.startswith("Maglev") else 1.05
    found = placement.moved(made(who), keys=3_000, times=2)
    assert found.leave <= bound
    assert found.join <= bound


def test_sessions_stay() -> None:
    """Of sticky sessions only those of an instance that leaves move, to all others alike; none moves to a newcomer."""
    sticky = made("Sticky")
    found = placement.moved(sticky, keys=2_000, times=2)
    assert (found.leave, found.join) == (1.0, 0.0)
    assert placement.heirs(sticky, keys=10_000) <= 1.3


def test_a_newcomer_is_not_flooded() -> None:
    """F19: an instance that joins has its share within a second, and never twice that."""
    setting = replace(queues.SETTINGS["joins"][1], calls=6_000)
    fair, most = queues.newcomer(setting, play(setting, MAKERS["LeastRequest"]))
    assert fair is not None
    assert fair <= 1.0
    assert most < 2.0


def test_calls_stay_in_their_zone() -> None:
    """With as many instances as callers in each zone no call leaves it, and no instance has more than its part."""
    setting = replace(queues.SETTINGS["zones"][1], calls=3_000)
    aware, blind = (play(setting, MAKERS[who]) for who in ("ZoneAware", "LeastRequest"))
    assert queues.at_home(aware) == 1.0
    assert queues.at_home(blind) == pytest.approx(1 / 3, abs=0.05)
    assert aware.unevenness() < 1.2


def test_subsets() -> None:
    """A join or a leave changes at most one member of a subset; the busiest instance is near what theory expects."""
    found = subsets.spread(clients=100, instances=100, size=10)
    assert found.leave == found.join == 1
    assert found.unevenness <= 1.3 * subsets.theory(clients=100, instances=100, size=10)


def test_the_prefix_cache() -> None:
    """Conversations that keep their replica find it in the cache, and scattered ones do not."""
    scattered, kept = (prefix.row(replace(prefix.SETTING, calls=4_000), MAKERS[who])[0] for who in KEPT)
    assert isinstance(kept, float)
    assert isinstance(scattered, float)
    assert kept > 3 * scattered


KEPT: tuple[str, str] = ("LeastRequest", "ConsistentHash")


def test_one_slow_instance() -> None:
    """F08: with one of ten instances ten times slower p99 is near that of the nine others; turns are far worse."""
    setting = replace(queues.SETTINGS["slow"][1], calls=4_000)
    without = replace(setting, size=9, load=setting.load * 10 / 9, script=lambda _stage: None)
    for who in ("PeakEwma", "Probing"):
        assert p99(setting, who) <= 1.3 * p99(without, who)
    assert p99(setting, "RoundRobin") > 5 * p99(without, "RoundRobin")


def p99(setting: Setting, who: str) -> float:
    return play(setting, MAKERS[who]).quantile(0.99)


def test_the_ramp() -> None:
    """On shared machines what instances report is worth more than turns: p99.9 is at least 1.5 times better."""
    setting = replace(ramp.SETTING, clients=20, size=20, calls=8_000)
    turns, reports = (ramp.tails(setting, MAKERS[who], [1.35])[0] for who in ("WeightedRoundRobin", "Probing"))
    assert 1.5 * reports < turns
