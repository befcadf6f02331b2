"""Gates that wake who waits, oldest first, and slots that are never given out twice."""

import asyncio
import sys
import threading
from collections.abc import Callable

from p2plb.balancing.call import Call
from p2plb.balancing.gate import Gate
from p2plb.balancing.slots import Slots


def recorder(woken: list[str], name: str) -> Callable[[], None]:
    return lambda: woken.append(name)


def test_wakes_in_order() -> None:
    """Who has waited longest is woken first; each is woken once."""
    gate, woken = Gate(), list[str]()
    for name in "abc":
        gate.enrol(recorder(woken, name))
    assert gate.open_one()
    assert woken == ["a"]
    gate.open()
    assert woken == ["a", "b", "c"]
    assert not gate.open_one()


def test_leaving() -> None:
    """Who leaves is not woken; who leaves too late is told so, to hand the wake-up on."""
    gate, woken = Gate(), list[str]()
    first, second = recorder(woken, "first"), recorder(woken, "second")
    gate.enrol(first)
    gate.enrol(second)
    assert gate.leave(first)
    assert gate.open_one()
    assert woken == ["second"]
    assert not gate.leave(second)


def test_a_dead_loop_is_skipped() -> None:
    """F60: a waiter whose event loop is closed does not swallow the wake-up."""
    loop = asyncio.new_event_loop()
    loop.close()
    gate, woken = Gate(), list[str]()
    gate.enrol(lambda: loop.call_soon_threadsafe(print))
    gate.enrol(recorder(woken, "alive"))
    assert gate.open_one()
    assert woken == ["alive"]


def test_slots() -> None:
    """As many slots as the limit, and one waiter is woken for each that comes back."""
    slots, woken = Slots(2), list[str]()
    assert (slots.take(), slots.take(), slots.take()) == (True, True, False)
    assert (slots.taken, slots.free()) == (2, False)
    for name in "ab":
        slots.gate.enrol(recorder(woken, name))
    slots.give_back()
    assert woken == ["a"]
    assert (slots.taken, slots.free()) == (1, True)


def test_calls_without_limits() -> None:
    """A call without limits needs no slot; one with has it once, and gives it back once."""
    assert Call("users").take_slot()
    slots = Slots(2)
    call = Call("users", slots=slots)
    assert call.take_slot()
    assert call.take_slot()
    assert slots.taken == 1
    call.release()
    call.release()
    assert slots.taken == 0


def test_never_above_the_limit() -> None:
    """F62: sixteen threads over three slots: never more than three at a time, and none is lost."""
    slots, holders, most = Slots(3), set[object](), [0]
    before = sys.getswitchinterval()

    def work() -> None:
        for _ in range(300):
            while not slots.take():
                event = threading.Event()
                slots.gate.enrol(event.set)
                if not slots.free():
                    event.wait(10)
                slots.gate.leave(event.set)
            token = object()
            holders.add(token)
            most[0] = max(most[0], len(holders))
            holders.discard(token)
            slots.give_back()

    threads = [threading.Thread(target=work) for _ in range(16)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert most[0] <= 3
    assert slots.taken == 0


def test_releases_at_once_give_one_slot_back() -> None:
    """F62: a body closed by two threads at the same moment gives its slot back once."""
    slots = Slots(1)
    for _ in range(200):
        call = Call("users", slots=slots)
        assert call.take_slot()
        threads = [threading.Thread(target=call.release) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert slots.taken == 0
        assert len(slots._free) == 1
