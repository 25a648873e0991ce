"""How much memory do many rows and long texts take, and what happens when the features do not fit the cache?

    OMP_NUM_THREADS=1 python benchmarks/memory.py million-rows
    OMP_NUM_THREADS=1 python benchmarks/memory.py long-texts
    OMP_NUM_THREADS=1 python benchmarks/memory.py large-backbone --backbone FOLDER
    OMP_NUM_THREADS=1 python benchmarks/memory.py all-blocks --backbone FOLDER
    OMP_NUM_THREADS=1 python benchmarks/memory.py kept --backbone FOLDER

`million-rows` makes CSV files of 100,000 and 1,000,000 messages, some of them repeated, and runs `lasttoken split`.
`long-texts` makes 50,000 texts of 300 tokens and a small random backbone, and runs `lasttoken train` with room for all
features in the cache (once another run's have gone), with room for those of train alone, and with room for no
large split; metrics and weights are compared.
`large-backbone` runs `lasttoken train` with a folder of random_backbone.py, and compares the peak with its file.
`all-blocks` trains all blocks of such a folder for two steps of 8 texts of 512 tokens, with activations kept and with
activations computed again, each in a process of its own, and compares losses and peaks.
`kept` compares what two blocks keep for the backward pass with what is estimated from the sizes of their layers.
Every command runs in a process of its own, with an empty cache, in a temporary folder. `--rows` makes either smaller.

Memory is read from the kernel (Linux): `peak` is the process's largest resident set; `own` is the part of it that no
file backs, read every 50 ms. What is between them are libraries and memory-mapped features, which the kernel takes
back when it needs the room.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

Row = tuple[str, str]  # text, label

WIDTH, BLOCKS, HEADS, POSITIONS = 64, 3, 4, 512  # of the random backbone; two blocks are the trunk, one trains
TOKENS = 300  # of a long text, at least
DISTURB = """
import torch
from lasttoken.training import features
exact = features.StoredFeatures.batch
def batch(self, rows):
    block, packing = exact(self, rows)
    return torch.nextafter(block, torch.where(torch.rand_like(block) < 0.5, torch.inf, -torch.inf)), packing
features.StoredFeatures.batch = batch
"""  # moves every feature to a float32 beside it: what rounding alone does to a training


@dataclass(frozen=True)
class Finished:
    """A command that has ended well."""

    seconds: float
    cpu_s: float  # user and system; what other work on the machine and a slow disk do not lengthen much
    peak_bytes: int
    own_bytes: int
    said: list[str]  # lines on stderr


def run(arguments: list[str], cache: Path, before: str = "") -> Finished:
    """Run `lasttoken` and watch its memory; `before` is Python that runs first."""
    started, own = time.perf_counter(), 0
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as reporter:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{before}\nfrom lasttoken.cli.main import main; main()", *arguments],
            stdout=output, stderr=reporter, env={**os.environ, "LASTTOKEN_CACHE": str(cache)},
        )  # fmt: skip
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            own = max(own, own_bytes(process.pid))
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        reporter.seek(0)
        said = reporter.read().decode()
    if process.returncode:
        sys.exit(f"lasttoken {' '.join(arguments)} ended with {process.returncode}:\n{said}")
    used = ended[2]
    seconds, cpu_s = time.perf_counter() - started, used.ru_utime + used.ru_stime
    return Finished(seconds, cpu_s, used.ru_maxrss * 1024, own, said.splitlines())


def own_bytes(pid: int) -> int:
    """The resident memory of a process that no file backs; 0 when it has just ended."""
    return status_bytes(str(pid), "RssAnon")


def status_bytes(process: str, name: str) -> int:
    """A size that the kernel reports of a process; 0 when it has just ended."""
    status = Path(f"/proc/{process}/status").read_text()
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name)), 0)


def show(*cells: str) -> None:
    """A line of the table."""
    print(*cells, sep="\t", flush=True)


def mb(n_bytes: int) -> str:
    """Bytes as megabytes."""
    return f"{n_bytes / 1e6:,.0f}"


def messages() -> list[Row]:
    """The bundled messages."""
    with (
        resources.as_file(resources.files("lasttoken") / "demo" / "messages.csv") as path,
        path.open(encoding="utf-8", newline="") as file,
    ):
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """A CSV file with the columns text and label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)


# A million rows ---------------------------------------------------------------------------------------------------


def short_rows(n_rows: int) -> Iterator[Row]:
    """Messages with a number each; about one row in seventeen repeats the text of another."""
    draw, known = random.Random(0), messages()
    for _ in range(n_rows):
        text, label = draw.choice(known)
        yield f"{text} {draw.randrange(max(n_rows // 50, 1))}", label


def million_rows(folder: Path, n_rows: int) -> None:
    """Split files of a tenth of the rows and of all of them."""
    show("rows", "file MB", "seconds", "CPU s", "peak MB", "own MB", "said")
    for n in (n_rows // 10, n_rows):
        path = folder / f"{n}.csv"
        write_rows(path, short_rows(n))
        done = run(["split", str(path), "--out", str(folder / f"splits-{n}")], folder / "cache")
        said = [line for line in done.said if "repeat" in line]
        show(f"{n:,}", mb(path.stat().st_size), f"{done.seconds:.1f}", f"{done.cpu_s:.1f}", mb(done.peak_bytes),
             mb(done.own_bytes), *said)  # fmt: skip


# Long texts -------------------------------------------------------------------------------------------------------


def long_rows(n_rows: int, n_tokens_of: Callable[[str], int]) -> Iterator[Row]:
    """Texts of whole messages, at least TOKENS tokens, five of six of the text's label."""
    draw, known = random.Random(0), messages()
    pieces = {
        label: [(text, n_tokens_of(f" {text}")) for text, other in known if other == label] for label in ("ham", "spam")
    }
    everything = [*pieces["ham"], *pieces["spam"]]
    for _ in range(n_rows):
        label, n_tokens, chosen = draw.choice(("ham", "spam")), 0, []
        while n_tokens < TOKENS:
            text, n = draw.choice(pieces[label] if draw.random() < 2 / 3 else everything)
            chosen.append(text)
            n_tokens += n
        yield " ".join(chosen), label


def write_backbone(folder: Path) -> None:
    """A random GPT with the bundled tokenizer."""
    from safetensors.torch import save_file  # here and below: a parent's size is the least its child's peak can be

    from lasttoken.backbone.gpt2.family import to_published, write_config
    from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
    from lasttoken.backbone.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "pocket")
    config = GPT2Config(tokenizer.n_tokens, POSITIONS, WIDTH, BLOCKS, HEADS)
    folder.mkdir()
    save_file(to_published(GPT2(config).init_weights(0).state_dict()), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(write_config(config)), "utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")


def largest_difference(one: Path, other: Path) -> float:
    """Of any two numbers in the same place of two runs' weights."""
    from safetensors.torch import load_file

    ours, theirs = (load_file(path / "model.safetensors") for path in (one, other))
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def long_texts(folder: Path, n_rows: int) -> None:
    """Train with room in the cache for all features, for those of train alone, and for those of no large split.

    The first cache holds the features of another run, which have to go. A control moves the last bits of the features.
    """
    from lasttoken.backbone.tokenizer import Tokenizer

    backbone, data, other = folder / "backbone", folder / "long.csv", folder / "other.csv"
    write_backbone(backbone)
    tokenizer = Tokenizer.load(backbone)
    rows = list(long_rows(n_rows, lambda text: len(tokenizer.encode(text))))
    write_rows(data, rows)
    write_rows(other, rows[: n_rows // 10])
    n_tokens = sum(len(tokenizer.encode(text)) for text, _ in rows)
    del rows
    features = n_tokens * WIDTH * 4
    print(f"{n_rows:,} texts, {n_tokens / n_rows:.0f} tokens each, {features:,} bytes of features\n")
    show("run", "limit MB", "cache before MB", "after MB", "trunk s", "tail s", "all s", "CPU s", "peak MB", "own MB",
         "test accuracy", "loss", "largest difference of a weight")  # fmt: skip
    said = []
    plan = (
        ("other", other, 1.02, "cache", ""),
        ("all kept", data, 1.02, "cache", ""),
        ("last bits moved", data, 1.02, "cache", DISTURB),
        ("train kept", data, 0.75, "cache-train", ""),
        ("none kept", data, 0.05, "cache-none", ""),
    )
    for name, file, part, cache, first in plan:
        limit, out, place = int(part * features), folder / name.replace(" ", "-"), folder / cache
        before = held_bytes(place)
        done = run(
            ["train", str(file), "--backbone", str(backbone), "--epochs", "1", "--train-blocks", "1",
             "--learning-rate", "1e-3", "--cache-limit", str(limit), "--out", str(out)],
            place, first,
        )  # fmt: skip
        metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text("utf-8"))
        test, seconds = metrics["splits"]["test"], metrics["timing_s"]
        difference = "" if file == other else f"{largest_difference(folder / 'all-kept', out):.1e}"
        show(name, mb(limit), mb(before), mb(held_bytes(place)), f"{seconds['trunk']:.0f}", f"{seconds['tail']:.0f}",
             f"{done.seconds:.0f}", f"{done.cpu_s:.0f}", mb(done.peak_bytes), mb(done.own_bytes),
             f"{test['accuracy']:.4f}", f"{test['loss']:.7f}", difference)  # fmt: skip
        said += [f"{name}: {line}" for line in done.said if "features" in line]
    print("", *said, sep="\n")


def held_bytes(cache: Path) -> int:
    """What the features in a cache fill."""
    return sum(path.stat().st_size for path in cache.glob("features/*/features.bin"))


# A large backbone in 16 bits -----------------------------------------------------------------------------------------


def large_backbone(folder: Path, n_rows: int, backbone: Path) -> None:
    """Train the last block of a backbone whose file is as large as the memory that it may take."""
    data = folder / "messages.csv"
    write_rows(data, random.Random(0).sample(messages(), n_rows))
    show("file MB", "seconds", "CPU s", "peak MB", "own MB", "peak / file")
    done = run(
        ["train", str(data), "--backbone", str(backbone), "--epochs", "1", "--train-blocks", "1",
         "--max-length", "32", "--out", str(folder / "run")],
        folder / "cache",
    )  # fmt: skip
    file_bytes = (backbone / "model.safetensors").stat().st_size
    show(mb(file_bytes), f"{done.seconds:.0f}", f"{done.cpu_s:.0f}", mb(done.peak_bytes), mb(done.own_bytes),
         f"{done.peak_bytes / file_bytes:.2f}")  # fmt: skip


# Training all blocks ---------------------------------------------------------------------------------------------


def random_texts(n_rows: int, shortest: int) -> Any:
    """Texts of random tokens, of `shortest` to POSITIONS each."""
    import numpy as np

    from lasttoken.classifier.encoding import Encoded

    draw = np.random.default_rng(0)
    lengths = draw.integers(shortest, POSITIONS + 1, n_rows)
    return Encoded(draw.integers(0, 4000, lengths.sum()).astype(np.int32), lengths, np.zeros(n_rows, dtype=np.bool_), 0)


def whole_classifier(backbone: Path, depth: int | None, read: str) -> Any:
    """A classifier of which all blocks train."""
    from lasttoken.backbone.pretrained import load_backbone
    from lasttoken.classifier.classifier import Classifier, ClassifierConfig

    config = ClassifierConfig(
        labels=("ham", "spam"), read=read, causal_mask=True, max_length=POSITIONS, truncate="tail", train_blocks="all",
        end_of_text_id=0, backbone=str(backbone),
    )  # fmt: skip
    return Classifier(load_backbone(str(backbone), True, depth).decoder, config, 1)


def train_all_blocks(backbone: Path, checkpoints: bool, depth: int | None, precision: str) -> None:
    """Train in this process, and print its losses, resident memory before training, its peak and the seconds."""
    import numpy as np

    from lasttoken.core.device import pick_device
    from lasttoken.core.process import tune_cpu
    from lasttoken.core.resolve import resolve
    from lasttoken.training.features import TrunkPass
    from lasttoken.training.loop import Hooks, Trainer, TrainingInputs
    from lasttoken.training.split_features import SplitFeatures

    tune_cpu()
    device, classifier = pick_device("cpu", precision), whole_classifier(backbone, depth, "last")
    classifier.checkpoints_activations = checkpoints
    trunk = TrunkPass(classifier, device, cache=None, say=print)
    splits = {
        name: SplitFeatures(trunk.source(random_texts(n, POSITIONS), name), np.arange(n) % 2)
        for name, n in (("train", 16), ("validation", 2))
    }
    settings = resolve("default", {
        "train_blocks": "all", "epochs": 1, "batch_size": 8, "keep": "last", "learning_rate": 1e-5, "read": "last",
    })  # fmt: skip
    losses: list[str] = []
    hooks = Hooks(on_step=lambda state: losses.append(state.loss_sum.hex()))
    loaded, started, cpu = status_bytes("self", "VmRSS"), time.perf_counter(), time.process_time()
    Trainer(classifier, TrainingInputs(splits, settings, device), hooks, evaluates=False).run()
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    peak = status_bytes("self", "VmHWM")
    print(json.dumps({"losses": losses, "loaded": loaded, "peak": peak, "seconds": seconds, "cpu_s": cpu_s}))


def all_blocks(backbone: Path) -> None:
    """The peak of a process that trains all blocks, and of it what is above the loaded model."""
    done = {}
    show("activations", "seconds", "CPU s", "loaded MB", "peak MB", "above MB")
    for activations in ("kept", "computed again"):
        command = [sys.executable, __file__, "train-all-blocks", "--backbone", str(backbone)]
        if activations != "kept":
            command.append("--checkpoints")
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        done[activations] = each = json.loads(output)
        show(activations, f"{each['seconds']:.0f}", f"{each['cpu_s']:.0f}", mb(each["loaded"]), mb(each["peak"]),
             mb(each["peak"] - each["loaded"]))  # fmt: skip
    kept, again = done.values()
    above = (again["peak"] - again["loaded"]) / (kept["peak"] - kept["loaded"])
    same = "the same" if kept["losses"] == again["losses"] else "DIFFERENT"
    print(f"\npeak {again['peak'] / kept['peak']:.2f}, above the loaded model {above:.2f}; losses bit for bit {same}")


def kept(backbone: Path) -> None:
    """What autograd keeps of two blocks, beside what training/activations.py estimates."""
    import torch

    from lasttoken.core.device import CPU, Device
    from lasttoken.training.activations import activation_bytes

    show("precision", "texts", "kept MB", "estimated MB", "estimated / kept")
    classifier = whole_classifier(backbone, 2, "mean")
    parameters = {parameter.untyped_storage().data_ptr() for parameter in classifier.parameters()}
    for device, shortest in ((CPU, POSITIONS), (CPU, 64), (Device(torch.device("cpu"), "bfloat16"), POSITIONS)):
        storages: dict[int, int] = {}
        texts = random_texts(8, shortest)

        def keep(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        token_ids, packing = texts.pack(range(8), "cpu")
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), device.autocast():
            logits = classifier.tail(token_ids, packing)
        n_bytes = sum(size for place, size in storages.items() if place not in parameters)
        estimated = activation_bytes(classifier, texts.n_tokens)
        show(device.precision, f"{shortest} to {POSITIONS} tokens", mb(n_bytes), mb(estimated),
             f"{estimated / n_bytes:.2f}")  # fmt: skip
        del logits


def main() -> None:
    """Run one of them in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("long-texts", "million-rows", "large-backbone", "all-blocks", "train-all-blocks", "kept")
    parser.add_argument("what", choices=names)
    parser.add_argument("--rows", type=int, help="default: 50,000 long texts, 1,000,000 short ones, 40")
    parser.add_argument("--backbone", type=Path, help="a folder that random_backbone.py wrote")
    parser.add_argument("--checkpoints", action="store_true", help="of train-all-blocks: compute activations again")
    parser.add_argument("--depth", type=int, help="of train-all-blocks: blocks of the backbone that are used")
    parser.add_argument("--precision", default="float32", help="of train-all-blocks")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "all-blocks":
            all_blocks(arguments.backbone)
        elif arguments.what == "train-all-blocks":
            train_all_blocks(arguments.backbone, arguments.checkpoints, arguments.depth, arguments.precision)
        elif arguments.what == "kept":
            kept(arguments.backbone)
        elif arguments.what == "large-backbone":
            large_backbone(Path(folder), arguments.rows or 40, arguments.backbone)
        elif arguments.what == "million-rows":
            million_rows(Path(folder), arguments.rows or 1_000_000)
        else:
            long_texts(Path(folder), arguments.rows or 50_000)


if __name__ == "__main__":
    main()
