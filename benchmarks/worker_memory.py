"""What the workers of a server share: RSS, PSS and private memory of each, and of the mapped weights, from /proc.

    python benchmarks/worker_memory.py RUN --workers 2

PSS counts a page that n processes share as 1/n in each. The first lines are of a server of one process, which copies
its weights into its own memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PROGRAM = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
KINDS = ("Rss", "Pss", "Private_Dirty", "Shared_Clean")
START_S = 120.0


def kilobytes(text: str) -> dict[str, int]:
    """The sums of the lines of /proc/PID/smaps that `KINDS` names."""
    found = re.findall(rf"^({'|'.join(KINDS)}): +(\d+) kB", text, re.M)
    return {kind: sum(int(number) for name, number in found if name == kind) for kind in KINDS}


def row(name: str, text: str) -> str:
    """A line of the table, in MB."""
    sizes = kilobytes(text)
    return f"| {name} | " + " | ".join(f"{sizes[kind] * 1024 / 1e6:,.0f}" for kind in KINDS) + " |"


def of_weights(smaps: str) -> str:
    """The part of smaps about the mapped weights."""
    regions = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps, flags=re.M)
    return "".join(region for region in regions if "model.safetensors" in region.partition("\n")[0])


def processes(pid: int) -> list[int]:
    """The workers of a server; the server itself, if it has none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return workers or [pid]


def measure(run: Path, n_workers: int) -> None:
    """Start a server, ask it, and print a line for each process."""
    command = [*PROGRAM, "serve", str(run), "--port", "0", "--device", "cpu", "--workers", str(n_workers)]
    with tempfile.NamedTemporaryFile("r") as log, open(log.name, "w") as writing:
        server = subprocess.Popen(command, stderr=writing)
        limit = time.monotonic() + START_S
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", Path(log.name).read_text())):
            if server.poll() is not None or time.monotonic() > limit:
                raise SystemExit(Path(log.name).read_text())
            time.sleep(0.1)
        body = json.dumps({"texts": ["win a prize now " * 10] * 8}).encode()
        for _ in range(6 * n_workers):
            time.sleep(0.2)
            request = urllib.request.Request(f"{found[0]}classify", body, {"content-type": "application/json"})
            with contextlib.suppress(urllib.error.URLError):  # one process prints its address just before it listens
                urllib.request.urlopen(request).close()
        for number, pid in enumerate(processes(server.pid)):
            smaps = Path(f"/proc/{pid}/smaps").read_text("utf-8", "replace")
            print(row(f"{n_workers} workers, worker {number}" if n_workers > 1 else "one process", smaps))
            print(row("its mapped weights", of_weights(smaps)))
        server.terminate()
        server.wait(60)


def main() -> None:
    """One process, then several workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    print(f"| MB | {' | '.join(KINDS)} |\n|---{'|---' * len(KINDS)}|")
    for n_workers in (1, args.workers):
        measure(args.run, n_workers)


if __name__ == "__main__":
    main()
