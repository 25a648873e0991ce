"""How fast is it, beside transformers, in the same run? Prints a table of ratios; see benchmarks/*-speed.md.

    python benchmarks/train.py --quick --backbone RANDOM --data SMSSpamCollection            # under five minutes
    python benchmarks/train.py --only fine-tune cached int8 --backbone RANDOM --data …       # some rows, in full

RANDOM is GPT-2's 124M shape (python benchmarks/random_backbone.py --tokenizer FOLDER --out RANDOM). Each side runs in
a process of its own; the sides alternate, --rounds times, and medians are compared. Ours is the program itself,
`lasttoken train`, of which load, encode, trunk, tail and the final evaluation count; the peer (benchmarks/peer.py) is
timed on --steps real steps and 20 real evaluation batches, scaled to the whole. The baselines, the curves and the
report, which the peer does not have, are left out of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
HERE = Path(__file__).parent
PROGRAM = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
COUNTED = ("load", "encode", "trunk", "tail", "evaluate")  # of a run's timing_s


class Bench:
    """The sides, and where they leave things."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        self.arguments, self.work = arguments, work

    def ours(self, *flags: str, out: str, cached: bool = False) -> Facts:
        """One `lasttoken train` in chapter 6's recipe; `cached`: it finds the features of the one before."""
        command = [
            *PROGRAM, "train", str(self.arguments.data), "--recipe", "book", "--overwrite",
            "--backbone", str(self.arguments.backbone), "--out", str(self.work / out), "--quiet",
            "--device", "cpu", *flags,
        ]  # fmt: skip
        if not cached:
            shutil.rmtree(self.work / "cache", ignore_errors=True)
        environment = {**os.environ, "LASTTOKEN_CACHE": str(self.work / "cache")}
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        timing = json.loads((self.work / out / "metrics.json").read_text("utf-8"))["timing_s"]
        return {
            "whole_s": sum(timing[part] for part in COUNTED),
            "process_s": time.perf_counter() - started,
            "peak_bytes": usage.ru_maxrss * 1024,
            **{f"{part}_s": timing[part] for part in COUNTED},
        }

    def peer(self, verb: str, *flags: str) -> Facts:
        """One run of the peer."""
        command = [sys.executable, str(HERE / "peer.py"), verb, *flags]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        return json.loads(found.strip().splitlines()[-1])  # type: ignore[no-any-return]

    def peer_finetune(self, pad: str, train: str = "last") -> Facts:
        """transformers' fine-tuning, padded to the batch or to a length."""
        flags = ["--backbone", str(self.arguments.backbone), "--data", str(self.arguments.data)]
        return self.peer("finetune", *flags, "--pad", pad, "--train", train, "--steps", str(self.arguments.steps))

    def tell(self, what: str, against: str, ratio: float, wanted: str, detail: str) -> None:
        """A row of the table, printed when it is there."""
        print(f"| {what} | {against} | {ratio:.2f}× | {wanted} | {detail} |", flush=True)


def median(found: Sequence[Facts], name: str) -> float:
    """The median of a figure."""
    return statistics.median(float(facts[name]) for facts in found)


def spread(found: Sequence[Facts], name: str) -> str:
    """A figure as median (smallest to largest)."""
    values = [float(facts[name]) for facts in found]
    return f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


def alternate(rounds: int, *sides: Callable[[], Facts]) -> list[list[Facts]]:
    """Every side in turn, `rounds` times."""
    found: list[list[Facts]] = [[] for _ in sides]
    for _ in range(rounds):
        for place, side in enumerate(sides):
            found[place].append(side())
    return found


# ---------------------------------------------------------------------- rows of the table


def fine_tunings(bench: Bench) -> None:
    """Float32, cached and int8 against transformers padded to the batch; float32 and padded against the book's loop."""
    last = ("--read", "last")
    sides: list[Callable[[], Facts]] = [
        lambda: bench.ours(*last, "--precision", "float32", out="float32"),
        lambda: bench.ours(*last, "--precision", "float32", out="cached", cached=True),
        lambda: bench.ours(*last, "--precision", "int8", out="int8"),
        lambda: bench.peer_finetune("batch"),
        lambda: bench.peer_finetune("120"),
    ]
    if not bench.arguments.quick:
        sides.append(lambda: bench.ours("--precision", "float32", out="padded"))
    float32, cached, int8, batch, book, *padded = alternate(bench.arguments.rounds, *sides)
    peer, loop = median(batch, "whole_s"), median(book, "whole_s")
    of_peer = f"transformers {spread(batch, 'whole_s')}, {1000 * median(batch, 'step_s'):.0f} ms a step"
    rows = (("float32", float32, "≥ 7"), ("cached trunk", cached, "≥ 12"), ("int8 trunk", int8, "≥ 10"))
    for name, found, wanted in rows:
        parts = ", ".join(f"{part} {median(found, part + '_s'):.1f}" for part in COUNTED)
        bench.tell(
            f"fine-tune, {name}", "transformers, padded to the batch", peer / median(found, "whole_s"), wanted,
            f"{spread(found, 'whole_s')}: {parts}; {of_peer}",
        )  # fmt: skip
    of_loop = f"the loop {spread(book, 'whole_s')}, {1000 * median(book, 'step_s'):.0f} ms a step"
    against_loop = (("float32", float32, "≥ 15"), *(("float32, `--read padded-last`", each, "≥ 4") for each in padded))
    for name, found, wanted in against_loop:
        bench.tell(
            f"fine-tune, {name}", "the book's loop, padded to 120", loop / median(found, "whole_s"), wanted,
            f"{spread(found, 'whole_s')}; {of_loop}",
        )  # fmt: skip
    flags = ["--backbone", str(bench.arguments.backbone), "--data", str(bench.arguments.data)]
    whole, theirs = median(float32, "peak_bytes"), median(batch, "peak_bytes")
    ours = float(inside("memory", *flags)["peak_bytes"])
    bench.tell(
        "peak memory of the fine-tune", "transformers, padded to the batch", ours / theirs, "≤ 1",
        f"{ours / 1e9:.2f} GB to the final evaluation against {theirs / 1e9:.2f} GB; {whole / 1e9:.2f} GB with "
        "baselines and report, which the peer does not make",
    )  # fmt: skip


def whole_network(bench: Bench) -> None:
    """All blocks trained: a step of ours on packed texts against a padded one."""
    flags = ["--backbone", str(bench.arguments.backbone), "--data", str(bench.arguments.data)]
    steps = str(bench.arguments.steps)
    ours, peer = alternate(
        bench.arguments.rounds,
        lambda: inside("all", *flags, "--steps", steps),
        lambda: bench.peer(
            "finetune", *flags, "--pad", "batch", "--train", "all", "--steps", steps, "--evaluations", "0"
        ),
    )
    bench.tell(
        "all blocks trained, a step", "transformers, padded to the batch",
        median(peer, "step_s") / median(ours, "step_s"), "≥ 1.5",
        f"{1000 * median(ours, 'step_s'):.0f} against {1000 * median(peer, 'step_s'):.0f} ms",
    )  # fmt: skip


def kernels(bench: Bench) -> None:
    """The tail's step against its floor, the trunk against a matrix product."""
    flags = ["--backbone", str(bench.arguments.backbone), "--data", str(bench.arguments.data)]
    (found,) = alternate(bench.arguments.rounds, lambda: inside("kernels", *flags))
    ratio = statistics.median(facts["step_s"] / facts["floor_s"] for facts in found)
    bench.tell(
        "tail step of 8 texts", "its floor", ratio, "≤ 1.4",
        f"{1000 * median(found, 'step_s'):.1f} ms; floor {1000 * median(found, 'floor_s'):.1f} ms = products "
        f"{1000 * median(found, 'products_s'):.1f} + the parameters' traffic {1000 * median(found, 'traffic_s'):.1f} "
        f"at {median(found, 'bytes_per_s') / 1e9:.0f} GB/s",
    )  # fmt: skip
    for name, key in (("`a @ b`", "plain_flops"), ("oneDNN's, the quicker one", "best_flops")):
        ratio = statistics.median(facts["trunk_flops"] / facts[key] for facts in found)
        bench.tell(
            "trunk, GFLOP/s", f"a plain product: {name}", ratio, "≥ 0.85" if key == "plain_flops" else "—",
            f"{median(found, 'trunk_flops') / 1e9:.0f} against {median(found, key) / 1e9:.0f}",
        )  # fmt: skip


def scoring(bench: Bench) -> None:
    """Texts scored by Predictor and by the pipeline, both on the run that was trained."""
    from lasttoken.data.book import book_splits

    run = bench.work / "float32"
    if not run.is_dir():
        bench.ours("--read", "last", "--epochs", "1", out="float32")
    splits, _ = book_splits(bench.arguments.data)
    texts = [text for examples in splits.named().values() for text in examples.texts][: bench.arguments.texts]
    path = bench.work / "texts.json"
    path.write_text(json.dumps(texts), "utf-8")
    quick = ("--batch-size", "2") if bench.arguments.quick else ()
    best = str(bench.peer("score", "--run", str(run), "--texts", str(path), *quick)["batch_size"])
    ours, peer = alternate(
        bench.arguments.rounds,
        lambda: inside("score", "--run", str(run), "--texts", str(path)),
        lambda: bench.peer("score", "--run", str(run), "--texts", str(path), "--some", "8", "--batch-size", best),
    )
    same = sum(a == b for a, b in zip(ours[0]["labels"], peer[0]["labels"], strict=True))
    bench.tell(
        f"score {len(texts):,} texts", f"transformers pipeline, batches of {best}, its best",
        median(ours, "texts_per_s") / median(peer, "texts_per_s"), "≥ 2",
        f"{median(ours, 'texts_per_s'):.0f} against {median(peer, 'texts_per_s'):.0f} texts/s; {same:,} same labels",
    )  # fmt: skip


def start_up(bench: Bench) -> None:
    """Whole processes: --help, and one text with the bundled backbone."""
    run = bench.work / "demo"
    demo = [*PROGRAM, "demo", "--out", str(run), "--overwrite", "--quiet"]
    subprocess.run(demo, check=True, stdout=subprocess.DEVNULL)
    for what, command, wanted in (
        ("`lasttoken --help`", [*PROGRAM, "--help"], "< 0.5 s"),
        ("`lasttoken predict RUN TEXT`, bundled", [*PROGRAM, "predict", str(run), "You won $1000!"], "< 3 s"),
    ):
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f} s"
        print(f"| {what} | — | {statistics.median(seconds):.2f} s | {wanted} | {spread} |", flush=True)


def inside(what: str, *flags: str) -> Facts:
    """benchmarks/inside.py in a process of its own."""
    command = [sys.executable, str(HERE / "inside.py"), what, *flags]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(found.strip().splitlines()[-1])  # type: ignore[no-any-return]


ROWS: dict[str, Callable[[Bench], None]] = {
    "fine-tune": fine_tunings,
    "all": whole_network,
    "kernels": kernels,
    "score": scoring,
    "start-up": start_up,
}


def main() -> None:
    """Measure the rows asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the file SMSSpamCollection")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50, help="steps of the peer that are timed and scaled")
    parser.add_argument("--texts", type=int, default=1000, help="texts to score")
    parser.add_argument("--quick", action="store_true", help="one round, 8 steps, 60 texts, not padded: roughly")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.steps, arguments.texts = 1, 8, 60
    print("| what | against | ratio | wanted | medians |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="lasttoken-bench-") as folder:
        bench = Bench(arguments, Path(folder))
        for name in arguments.only:
            ROWS[name](bench)


if __name__ == "__main__":
    main()
