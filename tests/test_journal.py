"""The comparison of journals and client logs finds what it is there to find."""

import json
from pathlib import Path

import pytest

from integration.harness.journal import Answer, Entry, complaints, read


def ran(request_id: str, method: str = "GET", times: int = 1) -> list[Entry]:
    return [Entry("start", request_id, "a", 1, method, "/", float(at)) for at in range(times)]


@pytest.mark.parametrize(
    ("answer", "entries", "complaint"),
    [
        (Answer("1", "GET", 200, "1"), ran("1"), None),
        (Answer("1", "GET", 200, "1"), ran("1", times=2), None),
        (Answer("1", "GET", 200, "2"), ran("1"), "got the body of 2"),
        (Answer("1", "GET", 200, "1"), [], "nobody executed it"),
        (Answer("1", "GET", error="ReadError"), ran("1"), "failed: ReadError"),
        (Answer("1", "POST", error="ReadError"), ran("1", "POST"), None),
        (Answer("1", "POST", error="ReadError"), ran("1", "POST", times=2), "executed 2 times"),
        (Answer("1", "POST", 200, "1"), ran("1", "POST", times=2), "executed 2 times"),
    ],
)
def test_complaints(answer: Answer, entries: list[Entry], complaint: str | None) -> None:
    """A stranger's body, an unanswered GET, an answer from nowhere and a POST that ran twice are each reported."""
    found = complaints([answer], entries)
    assert (not found) if complaint is None else (len(found) == 1 and complaint in found[0])


def test_read_merges_by_time(tmp_path: Path) -> None:
    """Entries of several journals come in the order of time, and a journal that was never begun is empty."""
    for name, at in (("a", 2.0), ("b", 1.0)):
        line = {"event": "start", "id": name, "instance": name, "pid": 1, "method": "GET", "target": "/", "at": at}
        (tmp_path / name).write_text(json.dumps(line) + "\n")
    assert [entry.id for entry in read([tmp_path / "a", tmp_path / "b", tmp_path / "c"])] == ["b", "a"]
