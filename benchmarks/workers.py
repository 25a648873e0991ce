"""Are two processes with one thread each faster than one process with two threads? Rows a second, and the ratio.

    python benchmarks/workers.py --run runs/spam --input messages.csv              # quiet, and beside a busy process
    python benchmarks/workers.py --run runs/spam --input messages.csv --rounds 5

Both sides are whole commands that write the same folder of parts, start-up included, and take turns. A command with an
input of two rows is taken beside them, so that the table also states the rate without the start, which means
something where the rows take much longer than the start. `--workers` 2 is
compared with one process with as many threads as the machine has cores. The busy process computes without pause.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from busy import other_jobs, processor
from train import Facts, alternate, median, spread

PREDICT = (sys.executable, "-c", "from lasttoken.cli.main import main; main()", "predict")


def side(run: Path, input: Path, part_rows: int, n_workers: int, output: Path) -> Callable[[], Facts]:
    """A command that scores the input into a new folder."""

    def command() -> Facts:
        shutil.rmtree(output, ignore_errors=True)
        flags = ["--input", str(input), "--output", f"{output}/", "--part-rows", str(part_rows)]
        started = time.perf_counter()
        subprocess.run(
            [*PREDICT, str(run), *flags, "--device", "cpu", "--workers", str(n_workers)],
            check=True,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
        )
        return {"seconds": time.perf_counter() - started}

    return command


def first_rows(input: Path, output: Path, n_rows: int) -> int:
    """The first rows of a CSV file as another; how many there are."""
    with input.open(encoding="utf-8", newline="") as source, output.open("w", encoding="utf-8", newline="") as copy:
        rows = csv.reader(source)
        writer = csv.writer(copy)
        writer.writerow(next(rows))
        written = [writer.writerow(row) for row in islice(rows, n_rows)]
    return len(written)


def main() -> None:
    """Print a row for the quiet machine, and one beside a busy process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True, help="a CSV file")
    parser.add_argument("--rows", type=int, default=20_000, help="at most, from its start")
    parser.add_argument("--part-rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="*", default=[0, 1], help="numbers of busy processes")
    arguments = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores")
    print("| beside | one process | --workers 2 | rows/s | rows/s without the start | ratio | without the start |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="lasttoken-workers-") as name:
        folder = Path(name)
        n_rows = first_rows(arguments.input, folder / "in.csv", arguments.rows)
        first_rows(arguments.input, folder / "start.csv", 2)  # a part for each worker
        sides = [
            side(arguments.run, folder / f"{input}.csv", part_rows, n, folder / f"{input}-{n}")
            for input, part_rows in (("in", arguments.part_rows), ("start", 1))
            for n in (1, 2)
        ]
        for n_jobs in arguments.busy:
            with other_jobs(n_jobs):
                one, two, start_one, start_two = alternate(arguments.rounds, *sides)
            whole = [median(found, "seconds") for found in (one, two)]
            inner = [s - median(start, "seconds") for s, start in zip(whole, (start_one, start_two), strict=True)]
            cells = [
                f"{n_jobs} busy" if n_jobs else "quiet",
                spread(one, "seconds"),
                spread(two, "seconds"),
                " and ".join(f"{n_rows / s:,.0f}" for s in whole),
                " and ".join(f"{n_rows / s:,.0f}" for s in inner),
                f"{whole[0] / whole[1]:.2f}",
                f"{inner[0] / inner[1]:.2f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
