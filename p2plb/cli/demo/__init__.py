"""`p2plb demo`: instances come, go and die under load, and no call fails.

This file knows the plot. What it is played with: `fleet` (processes), `traffic` (calls), `tally` (counts), `screen`.
"""

import argparse
from typing import Any

from p2plb.cli.trouble import Usage


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser("demo", help="see it work: etcd, instances, traffic, a kill -9, a drain")
    command.add_argument("--seconds", type=float, default=10.0, help="how long the traffic runs (10)")
    command.add_argument("--memory", action="store_true", help="do without etcd: a registry in memory")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Play the demo; 1 if a call failed, or none was made."""
    if not arguments.seconds > 0:
        raise Usage(f"--seconds is greater than 0, not {arguments.seconds:g}")
    from p2plb.cli.demo.plot import play_demo  # noqa: PLC0415  loads the client and the rest

    return play_demo(arguments.seconds, memory=arguments.memory)
