"""What the kernel knows of sockets, whoever has lost track of them."""

from pathlib import Path


def sockets_to(port: int) -> int:
    """Count the sockets on this machine that are connected to a port and still belong to a process."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[9] != "0" for row in rows)
