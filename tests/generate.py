"""Writes p2plb/httpx2/ anew from p2plb/httpx/: `python -m tests.generate`.

Both families speak the same API under other names, so the second is the first with the names replaced as whole words.
Only `__init__.py`, which says what to install, is written by hand. tests/test_generated.py fails when the two differ.
"""

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "p2plb"
SOURCE, TARGET = PACKAGE / "httpx", PACKAGE / "httpx2"
COMMAND = "python -m tests.generate"
BY_HAND = "__init__.py"
NAMES = re.compile(r"\b(httpx|httpcore)\b")


def generated() -> dict[str, str]:
    """Return the text of each file of the second family, by its name."""
    return {file.name: translated(file) for file in sorted(SOURCE.glob("*.py")) if file.name != BY_HAND}


def translated(file: Path) -> str:
    """Return a file of the first family as one of the second, formatted: longer names break lines elsewhere."""
    note = f"# Written by `{COMMAND}` from p2plb/httpx/{file.name}: change that file, not this one.\n"
    text = note + NAMES.sub(r"\g<1>2", file.read_text("utf-8"))
    ruff = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(TARGET / file.name), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, check=True, encoding="utf-8").stdout


def current() -> dict[str, str]:
    """Return what the files of the second family say now."""
    return {file.name: file.read_text("utf-8") for file in TARGET.glob("*.py") if file.name != BY_HAND}


def main() -> None:
    """Write the files that differ, and remove those that have no source any more."""
    wanted, found = generated(), current()
    for name in found.keys() - wanted.keys():
        (TARGET / name).unlink()
    for name, text in wanted.items():
        if found.get(name) != text:
            (TARGET / name).write_text(text, "utf-8")
            print("wrote", (TARGET / name).relative_to(PACKAGE.parent))


if __name__ == "__main__":
    main()
