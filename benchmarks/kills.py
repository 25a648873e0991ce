"""kill -9 at random moments: is what `predict --workers` writes byte for byte what one process writes?

    python benchmarks/kills.py --run runs/spam                       # 50 kills, half of them into one file
    python benchmarks/kills.py --run runs/spam --kills 10 --rows 2000

A job is started with two workers; the parent or one of the workers, chosen at random, is killed after a random time.
A job whose parent was killed is started again by the same command. Each time that a job finishes, its output is
compared with that of one process, and the next begins with nothing. Linux only: the workers are found in /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

PREDICT = (sys.executable, "-c", "from lasttoken.cli.main import main; main()", "predict")
LONGEST_S = 4.0  # from the moment when the workers run to the next kill
EARLY = 0.1  # fraction of the kills that do not wait for the workers
TEXT = "you won a prize call now see me at seven the parcel is held pay the fee to release it"


def write_rows(path: Path, n_rows: int, draw: random.Random) -> None:
    """A CSV file of random texts, some of which contain line ends and commas."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("key,text\n")
        for key in range(n_rows):
            text = " ".join(draw.choices(TEXT.split(), k=draw.randint(3, 30)))
            file.write(f'{key},"{text},\n{key}"\n' if key % 7 == 0 else f"{key},{text}\n")


def workers(pid: int) -> list[int]:
    """The worker processes that a process has started."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return []


def wait_before_kill(parent: subprocess.Popen[str], draw: random.Random) -> None:
    """Wait until the workers have been started, mostly, and then for a random time."""
    is_early = draw.random() < EARLY
    while parent.poll() is None and not is_early and len(workers(parent.pid)) < 2:
        time.sleep(0.05)
    with contextlib.suppress(subprocess.TimeoutExpired):
        parent.wait(draw.uniform(0.05, LONGEST_S))


def same(first: Path, second: Path) -> bool:
    """Whether two files, or two folders of files, are equal."""
    if first.is_file():
        return first.read_bytes() == second.read_bytes()
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second)]
    return contents[0] == contents[1]


def killed(command: list[str], n_kills: int, output: Path, expected: Path, draw: random.Random) -> Counter[str]:
    """Run the command until so many processes have been killed and the last job is finished; what happened."""
    happened: Counter[str] = Counter()
    while True:
        parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while parent.poll() is None and happened["kills"] < n_kills:
            wait_before_kill(parent, draw)
            victim = draw.choice([parent.pid, *workers(parent.pid)])
            if parent.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    happened["kills"] += 1
                    happened["kills of a parent" if victim == parent.pid else "kills of a worker"] += 1
        _, said = parent.communicate()
        if parent.returncode == 0:
            happened["jobs"] += 1
            happened["jobs equal to one process"] += same(output, expected)
            if happened["kills"] >= n_kills:
                return happened
            shutil.rmtree(output) if output.is_dir() else output.unlink()
        elif parent.returncode == 1 and "finished parts stay finished" in said:
            happened["jobs that gave up"] += 1
        elif parent.returncode != -signal.SIGKILL:
            raise SystemExit(f"exit code {parent.returncode}: {said}")
        time.sleep(0.1)


def main() -> None:
    """Kill, restart, compare, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True, help="a finished run; a small one gives more kills a minute")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--part-rows", type=int, default=200)
    parser.add_argument("--kinds", nargs="*", default=["folder", "file"], help="of outputs; the kills are shared out")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="lasttoken-kills-") as name:
        folder = Path(name)
        write_rows(folder / "in.csv", arguments.rows, draw)
        base = [*PREDICT, str(arguments.run), "--input", str(folder / "in.csv"), "--device", "cpu", "--output"]
        for kind in arguments.kinds:
            n_kills = arguments.kills // len(arguments.kinds)
            is_folder = kind == "folder"
            flags = ["--part-rows", str(arguments.part_rows)] if is_folder else []
            outputs = [folder / f"{name}{'' if is_folder else '.csv'}" for name in ("one", "two")]
            commands = [[*base, f"{output}{'/' if is_folder else ''}", *flags] for output in outputs]
            subprocess.run(commands[0], check=True, stderr=subprocess.DEVNULL)
            happened = killed([*commands[1], "--workers", "2"], n_kills, outputs[1], outputs[0], draw)
            print(f"{kind}: " + ", ".join(f"{n} {what}" for what, n in sorted(happened.items())), flush=True)
            if happened["jobs"] != happened["jobs equal to one process"]:
                raise SystemExit(1)


if __name__ == "__main__":
    main()
