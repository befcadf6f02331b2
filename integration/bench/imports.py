"""How long `import p2plb` takes, against `import httpx`, in runs that alternate.

python -m integration.bench.imports [--runs 20]
"""

import argparse
import subprocess
import sys
import time
from statistics import median


def main() -> None:
    """Measure and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="how often each is started (20)")
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {"httpx": [], "p2plb": []}
    for _ in range(runs):
        for module, found in times.items():
            found.append(seconds(module))
    ours, theirs = median(times["p2plb"]), median(times["httpx"])
    print(f"python -c 'import httpx' {theirs * 1000:.0f} ms, 'import p2plb' {ours * 1000:.0f} ms (medians of {runs})")
    print(f"p2plb / httpx {ours / theirs:.2f}")


def seconds(module: str) -> float:
    """Return how long an interpreter takes that imports one module."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
