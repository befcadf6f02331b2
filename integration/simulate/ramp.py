"""Instances on machines that they share with others, under a load that rises beyond what is theirs.

Wydrowski et al., "Load is not what you should balance: Introducing Prequal" (NSDI 2024): each instance has an
allocation of its machine, may use more while its neighbours (antagonists) leave it, and is held to the allocation while
they do not. The load rises from 0.75 to 1.7 of all allocations, so calls must go where there is room just now.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from integration.simulate.contenders import Maker
from integration.simulate.report import draw, ms, table
from integration.simulate.servers import Shared
from integration.simulate.setting import Setting, Stage, play
from integration.simulate.world import World

LOADS = (0.75, 0.95, 1.15, 1.35, 1.55, 1.7)
ALLOCATION = 2.0
HELD = 0.2
"""The part of the machines whose neighbours leave nothing, at any moment; the others have up to four allocations."""
STAYS = 4.0
"""How many seconds neighbours stay as they are, on the average."""


def work(rng: random.Random) -> float:
    """Draw a service time as Prequal's test bed does: normal, with a deviation equal to the mean, cut off at 0."""
    return max(0.0, rng.gauss(0.923, 0.923))  # of mean 1 with the cut


def antagonists(stage: Stage) -> None:
    """Let the neighbours of each instance come and go, as long as calls come."""
    for server in stage.servers.values():
        change(stage, random.Random(stage.world.rng.random()), server)


def change(stage: Stage, rng: random.Random, server: Shared) -> None:
    """Give a server another part of its machine, now and again."""
    server.share(ALLOCATION * (1.0 if rng.random() < HELD else rng.uniform(1.0, 4.0)))
    if stage.world.now < stage.setting.seconds:
        stage.world.after(rng.expovariate(1.0 / STAYS), partial(change, stage, rng, server))


def shared(world: World) -> Shared:
    """Return an instance that has its allocation."""
    return Shared(world, capacity=ALLOCATION)


SETTING = Setting(
    clients=40,
    size=40,
    power=ALLOCATION,
    mean=0.030,
    work=work,
    server=shared,
    script=antagonists,
    calls=40_000,
)
"""At load 1 a client sends 67 calls a second."""


def report(makers: Mapping[str, Maker], loads: Sequence[float] = LOADS, plot: str | None = None, **changes: int) -> str:
    """Return the table: p99.9 of each strategy at each load; `plot` is a file to draw it to."""
    setting = replace(SETTING, **changes)  # type: ignore[arg-type]  # whole numbers, by name
    rows = {name: tails(setting, maker, loads) for name, maker in makers.items()}
    title = f"p99.9 in ms by load, of {setting.size} instances' allocations on shared machines"
    if plot is not None:
        draw(plot, title, loads, rows)
    return table(f"ramp: {title}", rows, [f"{load:.2f}" for load in loads])


def tails(setting: Setting, maker: Maker, loads: Sequence[float]) -> list[float]:
    """Return p99.9 in milliseconds at each load."""
    return [ms(play(replace(setting, load=load), maker).quantile(0.999)) for load in loads]
