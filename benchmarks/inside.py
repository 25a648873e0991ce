"""What is measured inside a process of ours; prints one line of JSON. Called by benchmarks/train.py.

    python benchmarks/inside.py kernels --backbone FOLDER --data SMSSpamCollection
    python benchmarks/inside.py all --backbone FOLDER --data SMSSpamCollection --steps 50
    python benchmarks/inside.py score --run RUN --texts FILE.json

The floor of a tail's step of 8 texts is what cannot be left out: every product of its forward and backward pass, each
by the quicker of torch's two libraries, alone and with everything in the caches; and the traffic of the parameters,
which do not fit there: read forward and backward, their gradient written, and in AdamW parameter, gradient and two
moments read and three of them written, ten times their bytes, at the bandwidth of a plain addition of arrays as long.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F

from lasttoken.backbone.onednn import has_onednn
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier.predict import Predictor
from lasttoken.core.device import CPU
from lasttoken.core.process import tune_cpu
from lasttoken.core.resolve import resolve
from lasttoken.data.book import book_splits
from lasttoken.evaluation.baselines import fit_baselines
from lasttoken.runs.train import TrainingRequest, train_run
from lasttoken.training.accumulation import micro_batches
from lasttoken.training.features import TrunkPass
from lasttoken.training.loop import Trainer, TrainingInputs
from lasttoken.training.order import batches
from lasttoken.training.prepare import Prepared, prepare
from lasttoken.training.split_features import SplitFeatures


def seconds_of(work: Callable[[], object], n: int = 20, repeats: int = 5) -> float:
    """The median time of one call."""
    work()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(n):
            work()
        found.append((time.perf_counter() - started) / n)
    return statistics.median(found)


def trainer_of(arguments: argparse.Namespace, train_blocks: str) -> tuple[Trainer, Prepared, float]:
    """A trainer of the chapter's job with its features in memory, and the trunk's operations a second."""
    settings = resolve("book", {"read": "last", "train_blocks": train_blocks})
    splits, _ = book_splits(arguments.data)
    prepared = prepare(splits, load_backbone(str(arguments.backbone)), settings, CPU, lambda sentence: None)
    trunk = TrunkPass(prepared.classifier, CPU, cache=None, say=lambda sentence: None)
    started = time.perf_counter()
    features = {
        name: SplitFeatures(trunk.source(encoded, name), prepared.truth[name])
        for name, encoded in prepared.encoded.items()
    }
    trunk_s = time.perf_counter() - started
    width, frozen = prepared.classifier.decoder.config.n_embd, prepared.classifier.n_frozen or 0
    n_tokens = sum(encoded.n_tokens for encoded in prepared.encoded.values())
    return (
        Trainer(prepared.classifier, TrainingInputs(features, settings, CPU)),
        prepared,
        24 * width**2 * frozen * n_tokens / trunk_s,
    )


def kernels(arguments: argparse.Namespace) -> dict[str, Any]:
    """The tail's step and its floor; the trunk's rate and that of a plain product."""
    trainer, prepared, trunk_flops = trainer_of(arguments, "1")
    rows = micro_batches(batches(list(range(len(prepared.truth["train"]))), 8, drop_last=True), 1)
    for some in rows[:10]:
        trainer._step(some)
    times = []
    for some in rows[10:110]:
        started = time.perf_counter()
        trainer._step(some)
        times.append(time.perf_counter() - started)
    width = prepared.classifier.decoder.config.n_embd
    n_tokens = round(float(prepared.encoded["train"].lengths.mean()) * 8)
    n_parameters = sum(parameter.numel() for parameter in trainer.parameters.values())
    x, w = torch.randn(512, width), torch.randn(4 * width, width)
    plain = seconds_of(lambda: x @ w.t())
    best = min(plain, seconds_of(lambda: product(x, w)))
    products_s = floor_of_products(width, prepared.classifier.decoder.config.n_head, n_tokens)
    one, two, out = (torch.randn(n_parameters) for _ in range(3))
    bytes_per_s = 12 * n_parameters / seconds_of(lambda: torch.add(one, two, out=out))
    traffic_s = 10 * 4 * n_parameters / bytes_per_s
    flops = 2 * 512 * 4 * width * width
    return {
        "step_s": statistics.median(times),
        "products_s": products_s,
        "traffic_s": traffic_s,
        "bytes_per_s": bytes_per_s,
        "floor_s": products_s + traffic_s,
        "trunk_flops": trunk_flops,
        "plain_flops": flops / plain,
        "best_flops": flops / best,
    }


def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x · wᵀ by oneDNN where it is there."""
    if not has_onednn():
        return F.linear(x, w)
    return torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")  # type: ignore[no-any-return]


def floor_of_products(width: int, n_head: int, n_tokens: int) -> float:
    """Seconds of the products of a step that reads 8 texts at one token: forward, and backward for both factors."""
    total = 0.0
    for out, into in (
        (width, width),
        (width, width),
        (width, width),
        (width, width),
        (4 * width, width),
        (width, 4 * width),
    ):
        x, w, g = torch.randn(8, into), torch.randn(out, into), torch.randn(8, out)
        for a, b in ((x, w), (g, w.t()), (g.t(), x.t())):
            total += min(seconds_of(lambda a=a, b=b: product(a, b)), seconds_of(lambda a=a, b=b: a @ b.t()))  # type: ignore[misc]
    queries, keys = torch.randn(8, n_head, width), torch.randn(8, n_tokens // 8, width)
    weights = torch.randn(8, n_head, n_tokens // 8)
    forward = seconds_of(lambda: queries @ keys.transpose(1, 2)) + seconds_of(lambda: weights @ keys)
    return total + 3 * forward  # backward: one product for each factor of both


def whole_network(arguments: argparse.Namespace) -> dict[str, Any]:
    """Steps with every block trained, on the peer's batches in the peer's order."""
    trainer, prepared, _ = trainer_of(arguments, "all")
    n = len(prepared.truth["train"])
    order = torch.randperm(n, generator=torch.Generator().manual_seed(123)).tolist()
    rows = micro_batches(batches(order, 8, drop_last=True), 1)
    for some in rows[:3]:
        trainer._step(some)
    started = time.perf_counter()
    for step in range(3, 3 + arguments.steps):
        trainer._step(rows[step % len(rows)])
    return {"step_s": (time.perf_counter() - started) / arguments.steps}


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak resident memory of a whole run of the chapter's job up to its baselines, which the peer does not have."""
    peaks: list[int] = []

    def note(*given: Any) -> Any:
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return fit_baselines(*given)

    settings = resolve("book", {"read": "last", "backbone": str(arguments.backbone), "device": "cpu"})
    with tempfile.TemporaryDirectory(prefix="lasttoken-bench-") as folder:
        os.environ["LASTTOKEN_CACHE"] = folder
        with mock.patch("lasttoken.runs.train.fit_baselines", note):
            train_run(TrainingRequest(data=arguments.data, settings=settings, out=Path(folder) / "run"))
    return {"peak_bytes": peaks[0]}


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """Texts scored by a run's classifier."""
    texts = json.loads(arguments.texts.read_text("utf-8"))
    predictor = Predictor.load(arguments.run, device="cpu", precision=arguments.precision)
    predictor.predict(texts[:16])
    started = time.perf_counter()
    found = predictor.predict(texts)
    return {
        "texts_per_s": len(texts) / (time.perf_counter() - started),
        "labels": [prediction.label for prediction in found],
    }


def main() -> None:
    """One measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for name, work in (("kernels", kernels), ("all", whole_network), ("memory", memory)):
        one = verbs.add_parser(name)
        one.add_argument("--backbone", type=Path, required=True)
        one.add_argument("--data", type=Path, required=True)
        one.add_argument("--steps", type=int, default=50)
        one.set_defaults(work=work)
    two = verbs.add_parser("score")
    two.add_argument("--run", type=Path, required=True)
    two.add_argument("--texts", type=Path, required=True)
    two.add_argument("--precision", default="auto")
    two.set_defaults(work=score)
    arguments = parser.parse_args()
    tune_cpu()
    print(json.dumps(arguments.work(arguments)))


if __name__ == "__main__":
    main()
