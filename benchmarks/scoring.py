"""A file of many short texts scored by `lasttoken predict` and by transformers' pipeline, whole processes in turn.

    python benchmarks/scoring.py RUN SMSSpamCollection --rows 100000 --times 1
    python benchmarks/scoring.py RUN SMSSpamCollection --rows 10000 --rows 1000000 --memory
    python benchmarks/scoring.py RUN SMSSpamCollection --one 100

Rows are the messages of a file again and again, each with its number in front, so that no two are equal. The pipeline
has the same weights (a run's folder is one that transformers reads; the head's bias has no place there), and the batch
size that is quickest on some of the texts; that search is not counted. Both sides write a CSV of label and score.
With --memory only `lasttoken predict` runs, and its peak memory is told. int8 flips are counted against float32.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from lasttoken.core.columns import SPLIT_COLUMNS
from lasttoken.data.files import read_examples

HERE = Path(__file__).parent
PROGRAM = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
SOME = 2000  # texts on which the pipeline's batch size is chosen


def write_rows(data: Path, n: int, path: Path, words: int | None = None) -> Path:
    """n rows made of the file's messages, or of the first words of each."""
    texts = [" ".join(text.split()[:words]) for text in read_examples(data, SPLIT_COLUMNS, labelled=False).texts]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "text"])
        writer.writerows((at, f"{at} {text}") for at, text in enumerate(islice(cycle(texts), n)))
    return path


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak MB of a process that must end well."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors.decode())
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit


def ours(run: Path, rows: Path, output: Path, precision: str) -> list[str]:
    """The command."""
    return [
        *PROGRAM,
        "predict",
        str(run),
        "--input",
        str(rows),
        "--output",
        str(output),
        "--text",
        "text",
        "--precision",
        precision,
    ]


def labels_in(path: Path) -> list[str]:
    """The labels of a scored file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row["predicted_label"] for row in csv.DictReader(file)]


def memory(run: Path, data: Path, sizes: list[int], folder: Path, words: int | None) -> None:
    """Print the peak memory at each size; each in a process of its own, which tells its children's peak."""
    print("| rows | seconds | peak, MB |\n|---|---|---|")
    for n in sizes:
        rows = write_rows(data, n, folder / "rows.csv", words)
        command = ours(run, rows, folder / "out.csv", "float32")
        code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import scoring; print(*scoring.timed({command!r}))"
        seconds, peak = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.split()
        print(f"| {n:,} | {float(seconds):.1f} | {float(peak):.0f} |", flush=True)


def speed(run: Path, data: Path, n: int, times: int, folder: Path) -> None:
    """Print seconds and ratios, the pipeline first."""
    rows = write_rows(data, n, folder / "rows.csv")
    some = folder / "some.json"
    some.write_text(json.dumps(read_examples(rows, SPLIT_COLUMNS, labelled=False).texts[:SOME]), "utf-8")
    peer = [sys.executable, str(HERE / "peer.py")]
    found = subprocess.run(
        [*peer, "score", "--run", str(run), "--texts", str(some), "--some", str(min(SOME, 500))],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    best = str(json.loads(found.stdout)["batch_size"])
    files = ["--run", str(run), "--input", str(rows), "--output", str(folder / "peer.csv")]
    sides = {
        f"transformers pipeline, batches of {best}": [*peer, "score-file", *files, "--batch-size", best],
        "lasttoken, float32": ours(run, rows, folder / "float32.csv", "float32"),
        "lasttoken, int8": ours(run, rows, folder / "int8.csv", "int8"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(times):
        for name, command in sides.items():
            seconds[name].append(timed(command)[0])
    first = median(next(iter(seconds.values())))
    print(f"{n:,} texts, {os.cpu_count()} {platform.machine()} cores, medians of {times}\n")
    print("| what | seconds | texts/s | times faster |\n|---|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {median(values):.1f} | {n / median(values):,.0f} | {first / median(values):.2f} |")
    a, b = labels_in(folder / "float32.csv"), labels_in(folder / "int8.csv")
    flips = sum(one != other for one, other in zip(a, b, strict=True))
    print(f"\nint8 against float32: {flips:,} of {n:,} labels differ ({flips / n:.3%})")


def one_text(run: Path, data: Path, n: int) -> None:
    """Print the median milliseconds of a single text, the three sides in turn in one process."""
    from peer import pipeline_of

    from lasttoken.classifier.predict import Predictor
    from lasttoken.core.process import tune_cpu

    tune_cpu()
    classify = pipeline_of(run)
    predictors = {name: Predictor.load(run, "cpu", name) for name in ("float32", "int8")}
    sides: dict[str, Callable[[str], object]] = {
        "transformers pipeline": lambda text: classify(text, truncation=True),
        "lasttoken, float32": lambda text: predictors["float32"].predict([text]),
        "lasttoken, int8": lambda text: predictors["int8"].predict([text]),
    }
    texts = read_examples(data, SPLIT_COLUMNS, labelled=False).texts[: n + 5]
    found: dict[str, list[float]] = {name: [] for name in sides}
    for text in texts:
        for name, side in sides.items():
            started = time.perf_counter()
            side(text)
            found[name].append(time.perf_counter() - started)
    first = median(found["transformers pipeline"][5:])
    print("| one text | median, ms | times faster |\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {1000 * median(values[5:]):.1f} | {first / median(values[5:]):.2f} |")


def main() -> None:
    """Speed, or memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path, help="a file with a column text, or label<TAB>text")
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", type=int, help="time so many single texts instead, in one process")
    parser.add_argument("--words", type=int, help="with --memory: only the first words of each message, to save time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.one:
            one_text(args.run, args.data, args.one)
        elif args.memory:
            memory(args.run, args.data, args.rows or [10_000, 1_000_000], Path(folder), args.words)
        else:
            for n in args.rows or [100_000]:
                speed(args.run, args.data, n, args.times, Path(folder))


if __name__ == "__main__":
    main()
