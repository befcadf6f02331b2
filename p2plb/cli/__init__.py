"""The command `p2plb`: one small file a command, nothing heavy imported before a command runs.

This file knows how a command ends: 0 when all is well, 1 for trouble with the registry or the network, 2 for wrong
usage, 130 after Ctrl-C, and never a traceback for any of these.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from p2plb.cli import curl, demo, dev, listing, watch
from p2plb.cli.trouble import Trouble, Usage
from p2plb.version import __version__

COMMANDS = (demo, dev, listing, watch, curl)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (or the command line) names and return its exit status."""
    open_streams()
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except Usage as error:
        return complain(error, 2)
    except Trouble as error:
        return complain(error, 1)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter's own flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(prog="p2plb", description="Client-side load balancing for httpx, from the shell.")
    top.add_argument("--version", action="version", version=f"p2plb {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


def open_streams() -> None:
    """Let what is written to a standard stream that was closed (`p2plb ls >&-`) go nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(nowhere, "w", closefd=False))


def complain(error: Exception, status: int) -> int:
    """Tell on standard error, in one line, what went wrong."""
    print(f"p2plb: {error}", file=sys.stderr)
    return status
