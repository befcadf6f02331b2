"""The servers' journals against the client's own log: what must be true of every call, whatever was killed meanwhile.

Pure but for reading the files. It knows nothing of servers or clients.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal: a server has started (`start`) or answered (`end`) a request."""

    event: str
    id: str
    instance: str
    pid: int
    method: str
    target: str
    at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client saw of one call: its request id, the id in the body, or the error that came instead."""

    id: str
    method: str
    status: int | None = None
    body_id: str | None = None
    error: str | None = None


def read(paths: Iterable[Path]) -> list[Entry]:
    """Return the entries of all journals in the order in which they were written down."""
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
    return sorted((Entry(**json.loads(line)) for line in lines), key=lambda entry: entry.at)


def executions(entries: Iterable[Entry]) -> Counter[str]:
    """Count how often each request id was started."""
    return Counter(entry.id for entry in entries if entry.event == "start")


def complaints(answers: Sequence[Answer], entries: Sequence[Entry], *, once: Iterable[str] = ("POST",)) -> list[str]:
    """Return a sentence for each call that was not as it must be; methods in `once` may not run twice."""
    counts, never_twice = executions(entries), frozenset(once)
    return [text for answer in answers if (text := _complaint(answer, counts[answer.id], never_twice))]


def _complaint(answer: Answer, executed: int, once: frozenset[str]) -> str | None:
    who = f"{answer.method} {answer.id}"
    if answer.method in once and executed > 1:
        return f"{who} was executed {executed} times"
    if answer.error is not None:
        return None if answer.method in once else f"{who} failed: {answer.error}"
    if answer.body_id != answer.id:
        return f"{who} got the body of {answer.body_id}"
    return None if executed else f"{who} was answered, but nobody executed it"
