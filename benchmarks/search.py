"""A search against one default training on the same file: time, and what the search found.

    python benchmarks/search.py trec/ --trials 40 -- --precision bfloat16

Each is a whole command in a process of its own with an empty cache, the default training first; flags behind -- are
passed on to both. Prints a line of a Markdown table: seconds of both, of the clock and of the processor, their ratios,
how the trials ended, which settings were kept, and the paired difference on the test rows where these are the ones that
were found. On a machine that is busy with something else, the processor's seconds are the ones to read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Run both, and print the table."""
    own, passed_on = _divided(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args(own)
    times = ["train, s", "search, s", "ratio", "train, CPU s", "search, CPU s", "ratio"]
    names = ["seed", *times, "trials", "pruned", "failed", "kept", "result"]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    for seed in range(arguments.seeds):
        flags = ["--seed", str(seed), *passed_on]
        with tempfile.TemporaryDirectory() as folder:
            alone, _ = _timed("train", arguments.data, Path(folder) / "a", flags)
            whole, metrics = _timed(
                "search", arguments.data, Path(folder) / "b", ["--trials", str(arguments.trials), *flags]
            )
        print(_line(seed, alone, whole, metrics["search"]), flush=True)


def _divided(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _timed(command: str, data: Path, folder: Path, flags: list[str]) -> tuple[tuple[float, float], dict[str, Any]]:
    """The seconds of a command with an empty cache, by the clock and of the processor; and the metrics of its run."""
    folder.mkdir()
    program = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
    started, before = time.monotonic(), _processor_seconds()
    done = subprocess.run(
        [*program, command, str(data), "--out", str(folder / "run"), "--quiet", *flags],
        env={**os.environ, "LASTTOKEN_CACHE": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    seconds = (time.monotonic() - started, _processor_seconds() - before)
    if done.returncode:
        raise SystemExit(f"{command} ended with exit code {done.returncode}")
    return seconds, json.loads((folder / "run" / "metrics.json").read_text("utf-8"))


def _processor_seconds() -> float:
    """What all processes that have ended used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _line(seed: int, alone: tuple[float, float], whole: tuple[float, float], record: dict[str, Any]) -> str:
    cells: list[object] = [seed]
    for before, after in zip(alone, whole, strict=True):
        cells += [f"{before:.0f}", f"{after:.0f}", f"{after / before:.2f}"]
    cells += [record["n_trials"], record["n_pruned"], record["n_failed"], record["kept"]]
    return f"| {' | '.join(map(str, cells))} | {record['sentence']}; {record['evidence']} |"


if __name__ == "__main__":
    main()
